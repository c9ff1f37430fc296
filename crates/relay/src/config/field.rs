//! The place of one setting: read from a value, shown as TOML, both by its type.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use envelope::OptionalColumn;

use super::allowed::Allowed;
use super::choice::Chosen;
use super::error::{Fault, quoted};
use super::kafka::Property;
use super::librdkafka;
use super::secret::{REDACTED, Secret};
use super::units::{parse_bytes, parse_duration, show_bytes, show_duration};
use super::value::Value;

/// Where secrets may be kept outside the configuration.
pub(super) struct Sources<'a> {
    pub env: &'a BTreeMap<String, String>,
    pub read_file: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// The place of one setting, borrowed from a draft.
pub(super) enum Field<'a> {
    /// Text that is always there.
    Text(&'a mut String),
    /// Text that may be left open.
    MaybeText(&'a mut Option<String>),
    /// A column that the table may lack: an empty text says that it is not used.
    MaybeColumn(&'a mut OptionalColumn),
    MaybePath(&'a mut Option<PathBuf>),
    MaybeSecret(&'a mut Option<Secret>),
    Flag(&'a mut bool),
    Whole(&'a mut dyn Whole),
    Bytes(&'a mut usize),
    Factor(&'a mut f64),
    Time(&'a mut Duration),
    /// A duration that may be left open.
    MaybeTime(&'a mut Option<Duration>),
    Address(&'a mut SocketAddr),
    Choice(&'a mut dyn Chosen),
    List(&'a mut Vec<String>),
    /// librdkafka properties by name.
    Properties(&'a mut BTreeMap<String, Property>),
    /// Column names by header name.
    HeaderColumns(&'a mut BTreeMap<String, String>),
}

/// A whole number of any width, which may be left open.
pub(super) trait Whole {
    /// False where `number` does not fit.
    fn set(&mut self, number: i128) -> bool;
    fn get(&self) -> Option<i128>;
}

macro_rules! whole {
    ($($width:ty),*) => {$(
        impl Whole for $width {
            fn set(&mut self, number: i128) -> bool {
                number.try_into().map(|number| *self = number).is_ok()
            }
            fn get(&self) -> Option<i128> {
                i128::try_from(*self).ok()
            }
        }
        impl Whole for Option<$width> {
            fn set(&mut self, number: i128) -> bool {
                number.try_into().map(|number| *self = Some(number)).is_ok()
            }
            fn get(&self) -> Option<i128> {
                self.and_then(|number| i128::try_from(number).ok())
            }
        }
    )*};
}
whole!(usize, u64, u32, i32);

impl Field<'_> {
    /// Whether entries are set one by one, with [`Field::set_entry`].
    pub fn is_map(&self) -> bool {
        matches!(self, Self::Properties(_) | Self::HeaderColumns(_))
    }

    /// Reads `value`, which must be within `allowed`.
    pub fn set(self, value: Value, allowed: &Allowed, sources: &Sources<'_>) -> Result<(), Fault> {
        match self {
            Self::Text(place) => *place = allowed.text(text(value)?)?,
            Self::MaybeText(place) => *place = Some(allowed.text(text(value)?)?),
            Self::MaybeColumn(place) => *place = optional_column(text(value)?, allowed)?,
            Self::MaybePath(place) => *place = Some(PathBuf::from(allowed.text(text(value)?)?)),
            Self::MaybeSecret(place) => *place = Some(secret(value, sources)?),
            Self::Flag(place) => *place = flag(value)?,
            Self::Whole(place) => {
                let number = allowed.number(whole_number(value)?)?;
                if !place.set(number) {
                    return Err(Fault::new(
                        format!("{number} is out of range"),
                        allowed.remedy(),
                    ));
                }
            }
            Self::Bytes(place) => *place = allowed.bytes(bytes(value)?)?,
            Self::Factor(place) => *place = allowed.factor(factor(value)?)?,
            Self::Time(place) => *place = allowed.time(time(value)?)?,
            Self::MaybeTime(place) => *place = Some(allowed.time(time(value)?)?),
            Self::Address(place) => *place = address(value)?,
            Self::Choice(place) => place.choose(&text(value)?)?,
            Self::List(place) => *place = list(value, allowed)?,
            Self::Properties(_) | Self::HeaderColumns(_) => {
                return Err(mismatch(&value, "a table"));
            }
        }
        Ok(())
    }

    /// Reads one entry of a map.
    pub fn set_entry(self, name: &str, value: Value, sources: &Sources<'_>) -> Result<(), Fault> {
        match self {
            Self::Properties(place) => {
                let property = property(name, value, sources)?;
                librdkafka::check(name, property.expose())?;
                place.insert(name.into(), property);
                Ok(())
            }
            Self::HeaderColumns(place) => {
                let column = Allowed::NonEmpty.text(text(value)?)?;
                place.insert(name.into(), column);
                Ok(())
            }
            single => single.set(value, &Allowed::Anything, sources),
        }
    }

    /// The setting as a TOML value, secrets redacted; `None` where it is left open.
    pub fn show(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(toml_string(text)),
            Self::MaybeText(text) => text.as_deref().map(toml_string),
            Self::MaybeColumn(column) => show_column(column),
            Self::MaybePath(path) => path
                .as_ref()
                .map(|path| toml_string(&path.to_string_lossy())),
            Self::MaybeSecret(secret) => secret.as_ref().map(|_| toml_string(REDACTED)),
            Self::Flag(flag) => Some(flag.to_string()),
            Self::Whole(number) => number.get().map(|number| number.to_string()),
            Self::Bytes(bytes) => Some(toml_string(&show_bytes(**bytes as u64))),
            Self::Factor(factor) => Some(format!("{factor:?}")),
            Self::Time(duration) => Some(toml_string(&show_duration(**duration))),
            Self::MaybeTime(duration) => {
                duration.map(|duration| toml_string(&show_duration(duration)))
            }
            Self::Address(address) => Some(toml_string(&address.to_string())),
            Self::Choice(choice) => choice.name().map(toml_string),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(|item| toml_string(item)).collect();
                Some(format!("[{}]", items.join(", ")))
            }
            Self::Properties(_) | Self::HeaderColumns(_) => None,
        }
    }

    /// The entries of a map as TOML keys and values, secrets redacted.
    pub fn show_entries(&self) -> Vec<(String, String)> {
        match self {
            Self::Properties(properties) => properties
                .iter()
                .map(|(name, property)| (toml_string(name), show_property(property)))
                .collect(),
            Self::HeaderColumns(columns) => columns
                .iter()
                .map(|(header, column)| (toml_string(header), toml_string(column)))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// What the reference calls the type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::MaybeText(_) | Self::MaybeColumn(_) => "string",
            Self::MaybePath(_) => "path",
            Self::MaybeSecret(_) => "secret",
            Self::Flag(_) => "boolean",
            Self::Whole(_) => "integer",
            Self::Bytes(_) => "size",
            Self::Factor(_) => "number",
            Self::Time(_) | Self::MaybeTime(_) => "duration",
            Self::Address(_) => "address and port",
            Self::Choice(_) => "choice",
            Self::List(_) => "list of strings",
            Self::Properties(_) | Self::HeaderColumns(_) => "table",
        }
    }

    /// The names of a choice, for the reference.
    pub fn names(&self) -> Vec<&'static str> {
        match self {
            Self::Choice(choice) => choice.names(),
            _ => Vec::new(),
        }
    }
}

/// `text` as a TOML string.
pub(super) fn toml_string(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn show_property(property: &Property) -> String {
    match property {
        Property::Plain(text) => toml_string(text),
        Property::Secret(_) => toml_string(REDACTED),
    }
}

fn show_column(column: &OptionalColumn) -> Option<String> {
    match column {
        OptionalColumn::Unmapped => Some(toml_string("")),
        OptionalColumn::IfPresent(_) => None,
        OptionalColumn::Mapped(name) => Some(toml_string(name)),
    }
}

fn optional_column(name: String, allowed: &Allowed) -> Result<OptionalColumn, Fault> {
    if name.is_empty() {
        return Ok(OptionalColumn::Unmapped);
    }
    allowed.text(name).map(OptionalColumn::Mapped)
}

fn mismatch(value: &Value, expected: &str) -> Fault {
    Fault::new(
        format!("expected {expected}, found {}", value.kind()),
        format!("write {expected}"),
    )
}

fn text(value: Value) -> Result<String, Fault> {
    match value {
        Value::Untyped(text) | Value::Text(text) => Ok(text),
        other => Err(mismatch(&other, "a string in quotes")),
    }
}

fn flag(value: Value) -> Result<bool, Fault> {
    let word = match &value {
        Value::Flag(flag) => return Ok(*flag),
        Value::Untyped(text) => text.trim(),
        _ => return Err(mismatch(&value, "true or false without quotes")),
    };
    match word {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(Fault::new(
            format!("{} is neither true nor false", quoted(other)),
            "write true or false",
        )),
    }
}

fn whole_number(value: Value) -> Result<i128, Fault> {
    let expected = "a whole number";
    match &value {
        Value::Whole(number) => {
            number.ok_or_else(|| Fault::new("the integer is too large", "write a smaller one"))
        }
        Value::Untyped(text) => text.trim().parse().map_err(|_| {
            Fault::new(
                format!("{} is not {expected}", quoted(text)),
                format!("write {expected}"),
            )
        }),
        _ => Err(mismatch(&value, "a whole number without quotes")),
    }
}

fn bytes(value: Value) -> Result<u64, Fault> {
    match &value {
        Value::Text(text) | Value::Untyped(text) => parse_bytes(text),
        Value::Whole(Some(number)) => u64::try_from(*number)
            .map_err(|_| Fault::new(format!("{number} is not a size"), "write 0 or more bytes")),
        _ => Err(mismatch(
            &value,
            "a size such as \"4MiB\" or a number of bytes",
        )),
    }
}

fn factor(value: Value) -> Result<f64, Fault> {
    match &value {
        Value::Factor(factor) => Ok(*factor),
        // Exact for every factor that is allowed.
        Value::Whole(Some(number)) => Ok(*number as f64),
        Value::Untyped(text) => text.trim().parse().map_err(|_| {
            Fault::new(
                format!("{} is not a number", quoted(text)),
                "write a number such as 2.0",
            )
        }),
        _ => Err(mismatch(&value, "a number without quotes")),
    }
}

fn time(value: Value) -> Result<Duration, Fault> {
    match &value {
        Value::Text(text) | Value::Untyped(text) => parse_duration(text),
        Value::Whole(Some(number)) => Err(Fault::new(
            format!("{number} has no unit"),
            format!("write \"{number}ms\" or \"{number}s\", in quotes"),
        )),
        _ => Err(mismatch(&value, "a duration such as \"20ms\"")),
    }
}

fn address(value: Value) -> Result<SocketAddr, Fault> {
    let text = text(value)?;
    text.trim().parse().map_err(|_| {
        Fault::new(
            format!("{} is not an address with a port", quoted(&text)),
            "write one such as \"127.0.0.1:8080\", or \"0.0.0.0:8080\" for every interface",
        )
    })
}

fn list(value: Value, allowed: &Allowed) -> Result<Vec<String>, Fault> {
    let items = match value {
        Value::Untyped(text) => text
            .split(',')
            .map(|item| Value::Text(item.trim().into()))
            .collect(),
        Value::List(items) => items,
        other => return Err(mismatch(&other, "a list of strings such as [\"a\", \"b\"]")),
    };
    items
        .into_iter()
        .map(|item| allowed.text(text(item)?))
        .collect()
}

fn secret(value: Value, sources: &Sources<'_>) -> Result<Secret, Fault> {
    let secret = match value {
        Value::Untyped(text) | Value::Text(text) => Secret::new(text),
        Value::Map(entries) => referenced(&entries, sources)?,
        other => return Err(mismatch(&other, SECRET_FORM)),
    };
    if secret.expose() == REDACTED {
        return Err(Fault::new(
            format!("{REDACTED} stands for a secret that was not shown"),
            "put the secret back, or a reference to it",
        ));
    }
    Ok(secret)
}

const SECRET_FORM: &str = "a string, { env = \"NAME\" } or { file = \"/path\" }";

fn referenced(entries: &[(String, Value)], sources: &Sources<'_>) -> Result<Secret, Fault> {
    match entries {
        [(kind, Value::Text(name))] if kind == "env" => {
            sources.env.get(name).map(Secret::new).ok_or_else(|| {
                Fault::new(
                    format!("the environment variable {name} is not set"),
                    "set it, or name another",
                )
            })
        }
        [(kind, Value::Text(path))] if kind == "file" => secret_file(Path::new(path), sources),
        _ => Err(Fault::new(
            "the table is not a reference to a secret",
            format!("write {SECRET_FORM}"),
        )),
    }
}

/// The secret that a file holds.
pub(super) fn secret_file(path: &Path, sources: &Sources<'_>) -> Result<Secret, Fault> {
    let text = (sources.read_file)(path).map_err(|error| {
        Fault::new(
            format!("cannot read {}: {error}", path.display()),
            "check that the file exists and that the relay's user may read it",
        )
    })?;
    Ok(Secret::of_file(&text, path))
}

fn property(name: &str, value: Value, sources: &Sources<'_>) -> Result<Property, Fault> {
    let plain = match value {
        Value::Text(text) | Value::Untyped(text) => text,
        Value::Whole(Some(number)) => number.to_string(),
        Value::Factor(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        reference @ Value::Map(_) => return secret(reference, sources).map(Property::Secret),
        other => return Err(mismatch(&other, SECRET_FORM)),
    };
    if librdkafka::is_secret(name, &plain) {
        secret(Value::Text(plain), sources).map(Property::Secret)
    } else {
        Ok(Property::Plain(plain))
    }
}

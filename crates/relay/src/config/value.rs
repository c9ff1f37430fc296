//! A value as a source gives it, before a key says what it should be.

use toml::de::{DeFloat, DeInteger, DeValue};

/// A value of the file, or the text of an environment variable or flag.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// From a variable or flag: the key decides how to read it.
    Untyped(String),
    /// A string of the file.
    Text(String),
    /// An integer; `None` where it does not fit.
    Whole(Option<i128>),
    /// A number with a fraction.
    Factor(f64),
    /// `true` or `false`.
    Flag(bool),
    /// An array.
    List(Vec<Value>),
    /// A table.
    Map(Vec<(String, Value)>),
    /// A date or time, which no key takes.
    Date,
}

impl Value {
    /// How a message calls it. Texts are not shown: they may be secrets.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Untyped(_) | Self::Text(_) => "a string",
            Self::Whole(_) => "an integer",
            Self::Factor(_) => "a number with a fraction",
            Self::Flag(_) => "true or false",
            Self::List(_) => "a list",
            Self::Map(_) => "a table",
            Self::Date => "a date",
        }
    }
}

impl From<&DeValue<'_>> for Value {
    fn from(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(number) => Self::Whole(whole(number)),
            DeValue::Float(number) => factor(number),
            DeValue::Boolean(flag) => Self::Flag(*flag),
            DeValue::Datetime(_) => Self::Date,
            DeValue::Array(items) => Self::List(
                items
                    .iter()
                    .map(|item| Self::from(item.get_ref()))
                    .collect(),
            ),
            DeValue::Table(entries) => Self::Map(
                entries
                    .iter()
                    .map(|(key, value)| (key.get_ref().to_string(), Self::from(value.get_ref())))
                    .collect(),
            ),
        }
    }
}

fn whole(number: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

fn factor(number: &DeFloat<'_>) -> Value {
    Value::Factor(number.as_str().parse().unwrap_or(f64::NAN))
}

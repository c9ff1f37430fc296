//! The headers that a row brings along: a flat JSON object.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer as _,
    de::{self, DeserializeSeed, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    batch::{Data, RecordBuilder},
    error::MapReason,
    record::RESERVED_HEADERS,
};

/// Appends the members of the object `json` as headers; reserved names are left out.
///
/// A string becomes its text and null a null value; everything else stays JSON as it stands there.
pub(crate) fn append(json: &str, record: &mut RecordBuilder<'_>) -> Result<(), MapReason> {
    if matches!(json, "{}" | "null") {
        return Ok(());
    }
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let members = deserializer.deserialize_map(Members(record));
    // The parser's messages quote what they found, so they are not passed on.
    members
        .and_then(|()| deserializer.end())
        .map_err(|_| MapReason::BadHeaders)
}

struct Members<'r, 'b>(&'r mut RecordBuilder<'b>);

impl<'de> Visitor<'de> for Members<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<(), M::Error> {
        while let Some(name) = members.next_key_seed(Name)? {
            let value: &'de RawValue = members.next_value()?;
            if RESERVED_HEADERS.contains(&&*name) {
                continue;
            }
            let name = self.0.text(&name);
            let value = append_value(value.get(), self.0).map_err(de::Error::custom)?;
            self.0.header(name, value);
        }
        Ok(())
    }
}

fn append_value(
    json: &str,
    record: &mut RecordBuilder<'_>,
) -> Result<Option<Data>, serde_json::Error> {
    if json == "null" {
        return Ok(None);
    }
    let text = match json
        .strip_prefix('"')
        .and_then(|json| json.strip_suffix('"'))
    {
        None => record.text(json),
        Some(plain) if !plain.contains('\\') => record.text(plain),
        Some(_) => record.text(&serde_json::from_str::<String>(json)?),
    };
    Ok(Some(Data::Text(text)))
}

/// A member's name, copied only if it holds escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: de::Deserializer<'de>>(self, name: D) -> Result<Cow<'de, str>, D::Error> {
        name.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

//! A record compared with its row.

use std::fmt;

use envelope::{
    CONTENT_TYPE_HEADER, EVENT_ID_HEADER, Format, POSITION_HEADER, RESERVED_HEADERS, Record,
    TYPE_HEADER, TableSpec,
};
use pgoutput::oid;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::case::Case;
use super::expected::{Content, Row};

/// Checks that `record` says what the row of `case` says.
pub(super) fn check(case: &Case<'_>, spec: &TableSpec, record: &Record<'_>) {
    let row = Row::new(case, spec);
    check_names(&row, spec, record);
    check_key(&row, spec, record);
    match spec.format {
        Format::Envelope => check_envelope(&row, record),
        Format::Payload => is(record.value, &row.payload(), "payload"),
    }
    check_headers(&row, spec, record);
    let origin = case.origin();
    assert_eq!(record.position, origin.position);
    assert_eq!(record.commit_time, origin.commit_time);
    assert_eq!(
        case.policy().check(record.topic),
        Ok(()),
        "{}",
        record.topic
    );
}

/// `found` is `expected`, as far as that is known.
fn is(found: Option<&[u8]>, expected: &Content, what: &str) {
    match expected {
        Content::Null => assert_eq!(found, None, "{what}"),
        Content::Bytes(bytes) => assert_eq!(found, Some(&**bytes), "{what}"),
        Content::Unknown => assert!(found.is_some(), "{what}"),
    }
}

fn check_names(row: &Row<'_>, spec: &TableSpec, record: &Record<'_>) {
    let columns = &spec.columns;
    let (id, event_type) = (record.event_id.as_bytes(), record.event_type.as_bytes());
    assert!(!id.is_empty() && !event_type.is_empty());
    is(Some(id), &row.content(&columns.id), "id");
    is(Some(event_type), &row.content(&columns.event_type), "type");
    let transfer_id = record.transfer_id.map(str::as_bytes);
    is(transfer_id, &row.optional(&columns.transfer_id), "transfer");
}

fn check_key(row: &Row<'_>, spec: &TableSpec, record: &Record<'_>) {
    match &spec.key {
        Some(column) => is(record.key, &row.content(column), "key"),
        None => {
            let key = record.transfer_id.unwrap_or(record.event_id);
            assert_eq!(record.key, Some(key.as_bytes()));
        }
    }
}

/// Five members in their order, the payload as it was.
fn check_envelope(row: &Row<'_>, record: &Record<'_>) {
    let value = record.value.expect("an envelope");
    let payload = match row.payload() {
        Content::Null => b"null".to_vec(),
        Content::Bytes(bytes) => bytes,
        Content::Unknown => panic!("a payload is text"),
    };
    let payload = String::from_utf8(payload).expect("the payload was published in JSON text");
    if !is_json(&payload) {
        // The server vouches for json and jsonb, so they are not parsed again.
        let of_type = row.type_of("payload");
        assert!(matches!(of_type, oid::JSON | oid::JSONB), "{payload:?}");
        return assert!(value.ends_with(format!("\"payload\":{payload}}}").as_bytes()));
    }
    let value = str::from_utf8(value).expect("an envelope is text");
    let members = members(value).unwrap_or_else(|| panic!("{value} is no JSON object"));
    let names: Vec<_> = members.iter().map(|(name, _)| &**name).collect();
    let expected = ["eventId", "type", "occurredAt", "transferId", "payload"];
    assert_eq!(names, expected);
    assert_eq!(string(members[0].1).as_deref(), Some(record.event_id));
    assert_eq!(string(members[1].1).as_deref(), Some(record.event_type));
    assert!(string(members[2].1).is_some_and(|time| time.len() == 27 && time.ends_with('Z')));
    assert_eq!(string(members[3].1).as_deref(), record.transfer_id);
    // Not a byte of it may differ; white space around it belongs to nobody.
    assert_eq!(members[4].1.get(), payload.trim_matches(JSON_SPACE));
    assert!(value.ends_with(&format!("\"payload\":{payload}}}")));
}

/// Reserved headers first, then the columns', then the row's own.
fn check_headers(row: &Row<'_>, spec: &TableSpec, record: &Record<'_>) {
    let position = record.position.to_string();
    let is_binary = row.type_of(&spec.columns.payload) == oid::BYTEA;
    let content_type = if is_binary {
        "application/octet-stream"
    } else {
        "application/json"
    };
    let mut found = record.headers();
    for (name, value) in [
        (EVENT_ID_HEADER, record.event_id),
        (TYPE_HEADER, record.event_type),
        (CONTENT_TYPE_HEADER, content_type),
        (POSITION_HEADER, &position),
    ] {
        assert_eq!(found.next(), Some((name, Some(value.as_bytes()))));
    }
    for header in &spec.headers {
        let (name, value) = found.next().expect("a header of a column");
        assert_eq!(name, header.header);
        is(value, &row.content(&header.column), name);
    }
    let own = own_headers(&row.optional(&spec.columns.headers));
    for (name, expected) in own {
        let (found_name, value) = found.next().expect("a header of the row");
        assert_eq!(found_name, name);
        is(value, &expected, &name);
    }
    assert_eq!(found.next(), None, "a header too many");
}

fn own_headers(content: &Content) -> Vec<(String, Content)> {
    let Content::Bytes(bytes) = content else {
        return Vec::new();
    };
    let text = str::from_utf8(bytes).expect("headers were published from text");
    if text == "null" {
        return Vec::new();
    }
    let members = members(text).unwrap_or_else(|| panic!("{text} became headers"));
    let members = members.into_iter();
    let free = members.filter(|(name, _)| !RESERVED_HEADERS.contains(&&**name));
    free.map(|(name, value)| (name, header_value(value)))
        .collect()
}

fn header_value(json: &RawValue) -> Content {
    match (json.get(), string(json)) {
        ("null", _) => Content::Null,
        (_, Some(text)) => Content::Bytes(text.into()),
        (json, None) => Content::Bytes(json.into()),
    }
}

const JSON_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

fn string(json: &RawValue) -> Option<String> {
    serde_json::from_str(json.get()).ok()
}

/// Members of an object, in order, as they stand; `None` if it is no object.
fn members(json: &str) -> Option<Vec<(String, &RawValue)>> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let members = deserializer.deserialize_map(Members).ok()?;
    deserializer.end().is_ok().then_some(members)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

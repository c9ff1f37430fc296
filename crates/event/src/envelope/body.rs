//! The value of a record as an envelope.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{EVENT_ID_HEADER, Envelope, Headers, Payload, ReadError, Record, TYPE_HEADER};

/// The five members. Others are passed over, so that a later relay may add some.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    occurred_at: Cow<'a, str>,
    #[serde(borrow)]
    transfer_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

pub(super) fn read(record: Record) -> Result<Envelope, ReadError> {
    let value = record.value.ok_or(ReadError::NoValue)?;
    let body: Body<'_> = serde_json::from_slice(&value).map_err(ReadError::NotAnEnvelope)?;
    required("eventId", &body.event_id)?;
    required("type", &body.event_type)?;
    agrees(&record.headers, EVENT_ID_HEADER, &body.event_id)?;
    agrees(&record.headers, TYPE_HEADER, &body.event_type)?;
    Ok(Envelope {
        occurred_at: instant(&body.occurred_at)?,
        payload: payload(&value, body.payload),
        event_id: body.event_id.into_owned(),
        event_type: body.event_type.into_owned(),
        transfer_id: body.transfer_id.map(Cow::into_owned),
        headers: record.headers,
    })
}

/// The payload shares the value's memory.
fn payload(value: &Bytes, raw: &RawValue) -> Payload {
    Payload::Json(value.slice_ref(raw.get().as_bytes()))
}

fn required(name: &'static str, text: &str) -> Result<(), ReadError> {
    if text.is_empty() {
        return Err(ReadError::Empty(name));
    }
    Ok(())
}

/// A record without the header says nothing else.
fn agrees(headers: &Headers, header: &'static str, is: &str) -> Result<(), ReadError> {
    match headers.get(header) {
        Some(said) if &said[..] != is.as_bytes() => Err(ReadError::Contradiction {
            header,
            said: String::from_utf8_lossy(said).into_owned(),
            is: is.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn instant(text: &str) -> Result<SystemTime, ReadError> {
    let instant: Result<jiff::Timestamp, _> = text.parse();
    let instant = instant.map_err(|_| ReadError::OccurredAt(text.to_owned()))?;
    Ok(instant.into())
}

pub(super) fn instant_of_record(timestamp_ms: Option<i64>) -> Result<SystemTime, ReadError> {
    let ms = timestamp_ms.ok_or(ReadError::NoTimestamp)?;
    let distance = Duration::from_millis(ms.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let instant = match ms >= 0 {
        true => epoch.checked_add(distance),
        false => epoch.checked_sub(distance),
    };
    instant.ok_or(ReadError::NoTimestamp)
}

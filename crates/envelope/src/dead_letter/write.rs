//! An event becomes a dead letter.

use sha2::{Digest, Sha256};

use super::known::{hex, key_digest, known_by};
use super::{
    ATTEMPTS, CLASS, COMMIT_LSN, FIRST_FAILURE, HEADERS, KEY_SHA256, LAST_FAILURE, ORIGIN,
    POSITION, REASON, REQUEST, ROW_ID, SERVICE, STUB, TABLE, TOPIC,
};
use crate::{
    batch::{Data, RecordBatch, RecordFields},
    record::{EVENT_ID_HEADER, Fate, RESERVED_HEADERS, Record, TYPE_HEADER},
};

/// Why an event is dead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// The dead-letter topic.
    pub to: &'a str,
    /// See [`REASON`].
    pub reason: &'a str,
    /// See [`CLASS`].
    pub class: &'a str,
    /// See [`ATTEMPTS`].
    pub attempts: u32,
    /// See [`SERVICE`].
    pub service: &'a str,
    /// See [`TABLE`].
    pub table: &'a str,
    /// See [`FIRST_FAILURE`]; RFC 3339.
    pub first_failure: &'a str,
    /// See [`LAST_FAILURE`]; RFC 3339.
    pub last_failure: &'a str,
    /// See [`REQUEST`].
    pub request: Option<&'a str>,
    /// See [`ORIGIN`].
    pub origin: Option<&'a str>,
}

impl RecordBatch {
    /// Adds the dead letter of `record`: key, value and headers are the same, unless that makes
    /// more than `max_bytes`. Then the value only describes the event, and what is long of its key, id and
    /// type is told by a digest.
    pub fn push_dead_letter(
        &mut self,
        record: &Record<'_>,
        dead: &DeadLetter<'_>,
        max_bytes: usize,
    ) {
        if !self.try_push(record, dead, Form::Whole, max_bytes) {
            let stub = stub(record, dead);
            let (id, event_type) = (known_by(record.event_id), known_by(record.event_type));
            // By these it is known again; the others may be what is large.
            let kept = record
                .headers()
                .filter(|(name, _)| RESERVED_HEADERS.contains(name));
            let kept = kept.map(|(name, value)| match name {
                EVENT_ID_HEADER => (name, Some(id.as_bytes())),
                TYPE_HEADER => (name, Some(event_type.as_bytes())),
                _ => (name, value),
            });
            let kept: Vec<_> = kept.collect();
            let digest = record.key.and_then(key_digest).map(|digest| hex(&digest));
            let described = Record {
                key: digest.as_deref().map(str::as_bytes).or(record.key),
                value: Some(stub.as_bytes()),
                headers: crate::Headers::from(&kept[..]),
                ..record.clone()
            };
            let form = Form::Stub {
                row_id: &id,
                key: digest.as_deref(),
            };
            // Nothing that is left can be large.
            self.try_push(&described, dead, form, usize::MAX);
        }
    }

    /// Adds it unless it takes more than `max_bytes`.
    fn try_push(
        &mut self,
        record: &Record<'_>,
        dead: &DeadLetter<'_>,
        form: Form<'_>,
        max_bytes: usize,
    ) -> bool {
        let before = self.len();
        let mut copy = self.begin();
        let topic = copy.text(dead.to);
        let key = record.key.map(|key| copy.binary(key));
        let value = record.value.map(|value| copy.binary(value));
        let (event_id, event_type) = (copy.text(record.event_id), copy.text(record.event_type));
        let transfer_id = record.transfer_id.map(|id| copy.text(id));
        let mut own = 0_usize;
        for (name, value) in record.headers() {
            let name = copy.text(name);
            let value = value.map(|value| copy.binary(value));
            copy.header(name, value);
            own += 1;
        }
        let attempts = dead.attempts.to_string();
        let position = record.position.to_string();
        let commit_lsn = record.position.commit_lsn.to_string();
        let own = own.to_string();
        let known = |text| (!str::is_empty(text)).then_some(text);
        let (row_id, stub, key_sha256) = match form {
            Form::Whole => (record.event_id, None, None),
            Form::Stub { row_id, key } => (row_id, Some("true"), key),
        };
        let ours = [
            (REASON, Some(dead.reason)),
            (CLASS, Some(dead.class)),
            (ATTEMPTS, Some(attempts.as_str())),
            (SERVICE, Some(dead.service)),
            (TABLE, Some(dead.table)),
            (ROW_ID, known(row_id)),
            (COMMIT_LSN, Some(commit_lsn.as_str())),
            (POSITION, Some(position.as_str())),
            (TOPIC, known(record.topic)),
            (FIRST_FAILURE, Some(dead.first_failure)),
            (LAST_FAILURE, Some(dead.last_failure)),
            (STUB, stub),
            (KEY_SHA256, key_sha256),
            (REQUEST, dead.request),
            (ORIGIN, dead.origin),
            (HEADERS, Some(own.as_str())),
        ];
        for (name, value) in ours {
            if let Some(value) = value {
                let value = copy.text(value);
                copy.static_header(name, Data::Text(value));
            }
        }
        copy.finish(RecordFields {
            topic,
            key,
            value,
            timestamp_ms: record.timestamp_ms,
            event_id,
            event_type,
            transfer_id,
            seq: record.seq,
            table: record.table,
            position: record.position,
            commit_time: record.commit_time,
            xid: record.xid,
            fate: Fate::Dead {
                attempts: dead.attempts,
            },
        });
        let fits = self.last_record_bytes() <= max_bytes;
        if !fits {
            self.truncate(before);
        }
        fits
    }
}

/// How much of the event a dead letter holds.
#[derive(Clone, Copy)]
enum Form<'a> {
    Whole,
    /// The value describes it.
    Stub {
        row_id: &'a str,
        /// What its long key is known by.
        key: Option<&'a str>,
    },
}

/// What stands for an event that is too large even for the dead-letter topic.
fn stub(record: &Record<'_>, dead: &DeadLetter<'_>) -> String {
    let value = record.value.unwrap_or_default();
    serde_json::json!({
        "size": record.bytes(),
        "sha256": hex(&Sha256::digest(value)),
        "table": dead.table,
        "rowId": known_by(record.event_id),
        "position": record.position.to_string(),
    })
    .to_string()
}

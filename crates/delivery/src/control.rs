//! What operators ask for by inserting a row into `outboxd.control`.
//!
//! The row arrives in the stream, in commit order, and is covered by the same checkpoint as events
//! are: so a request is carried out once, at one place among the events.

use envelope::dead_letter::Entry;
use envelope::{
    ColumnMap, CompileError, Fate, Format, OptionalColumn, Origin, RecordBatch, RowMapper, TableId,
    TableSpec, TopicPolicy, TopicTemplate,
};
use pgoutput::{Relation, Tuple};
use serde::{Deserialize, Serialize};

use crate::RecordKey;

/// Schema of the control table.
pub const CONTROL_SCHEMA: &str = "outboxd";
/// The control table.
pub const CONTROL_TABLE: &str = "control";

/// A row of the control table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its id.
    pub id: String,
    /// The slot of the relay that it is meant for.
    pub slot: String,
    /// Who made it.
    pub requested_by: String,
    /// What is to be done; or why that can't be understood.
    pub command: Result<Command, String>,
}

impl Request {
    /// Whether the relay of that slot is meant. What can't be read is told by every relay.
    pub fn is_for(&self, slot: &str) -> bool {
        self.slot == slot || self.id.is_empty()
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Publish the rows of the request's feed again.
    Replay {
        /// How many the list has.
        rows: u64,
        /// By what they were chosen: for the record only.
        #[serde(default)]
        filter: serde_json::Value,
    },
    /// Publish dead letters.
    DlqReplay {
        /// Which.
        filter: Filter,
    },
    /// Publish the parked events of a key, then let it go on.
    DlqRelease {
        /// The service.
        service: String,
        /// The record key.
        key: RecordKey,
    },
    /// Resolve dead letters without publishing them.
    DlqDrop {
        /// Which.
        filter: Filter,
    },
}

/// Which dead letters. What is not given does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Of this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Of this event type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Of this class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Of this record key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<RecordKey>,
    /// Dead-lettered at or after this time (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Dead-lettered before this time (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// These: topic, partition and offset as `topic/partition:offset`, or event ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
}

impl Filter {
    /// Whether the entry at `place` (`topic/partition:offset`) with this record key is meant.
    pub fn matches(&self, entry: &Entry<'_>, key: Option<&[u8]>, place: &str) -> bool {
        let is =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|w| w == found);
        // RFC 3339 in UTC with the same precision sorts as text; cut to what is given.
        let at = entry.last_failure;
        is(&self.service, entry.service)
            && is(&self.event_type, entry.header(envelope::TYPE_HEADER))
            && is(&self.class, entry.class)
            && (self.key.is_none() || self.key == RecordKey::of_letter(entry, key))
            && self.since.as_deref().is_none_or(|since| at >= since)
            && self.until.as_deref().is_none_or(|until| at < until)
            && (self.ids.is_empty() || self.ids.iter().any(|id| id == place || id == entry.row_id))
    }
}

/// Reads rows of the control table, in whatever form the stream has them.
#[derive(Debug)]
pub(crate) struct ControlRows {
    mapper: RowMapper,
    scratch: RecordBatch,
}

impl ControlRows {
    /// Fails if the relation is not the table that `init` makes.
    pub fn compile(relation: &Relation) -> Result<Self, CompileError> {
        let spec = TableSpec {
            schema: CONTROL_SCHEMA.into(),
            table: CONTROL_TABLE.into(),
            service: CONTROL_TABLE.into(),
            columns: ColumnMap {
                id: "request_id".into(),
                event_type: "requested_by".into(),
                transfer_id: OptionalColumn::Mapped("slot".into()),
                payload: "command".into(),
                headers: OptionalColumn::Unmapped,
                occurred_at: OptionalColumn::Unmapped,
                seq: OptionalColumn::Unmapped,
            },
            topic: CONTROL_TABLE.parse::<TopicTemplate>().unwrap_or_default(),
            key: None,
            format: Format::Payload,
            headers: Vec::new(),
        };
        // Nothing is routed: the command alone counts.
        let policy = TopicPolicy {
            allow: "*".parse().into_iter().collect(),
            ..TopicPolicy::default()
        };
        let mapper = RowMapper::compile(&spec, TableId(u16::MAX), &policy, relation)?;
        Ok(Self {
            mapper,
            scratch: RecordBatch::new(),
        })
    }

    /// What a row asks for.
    pub fn read(&mut self, tuple: Tuple<'_>, origin: Origin) -> Request {
        self.scratch.clear();
        let unreadable = |reason: String| Request {
            id: String::new(),
            slot: String::new(),
            requested_by: String::new(),
            command: Err(reason),
        };
        if let Err(e) = self.mapper.map(tuple, origin, &mut self.scratch) {
            return unreadable(e.to_string());
        }
        let Some(record) = self.scratch.get(0) else {
            return unreadable("the row is empty".into());
        };
        debug_assert_eq!(record.fate, Fate::Sent);
        let command = serde_json::from_slice(record.value.unwrap_or_default());
        Request {
            id: record.event_id.to_owned(),
            slot: record.transfer_id.unwrap_or_default().to_owned(),
            requested_by: record.event_type.to_owned(),
            command: command.map_err(|e| e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn commands_are_plain_json() {
        let release = Command::DlqRelease {
            service: "bank".into(),
            key: "k".into(),
        };
        let text = serde_json::to_string(&release).unwrap();
        assert_eq!(
            text,
            r#"{"command":"dlq-release","service":"bank","key":"k"}"#
        );
        assert_eq!(serde_json::from_str::<Command>(&text).unwrap(), release);
        let bytes = Command::DlqRelease {
            service: "bank".into(),
            key: b"\xff\x00".into(),
        };
        let text = serde_json::to_string(&bytes).unwrap();
        assert_eq!(
            text,
            r#"{"command":"dlq-release","service":"bank","key":{"hex":"ff00"}}"#
        );
        assert_eq!(serde_json::from_str::<Command>(&text).unwrap(), bytes);
        let replay: Command =
            serde_json::from_str(r#"{"command":"dlq-replay","filter":{"type":"t"}}"#).unwrap();
        assert!(
            matches!(replay, Command::DlqReplay { filter } if filter.event_type.as_deref() == Some("t"))
        );
        assert!(serde_json::from_str::<Command>(r#"{"command":"dlq-explode"}"#).is_err());
        assert!(
            serde_json::from_str::<Command>(r#"{"command":"dlq-drop","filter":{"servise":"x"}}"#)
                .is_err(),
            "a filter that is not understood must not mean everything"
        );
    }

    #[test]
    fn a_filter_takes_what_it_names() {
        let headers: [(&str, Option<&[u8]>); 1] = [("type", Some(b"t"))];
        let entry = Entry {
            service: "bank",
            class: "too-large",
            row_id: "e1",
            last_failure: "2026-11-23T10:00:00.000000Z",
            headers: headers.to_vec(),
            ..Entry::default()
        };
        let takes = |filter: Filter| filter.matches(&entry, Some(b"k"), "d/0:7");
        let some = |text: &str| Some(text.to_owned());
        assert!(takes(Filter::default()));
        assert!(takes(Filter {
            service: some("bank"),
            event_type: some("t"),
            class: some("too-large"),
            key: Some("k".into()),
            ..Filter::default()
        }));
        assert!(!takes(Filter {
            key: Some("other".into()),
            ..Filter::default()
        }));
        let is_taken = |key: &[u8]| {
            let filter = Filter {
                key: Some(b"\xff".into()),
                ..Filter::default()
            };
            filter.matches(&entry, Some(key), "d/0:7")
        };
        assert!(is_taken(b"\xff") && !is_taken(b"\xfe"));
        assert!(takes(Filter {
            ids: vec!["d/0:7".into()],
            ..Filter::default()
        }));
        assert!(takes(Filter {
            ids: vec!["e1".into()],
            ..Filter::default()
        }));
        assert!(!takes(Filter {
            ids: vec!["d/1:7".into()],
            ..Filter::default()
        }));
        assert!(takes(Filter {
            since: some("2026-11-23T10:00:00"),
            ..Filter::default()
        }));
        assert!(!takes(Filter {
            until: some("2026-11-23T10:00:00"),
            ..Filter::default()
        }));
    }
}

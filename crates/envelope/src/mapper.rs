//! Rows of one relation to records.

use std::fmt::Write as _;

use pgoutput::{PgTimestamp, Position, Relation, Tuple, Value};
use serde::de::IgnoredAny;

use crate::{
    batch::{Data, RecordBatch, RecordBuilder, RecordFields, Text},
    column::{Kind, Scalar},
    compile::{self, Columns, CompileError, TopicSegment},
    error::{MapError, MapReason},
    json,
    policy::{MAX_TOPIC_CHARS, TopicGate, TopicPolicy, TopicRefusal},
    record::{CONTENT_TYPE_HEADER, EVENT_ID_HEADER, Fate, POSITION_HEADER, TYPE_HEADER},
    rfc3339::Rfc3339,
    row_headers,
    spec::{Format, TableId, TableSpec},
    topic::domain,
};

/// Rows of up to this many columns are read without allocation.
const INLINE_COLUMNS: usize = 32;

/// Where a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The change that inserted it.
    pub position: Position,
    /// When its transaction was committed.
    pub commit_time: PgTimestamp,
    /// Its transaction; 0 if that is long over, for a row that does not come from the stream.
    pub xid: u32,
}

/// Makes records of the rows of one relation, in its present shape.
#[derive(Debug)]
pub struct RowMapper {
    table: TableId,
    width: usize,
    format: Format,
    columns: Columns,
    gate: TopicGate,
}

impl RowMapper {
    /// Fits `spec` to the relation that the stream describes. `relation` may bear another name
    /// than `spec`: that of a partition.
    ///
    /// # Errors
    /// A column is missing or of an unsuitable type, or no event could be routed.
    pub fn compile(
        spec: &TableSpec,
        table: TableId,
        policy: &TopicPolicy,
        relation: &Relation,
    ) -> Result<Self, CompileError> {
        Ok(Self {
            table,
            width: relation.columns.len(),
            format: spec.format,
            columns: compile::columns(spec, policy, relation)?,
            gate: TopicGate::new(policy.clone()),
        })
    }

    pub(crate) fn columns(&self) -> &Columns {
        &self.columns
    }

    pub(crate) fn table(&self) -> TableId {
        self.table
    }

    /// Appends the record of one inserted row to `batch`.
    ///
    /// With a warm batch it does not allocate, except at most once where a parser has to run (text
    /// payloads that nest, headers that are not empty), for names and strings with escapes there,
    /// and for tables of more than 32 columns; `envelopes_are_made_without_allocation` and
    /// `a_parser_that_runs_allocates_at_most_once_a_row` count.
    ///
    /// # Errors
    /// The row can't become a record; `batch` is as it was. The verdict is certain: the same row
    /// fails again.
    pub fn map(
        &mut self,
        tuple: Tuple<'_>,
        origin: Origin,
        batch: &mut RecordBatch,
    ) -> Result<(), MapError> {
        if tuple.len() != self.width {
            let found = tuple.len();
            return Err(MapReason::RowShape {
                expected: self.width,
                found,
            }
            .into());
        }
        if self.width <= INLINE_COLUMNS {
            let mut values = [Value::Null; INLINE_COLUMNS];
            tuple.read_into(&mut values);
            self.map_row(&values, origin, batch.begin())
        } else {
            let values: Vec<_> = tuple.columns().collect();
            self.map_row(&values, origin, batch.begin())
        }
    }

    fn map_row(
        &mut self,
        row: &[Value<'_>],
        origin: Origin,
        mut record: RecordBuilder<'_>,
    ) -> Result<(), MapError> {
        let event = Event::read(&self.columns, row)?;
        let (value, names) = match self.format {
            Format::Envelope => self.envelope(&event, row, origin, &mut record)?,
            Format::Payload => {
                let value = self.columns.payload.append_content(row, &mut record)?;
                (value, Names::append(&event, &mut record))
            }
        };
        let topic = self.topic(&event, names, row, &mut record)?;
        let key = match &self.columns.key {
            Some(column) => column.append(row, &mut record)?,
            None => Some(Data::Text(names.transfer_id.unwrap_or(names.event_id))),
        };
        self.headers(names, row, origin.position, &mut record)?;
        record.finish(RecordFields {
            topic,
            key,
            value,
            timestamp_ms: origin.commit_time.unix_micros().div_euclid(1000),
            event_id: names.event_id,
            event_type: names.event_type,
            transfer_id: names.transfer_id,
            seq: event.seq,
            table: self.table,
            position: origin.position,
            commit_time: origin.commit_time,
            xid: origin.xid,
            fate: Fate::Sent,
        });
        Ok(())
    }

    /// Appends the envelope. The event's names stand in it already, except where JSON escapes them.
    fn envelope(
        &self,
        event: &Event<'_>,
        row: &[Value<'_>],
        origin: Origin,
        record: &mut RecordBuilder<'_>,
    ) -> Result<(Option<Data>, Names), MapError> {
        let payload = self.payload(row)?;
        let occurred_at = self.occurred_at(row, origin.commit_time)?;
        let start = record.mark();
        record.out().push_str(r#"{"eventId":"#);
        let event_id = append_json_string(event.id.as_str(), record);
        record.out().push_str(r#","type":"#);
        let event_type = append_json_string(event.event_type.as_str(), record);
        record.out().push_str(r#","occurredAt":""#);
        record.out().push_str(occurred_at.as_str());
        record.out().push_str(r#"","transferId":"#);
        let transfer_id = match &event.transfer_id {
            Some(id) => append_json_string(id.as_str(), record),
            None => {
                record.out().push_str("null");
                None
            }
        };
        record.out().push_str(r#","payload":"#);
        record.out().push_str(payload);
        record.out().push('}');
        let value = record.text_since(start);
        let transfer = event.transfer_id.as_ref();
        let names = Names {
            event_id: event_id.unwrap_or_else(|| record.text(event.id.as_str())),
            event_type: event_type.unwrap_or_else(|| record.text(event.event_type.as_str())),
            transfer_id: transfer.map(|id| transfer_id.unwrap_or_else(|| record.text(id.as_str()))),
        };
        Ok((Some(Data::Text(value)), names))
    }

    /// The payload as JSON. What Postgres knows to be JSON is not parsed again.
    fn payload<'a>(&self, row: &[Value<'a>]) -> Result<&'a str, MapError> {
        let column = &self.columns.payload;
        let Some(payload) = column.document(row)? else {
            return Ok("null");
        };
        if !matches!(column.kind(), Kind::Json | Kind::Jsonb) {
            serde_json::from_str::<IgnoredAny>(payload).map_err(|error| {
                let line = error.line();
                column.error(MapReason::BadPayload {
                    line,
                    column: error.column(),
                })
            })?;
        }
        Ok(payload)
    }

    fn occurred_at(
        &self,
        row: &[Value<'_>],
        commit_time: PgTimestamp,
    ) -> Result<Rfc3339, MapError> {
        if let Some(column) = &self.columns.occurred_at
            && let Some(instant) = column.instant(row)?
        {
            let text = Rfc3339::new(instant).map_err(MapReason::BadTimestamp);
            return text.map_err(|reason| column.error(reason));
        }
        Ok(Rfc3339::new(commit_time).map_err(MapReason::BadTimestamp)?)
    }

    fn topic(
        &mut self,
        event: &Event<'_>,
        names: Names,
        row: &[Value<'_>],
        record: &mut RecordBuilder<'_>,
    ) -> Result<Text, MapError> {
        let event_type = event.event_type.as_str();
        let topic = match self.columns.topic.as_slice() {
            [TopicSegment::EventType] => names.event_type,
            [TopicSegment::EventDomain] => names.event_type.prefix(domain(event_type).len()),
            segments => append_topic(segments, event_type, row, record)?,
        };
        let name = record.str(topic);
        self.gate.check(name).map_err(|refusal| match refusal {
            TopicRefusal::Invalid => MapReason::BadTopic {
                topic: name.chars().take(MAX_TOPIC_CHARS).collect(),
            },
            TopicRefusal::Reserved | TopicRefusal::Denied | TopicRefusal::NotAllowed => {
                MapReason::TopicNotAllowed {
                    topic: name.into(),
                    refusal,
                }
            }
        })?;
        Ok(topic)
    }

    fn headers(
        &self,
        names: Names,
        row: &[Value<'_>],
        position: Position,
        record: &mut RecordBuilder<'_>,
    ) -> Result<(), MapError> {
        let is_binary = self.columns.payload.kind() == Kind::Bytea;
        let content_type = if is_binary {
            "application/octet-stream"
        } else {
            "application/json"
        };
        let mark = record.mark();
        // Writing to a `String` cannot fail.
        let _ = write!(record.out(), "{position}");
        let position = record.text_since(mark);
        record.static_header(EVENT_ID_HEADER, Data::Text(names.event_id));
        record.static_header(TYPE_HEADER, Data::Text(names.event_type));
        record.static_header(CONTENT_TYPE_HEADER, Data::Static(content_type));
        record.static_header(POSITION_HEADER, Data::Text(position));
        for (name, column) in &self.columns.header_columns {
            let name = record.text(name);
            let value = column.append(row, record)?;
            record.header(name, value);
        }
        if let Some(column) = &self.columns.headers
            && let Some(headers) = column.document(row)?
        {
            row_headers::append(headers, record).map_err(|reason| column.error(reason))?;
        }
        Ok(())
    }
}

/// What every event has, read from its row.
struct Event<'a> {
    id: Scalar<'a>,
    event_type: Scalar<'a>,
    transfer_id: Option<Scalar<'a>>,
    seq: Option<i64>,
}

impl<'a> Event<'a> {
    fn read(columns: &Columns, row: &[Value<'a>]) -> Result<Self, MapError> {
        let Some(id) = columns.id.scalar(row)? else {
            return Err(columns.id.error(MapReason::NullId));
        };
        if id.as_str().is_empty() {
            return Err(columns.id.error(MapReason::EmptyId));
        }
        let Some(event_type) = columns.event_type.scalar(row)? else {
            return Err(columns.event_type.error(MapReason::NullType));
        };
        if event_type.as_str().is_empty() {
            return Err(columns.event_type.error(MapReason::EmptyType));
        }
        let transfer_id = columns
            .transfer_id
            .as_ref()
            .map(|column| column.scalar(row));
        let seq = columns.seq.as_ref().map(|column| column.integer(row));
        Ok(Self {
            id,
            event_type,
            transfer_id: transfer_id.transpose()?.flatten(),
            seq: seq.transpose()?.flatten(),
        })
    }
}

/// The texts that name an event, in its record.
#[derive(Clone, Copy)]
struct Names {
    event_id: Text,
    event_type: Text,
    transfer_id: Option<Text>,
}

impl Names {
    fn append(event: &Event<'_>, record: &mut RecordBuilder<'_>) -> Self {
        Self {
            event_id: record.text(event.id.as_str()),
            event_type: record.text(event.event_type.as_str()),
            transfer_id: event
                .transfer_id
                .as_ref()
                .map(|id| record.text(id.as_str())),
        }
    }
}

/// Appends `text` in quotes, and tells where it stands unless it is escaped there.
fn append_json_string(text: &str, record: &mut RecordBuilder<'_>) -> Option<Text> {
    record.out().push('"');
    let plain = if json::is_plain(text) {
        Some(record.text(text))
    } else {
        json::escape(text, record.out());
        None
    };
    record.out().push('"');
    plain
}

fn append_topic(
    segments: &[TopicSegment],
    event_type: &str,
    row: &[Value<'_>],
    record: &mut RecordBuilder<'_>,
) -> Result<Text, MapError> {
    let mark = record.mark();
    for segment in segments {
        match segment {
            TopicSegment::Literal(text) => record.out().push_str(text),
            TopicSegment::EventType => record.out().push_str(event_type),
            TopicSegment::EventDomain => record.out().push_str(domain(event_type)),
            TopicSegment::Column(column) => match column.scalar(row)? {
                Some(text) => record.out().push_str(text.as_str()),
                None => return Err(column.error(MapReason::NullTopicColumn)),
            },
        }
    }
    Ok(record.text_since(mark))
}

//! What an operator says about one outbox table: plain data, made by the configuration.

use crate::topic::TopicTemplate;

/// A table of one pipeline: its index in that pipeline's list of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u16);

/// How the rows of one table become records.
///
/// Names are as in the catalog (`pg_class.relname`, `pg_attribute.attname`): case counts, no
/// quoting. Whether the columns exist is known only once the stream describes the relation; see
/// [`RowMapper::compile`](crate::RowMapper::compile).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// Schema.
    pub schema: String,
    /// Table.
    pub table: String,
    /// The service whose events these are: `{service}` in the topic, a label in the metrics.
    pub service: String,
    /// Which column is what.
    pub columns: ColumnMap,
    /// Where events go.
    pub topic: TopicTemplate,
    /// The column whose value is the record key; where it is NULL the record has no key. Without
    /// it the key is the transfer id or, where that is NULL, the event id.
    pub key: Option<String>,
    /// What the record value is.
    pub format: Format,
    /// Columns that become headers, in this order.
    pub headers: Vec<HeaderColumn>,
}

impl TableSpec {
    /// `public.outbox` with the default columns: service `outbox`, topic `{type}`, envelopes.
    pub fn default_outbox() -> Self {
        Self {
            schema: "public".into(),
            table: "outbox".into(),
            service: "outbox".into(),
            columns: ColumnMap::default(),
            topic: TopicTemplate::default(),
            key: None,
            format: Format::default(),
            headers: Vec::new(),
        }
    }
}

impl Default for TableSpec {
    fn default() -> Self {
        Self::default_outbox()
    }
}

/// Which column of a table is what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnMap {
    /// Event id: uuid, text or an integer. Never NULL.
    pub id: String,
    /// Event type: text or an enum. Never NULL or empty.
    pub event_type: String,
    /// Transfer id: uuid, text or an integer.
    pub transfer_id: OptionalColumn,
    /// Payload: json, jsonb or text; bytea as well with [`Format::Payload`].
    pub payload: String,
    /// Further headers: a flat object in json, jsonb or text.
    pub headers: OptionalColumn,
    /// Event time: timestamptz, or timestamp taken as UTC. Where it is NULL or absent, the commit
    /// time stands in.
    pub occurred_at: OptionalColumn,
    /// Insertion number, from which the backlog is reckoned: bigint or a smaller integer.
    pub seq: OptionalColumn,
}

impl Default for ColumnMap {
    fn default() -> Self {
        let if_present = |name: &str| OptionalColumn::IfPresent(name.into());
        Self {
            id: "id".into(),
            event_type: "event_type".into(),
            transfer_id: if_present("transfer_id"),
            payload: "payload".into(),
            headers: if_present("headers"),
            occurred_at: if_present("created_at"),
            seq: if_present("seq"),
        }
    }
}

/// A column that a table may lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionalColumn {
    /// Not used, though a column of the default name may exist.
    Unmapped,
    /// The default name: used where the relation has such a column.
    IfPresent(String),
    /// Named by the operator: a relation without it does not compile.
    Mapped(String),
}

/// What the value of a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `{"eventId":…,"type":…,"occurredAt":…,"transferId":…,"payload":…}`
    #[default]
    Envelope,
    /// The payload alone, byte for byte; a NULL payload is a tombstone (a record without value).
    Payload,
}

/// A column whose value becomes a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderColumn {
    /// The column, of any type that has a text form.
    pub column: String,
    /// The header's name; none of [`RESERVED_HEADERS`](crate::RESERVED_HEADERS).
    pub header: String,
}

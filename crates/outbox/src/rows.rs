//! Events as the columns of one statement.

use std::fmt;

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{Event, Refusal};

/// The rows of one call, column by column: what a [`Transaction`](crate::Transaction) inserts.
/// `Debug` shows their number only.
#[derive(Default)]
pub struct Rows {
    pub(crate) ids: Vec<Uuid>,
    pub(crate) types: Vec<String>,
    pub(crate) transfer_ids: Vec<Option<String>>,
    pub(crate) payloads: Vec<String>,
    pub(crate) headers: Vec<Option<String>>,
}

impl Rows {
    pub(crate) fn push(&mut self, event: Event, payload: Box<RawValue>, headers: Option<String>) {
        self.ids.push(event.id);
        self.types.push(event.event_type.into_owned());
        self.transfer_ids.push(event.transfer_id);
        self.payloads.push(Box::<str>::from(payload).into_string());
        self.headers.push(headers);
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rows({})", self.ids.len())
    }
}

/// The column `headers`: a flat object, or NULL if there is none.
pub(crate) fn headers_column(event: &Event) -> Result<Option<String>, Refusal> {
    if event.headers.is_empty() {
        return Ok(None);
    }
    let headers: serde_json::Map<_, _> = event.headers.iter().cloned().collect();
    serde_json::to_string(&headers)
        .map(Some)
        .map_err(Refusal::Payload)
}

/// The statement that inserts rows, in their order, into a table whose name is quoted already. JSON
/// goes as text, so that drivers need no types of their own for it.
pub(crate) fn statement(table: &str) -> String {
    format!(
        "INSERT INTO {table} (id, event_type, transfer_id, payload, headers) \
         SELECT id, event_type, transfer_id, payload::jsonb, headers::jsonb \
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) \
         WITH ORDINALITY AS event (id, event_type, transfer_id, payload, headers, place) \
         ORDER BY place"
    )
}

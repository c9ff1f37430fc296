//! What can be told of a row that can't become a record.

use pgoutput::{Tuple, Value};

use crate::{
    batch::{Data, RecordBatch, RecordBuilder, RecordFields, Text},
    column::{Field, Kind},
    error::{MapError, MapReason},
    mapper::{Origin, RowMapper},
    record::{CONTENT_TYPE_HEADER, EVENT_ID_HEADER, Fate, POSITION_HEADER, TYPE_HEADER},
    row_headers,
};

impl RowMapper {
    /// Appends the record of a row, or what is readable of it; the error says why it is no event.
    pub fn map_or_salvage(
        &mut self,
        tuple: Tuple<'_>,
        origin: Origin,
        batch: &mut RecordBatch,
    ) -> Option<MapError> {
        let error = self.map(tuple, origin, batch).err()?;
        self.salvage(tuple, origin, &error, batch);
        Some(error)
    }

    /// Appends what is readable of a row that [`map`](Self::map) refused: the payload column's
    /// bytes as value, key and headers as far as they go. The topic is empty unless it was the
    /// reason; id and type may be empty, too.
    pub fn salvage(
        &self,
        tuple: Tuple<'_>,
        origin: Origin,
        error: &MapError,
        batch: &mut RecordBatch,
    ) {
        let row: Vec<Value<'_>> = tuple.columns().collect();
        let columns = self.columns();
        let mut record = batch.begin();
        let topic = match &error.reason {
            MapReason::BadTopic { topic } | MapReason::TopicNotAllowed { topic, .. } => topic,
            _ => "",
        };
        let topic = record.text(topic);
        let text = |field: &Field, record: &mut RecordBuilder<'_>| -> Option<Text> {
            let scalar = field.scalar(&row).ok().flatten()?;
            Some(record.text(scalar.as_str()))
        };
        let event_id = text(&columns.id, &mut record);
        let event_type = text(&columns.event_type, &mut record);
        let transfer_id = columns.transfer_id.as_ref();
        let transfer_id = transfer_id.and_then(|field| text(field, &mut record));
        let key = match &columns.key {
            Some(field) => field.append(&row, &mut record).ok().flatten(),
            None => transfer_id.or(event_id).map(Data::Text),
        };
        let value = columns.payload.append_content(&row, &mut record);
        let position = record.text(&origin.position.to_string());
        if let Some(event_id) = event_id {
            record.static_header(EVENT_ID_HEADER, Data::Text(event_id));
        }
        if let Some(event_type) = event_type {
            record.static_header(TYPE_HEADER, Data::Text(event_type));
        }
        let is_binary = columns.payload.kind() == Kind::Bytea;
        let content_type = if is_binary {
            "application/octet-stream"
        } else {
            "text/plain"
        };
        record.static_header(CONTENT_TYPE_HEADER, Data::Static(content_type));
        record.static_header(POSITION_HEADER, Data::Text(position));
        for (name, field) in &columns.header_columns {
            if let Ok(value) = field.append(&row, &mut record) {
                let name = record.text(name);
                record.header(name, value);
            }
        }
        if let Some(field) = &columns.headers
            && let Ok(Some(headers)) = field.document(&row)
        {
            // As many as come before what is wrong with them.
            let _ = row_headers::append(headers, &mut record);
        }
        let seq = columns
            .seq
            .as_ref()
            .and_then(|field| field.integer(&row).ok().flatten());
        let nothing = record.text("");
        record.finish(RecordFields {
            topic,
            key,
            value: value.ok().flatten(),
            timestamp_ms: origin.commit_time.unix_micros().div_euclid(1000),
            event_id: event_id.unwrap_or(nothing),
            event_type: event_type.unwrap_or(nothing),
            transfer_id,
            seq,
            table: self.table(),
            position: origin.position,
            commit_time: origin.commit_time,
            xid: origin.xid,
            fate: Fate::Sent,
        });
    }

    /// The text form of the row's id, if it has one.
    pub fn with_id<T>(&self, tuple: Tuple<'_>, then: impl FnOnce(&str) -> T) -> Option<T> {
        let row: Vec<Value<'_>> = tuple.columns().collect();
        let id = self.columns().id.scalar(&row).ok().flatten()?;
        Some(then(id.as_str()))
    }
}

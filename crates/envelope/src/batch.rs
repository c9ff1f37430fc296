//! Records in one arena, so that a warm batch takes further ones without allocation.
//!
//! ```text
//! text    │ value: {"eventId":"…","type":"…",…} │ topic │ position │ headers … ║ next record
//! binary  │ payload bytes, bytea keys and headers                             ║
//! headers │ (name, value), …                                                  ║
//! stored  │ where each record starts, and its spans                           ║
//! ```
//!
//! Spans are relative to the record's start in its arena. Several may share bytes: the event id in
//! the value is also the header and, without a transfer id, the key.

mod builder;

use std::mem::size_of;

use pgoutput::{PgTimestamp, Position};

use crate::{
    record::{Fate, Header, HeaderName, Headers, Record},
    spec::TableId,
};

pub(crate) use builder::RecordBuilder;

/// What a record costs in a batch beside its bytes and headers; part of [`RecordBatch::bytes`].
pub const RECORD_OVERHEAD_BYTES: usize = size_of::<StoredRecord>();

/// Memory that a cleared batch keeps for its next use, unless it was made larger. A window is
/// of this size by default.
const RETAINED_BYTES: usize = 4 << 20;

/// Records, in the order in which they were added.
#[derive(Clone, Debug)]
pub struct RecordBatch {
    text: String,
    binary: Vec<u8>,
    headers: Vec<Header>,
    stored: Vec<StoredRecord>,
    retained_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct StoredRecord {
    start: Start,
    fields: RecordFields,
    opened: Option<Opened>,
}

/// What is published in the place of a record that was opened.
#[derive(Clone, Copy, Debug)]
struct Opened {
    value: Text,
    /// So many of its headers are those that it was written with; the others are published.
    written_headers: usize,
}

/// Where a record starts in each arena; it ends where the next one starts.
#[derive(Clone, Copy, Debug)]
struct Start {
    text: usize,
    binary: usize,
    headers: usize,
}

/// A range of a record's part of an arena.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: usize,
    end: usize,
}

/// Text of a record under construction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text(Span);

impl Text {
    /// Its first `length` bytes, which must end a character.
    pub(crate) fn prefix(self, length: usize) -> Text {
        Text(Span {
            start: self.0.start,
            end: self.0.end.min(self.0.start + length),
        })
    }
}

/// Bytes of a record under construction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Data {
    Text(Text),
    Binary(Span),
    Static(&'static str),
}

/// A record's parts, in its arenas.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordFields {
    pub topic: Text,
    pub key: Option<Data>,
    pub value: Option<Data>,
    pub timestamp_ms: i64,
    pub event_id: Text,
    pub event_type: Text,
    pub transfer_id: Option<Text>,
    pub seq: Option<i64>,
    pub table: TableId,
    pub position: Position,
    pub commit_time: PgTimestamp,
    pub xid: u32,
    pub fate: Fate,
}

/// One record's part of the arenas.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arena<'a> {
    text: &'a str,
    binary: &'a [u8],
}

impl<'a> Arena<'a> {
    fn text(self, Text(span): Text) -> &'a str {
        &self.text[span.start..span.end]
    }

    pub(crate) fn span(self, span: Span) -> &'a str {
        self.text(Text(span))
    }

    pub(crate) fn data(self, data: Data) -> &'a [u8] {
        match data {
            Data::Text(text) => self.text(text).as_bytes(),
            Data::Binary(span) => &self.binary[span.start..span.end],
            Data::Static(text) => text.as_bytes(),
        }
    }
}

impl RecordBatch {
    /// An empty batch, without memory yet.
    pub const fn new() -> Self {
        Self {
            text: String::new(),
            binary: Vec::new(),
            headers: Vec::new(),
            stored: Vec::new(),
            retained_bytes: RETAINED_BYTES,
        }
    }

    /// An empty batch with room for `bytes` of text; it keeps at least that much when cleared.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            retained_bytes: bytes.max(RETAINED_BYTES),
            ..Self::new()
        }
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.stored.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// What the records take up, bookkeeping included. The memory held is at most about three
    /// times that while an arena grows, or what was kept of earlier uses.
    pub fn bytes(&self) -> usize {
        self.text.len()
            + self.binary.len()
            + self.headers.len() * size_of::<Header>()
            + self.stored.len() * RECORD_OVERHEAD_BYTES
    }

    /// [`Record::bytes`] of the last record, 0 if there is none.
    pub fn last_record_bytes(&self) -> usize {
        let last = self.len().checked_sub(1);
        last.and_then(|index| self.get(index))
            .map_or(0, |record| record.bytes())
    }

    /// Removes all records. The memory is kept for the next ones, except that an arena of more
    /// than twice 4 MiB, or twice what the batch was made for, gives back what an unusually large
    /// use took.
    pub fn clear(&mut self) {
        self.truncate(0);
        let keep = self.retained_bytes;
        if self.text.capacity() > 2 * keep {
            self.text.shrink_to(keep);
        }
        give_back(&mut self.binary, keep);
        give_back(&mut self.headers, keep);
        give_back(&mut self.stored, keep);
    }

    /// Keeps the first `records` records.
    pub fn truncate(&mut self, records: usize) {
        if let Some(first) = self.stored.get(records) {
            let start = first.start;
            self.stored.truncate(records);
            self.cut(start);
        }
    }

    /// Moves the records from index `from` on to the end of `into`.
    pub fn move_tail(&mut self, from: usize, into: &mut RecordBatch) {
        let Some(first) = self.stored.get(from) else {
            return;
        };
        let (old, new) = (first.start, into.end());
        into.text.push_str(&self.text[old.text..]);
        into.binary.extend_from_slice(&self.binary[old.binary..]);
        into.headers.extend_from_slice(&self.headers[old.headers..]);
        into.stored
            .extend(self.stored[from..].iter().map(|record| StoredRecord {
                start: Start {
                    text: record.start.text - old.text + new.text,
                    binary: record.start.binary - old.binary + new.binary,
                    headers: record.start.headers - old.headers + new.headers,
                },
                ..*record
            }));
        self.truncate(from);
    }

    /// Adds the record of `other` at `index`, as it stands there.
    pub fn push_from(&mut self, other: &RecordBatch, index: usize) {
        let Some(record) = other.stored.get(index) else {
            return;
        };
        let (start, end) = (record.start, other.end_of(index));
        let new = self.end();
        self.text.push_str(&other.text[start.text..end.text]);
        self.binary
            .extend_from_slice(&other.binary[start.binary..end.binary]);
        self.headers
            .extend_from_slice(&other.headers[start.headers..end.headers]);
        self.stored.push(StoredRecord {
            start: new,
            ..*record
        });
    }

    /// The record at `index`, counted from 0, as it is to be published.
    pub fn get(&self, index: usize) -> Option<Record<'_>> {
        let StoredRecord { fields, opened, .. } = self.stored.get(index)?;
        let headers = self.headers_of(index)?;
        match opened {
            None => self.read(index, fields.value, headers),
            Some(opened) => {
                let published = &headers[opened.written_headers..];
                self.read(index, Some(Data::Text(opened.value)), published)
            }
        }
    }

    /// The record at `index` as its row has it: encrypted, if it is published in the clear.
    pub fn as_written(&self, index: usize) -> Option<Record<'_>> {
        let StoredRecord { fields, opened, .. } = self.stored.get(index)?;
        let headers = self.headers_of(index)?;
        let written = opened.map_or(headers.len(), |opened| opened.written_headers);
        self.read(index, fields.value, &headers[..written])
    }

    fn read<'a>(
        &'a self,
        index: usize,
        value: Option<Data>,
        headers: &'a [Header],
    ) -> Option<Record<'a>> {
        let StoredRecord { start, fields, .. } = *self.stored.get(index)?;
        let end = self.end_of(index);
        let arena = Arena {
            text: &self.text[start.text..end.text],
            binary: &self.binary[start.binary..end.binary],
        };
        Some(Record {
            topic: arena.text(fields.topic),
            key: fields.key.map(|key| arena.data(key)),
            value: value.map(|value| arena.data(value)),
            timestamp_ms: fields.timestamp_ms,
            event_id: arena.text(fields.event_id),
            event_type: arena.text(fields.event_type),
            transfer_id: fields.transfer_id.map(|id| arena.text(id)),
            seq: fields.seq,
            table: fields.table,
            position: fields.position,
            commit_time: fields.commit_time,
            xid: fields.xid,
            fate: fields.fate,
            headers: Headers::stored(headers, arena),
        })
    }

    fn headers_of(&self, index: usize) -> Option<&[Header]> {
        let start = self.stored.get(index)?.start.headers;
        Some(&self.headers[start..self.end_of(index).headers])
    }

    /// Where the record at `index` ends in each arena.
    fn end_of(&self, index: usize) -> Start {
        let next = self.stored.get(index + 1);
        next.map_or_else(|| self.end(), |next| next.start)
    }

    /// What each record means for its row, in order.
    pub fn fates(&self) -> impl Iterator<Item = Fate> {
        self.stored.iter().map(|record| record.fields.fate)
    }

    /// The records, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Record<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Adds a copy of `record`.
    pub fn push(&mut self, record: &Record<'_>) {
        let mut copy = self.begin();
        let fields = RecordFields {
            topic: copy.text(record.topic),
            key: record.key.map(|key| copy.binary(key)),
            value: record.value.map(|value| copy.binary(value)),
            timestamp_ms: record.timestamp_ms,
            event_id: copy.text(record.event_id),
            event_type: copy.text(record.event_type),
            transfer_id: record.transfer_id.map(|id| copy.text(id)),
            seq: record.seq,
            table: record.table,
            position: record.position,
            commit_time: record.commit_time,
            xid: record.xid,
            fate: record.fate,
        };
        for (name, value) in record.headers() {
            let name = copy.text(name);
            let value = value.map(|value| copy.binary(value));
            copy.header(name, value);
        }
        copy.finish(fields);
    }

    /// Gives the record added last one more header; not behind [`open_last`](Self::open_last).
    pub fn add_header_to_last(&mut self, name: &'static str, value: &str) {
        let Some(last) = self.stored.last() else {
            return;
        };
        let start = self.text.len() - last.start.text;
        self.text.push_str(value);
        let end = self.text.len() - last.start.text;
        self.headers.push(Header {
            name: HeaderName::Static(name),
            value: Some(Data::Text(Text(Span { start, end }))),
        });
    }

    /// Publishes the record added last with another value, and without headers of some names. As it was
    /// written it stays there too ([`as_written`](Self::as_written)), for it may become a dead letter.
    pub fn open_last(&mut self, value: &str, without: &[&str]) {
        let Some(index) = self.len().checked_sub(1) else {
            return;
        };
        let Some(written) = self.as_written(index).map(|record| record.headers()) else {
            return;
        };
        let written_headers = written.len();
        let kept: Vec<_> = written
            .enumerate()
            .filter(|(_, (name, _))| !without.contains(name))
            .map(|(at, _)| at)
            .collect();
        let record = &mut self.stored[index];
        let first = record.start.headers;
        self.headers.truncate(first + written_headers);
        for at in kept {
            self.headers.push(self.headers[first + at]);
        }
        let start = self.text.len() - record.start.text;
        self.text.push_str(value);
        let end = self.text.len() - record.start.text;
        record.opened = Some(Opened {
            value: Text(Span { start, end }),
            written_headers,
        });
    }

    /// Starts a record, of which nothing stays unless it is finished.
    pub(crate) fn begin(&mut self) -> RecordBuilder<'_> {
        RecordBuilder::at_the_end_of(self)
    }

    fn end(&self) -> Start {
        Start {
            text: self.text.len(),
            binary: self.binary.len(),
            headers: self.headers.len(),
        }
    }

    fn cut(&mut self, end: Start) {
        self.text.truncate(end.text);
        self.binary.truncate(end.binary);
        self.headers.truncate(end.headers);
    }
}

impl Default for RecordBatch {
    fn default() -> Self {
        Self::new()
    }
}

fn give_back<T>(items: &mut Vec<T>, keep_bytes: usize) {
    let keep = keep_bytes / size_of::<T>();
    if items.capacity() > 2 * keep {
        items.shrink_to(keep);
    }
}

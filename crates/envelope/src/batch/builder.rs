//! A record is put together at the end of a batch.

use super::{Data, RecordBatch, RecordFields, Span, Start, StoredRecord, Text};
use crate::record::{Header, HeaderName};

/// A record under construction at the end of a batch. Dropped unfinished, it leaves the batch as
/// it was.
pub(crate) struct RecordBuilder<'b> {
    batch: &'b mut RecordBatch,
    start: Start,
    is_finished: bool,
}

impl<'b> RecordBuilder<'b> {
    pub(super) fn at_the_end_of(batch: &'b mut RecordBatch) -> Self {
        Self {
            start: batch.end(),
            batch,
            is_finished: false,
        }
    }

    /// The text arena, to append to; see [`RecordBuilder::mark`].
    pub(crate) fn out(&mut self) -> &mut String {
        &mut self.batch.text
    }

    /// The binary arena, to append to; see [`RecordBuilder::binary_since`].
    pub(crate) fn binary_out(&mut self) -> &mut Vec<u8> {
        &mut self.batch.binary
    }

    /// The end of the text so far.
    pub(crate) fn mark(&self) -> usize {
        self.batch.text.len() - self.start.text
    }

    /// The text appended since `mark`.
    pub(crate) fn text_since(&self, mark: usize) -> Text {
        Text(Span {
            start: mark,
            end: self.mark(),
        })
    }

    /// The end of the bytes so far.
    pub(crate) fn binary_mark(&self) -> usize {
        self.batch.binary.len() - self.start.binary
    }

    /// The bytes appended since `mark`.
    pub(crate) fn binary_since(&self, mark: usize) -> Data {
        Data::Binary(Span {
            start: mark,
            end: self.binary_mark(),
        })
    }

    pub(crate) fn text(&mut self, text: &str) -> Text {
        let mark = self.mark();
        self.batch.text.push_str(text);
        self.text_since(mark)
    }

    pub(crate) fn binary(&mut self, bytes: &[u8]) -> Data {
        let mark = self.binary_mark();
        self.batch.binary.extend_from_slice(bytes);
        self.binary_since(mark)
    }

    pub(crate) fn str(&self, Text(span): Text) -> &str {
        &self.batch.text[self.start.text + span.start..self.start.text + span.end]
    }

    pub(crate) fn header(&mut self, Text(name): Text, value: Option<Data>) {
        self.batch.headers.push(Header {
            name: HeaderName::Stored(name),
            value,
        });
    }

    pub(crate) fn static_header(&mut self, name: &'static str, value: Data) {
        self.batch.headers.push(Header {
            name: HeaderName::Static(name),
            value: Some(value),
        });
    }

    /// Adds the record to the batch.
    pub(crate) fn finish(mut self, fields: RecordFields) {
        self.batch.stored.push(StoredRecord {
            start: self.start,
            fields,
            opened: None,
        });
        self.is_finished = true;
    }
}

impl Drop for RecordBuilder<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.batch.cut(self.start);
        }
    }
}

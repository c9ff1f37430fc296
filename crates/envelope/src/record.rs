//! What a batch hands out: a record ready for Kafka, and what the relay must know of it.

use pgoutput::{PgTimestamp, Position};

use crate::{
    batch::{Arena, Data, Span},
    spec::TableId,
};

/// Header with the event id.
pub const EVENT_ID_HEADER: &str = "eventId";
/// Header with the event type.
pub const TYPE_HEADER: &str = "type";
/// Header with the media type of the value: `application/json`, or `application/octet-stream` for
/// a bytea payload.
pub const CONTENT_TYPE_HEADER: &str = "content-type";
/// Header with the [`Position`], as in `0/16B3748:3`.
pub const POSITION_HEADER: &str = "position";
/// The headers that every record has, in this order before all others. A header column of such a
/// name is an error; a row's own header of such a name is left out.
pub const RESERVED_HEADERS: [&str; 4] = [
    EVENT_ID_HEADER,
    TYPE_HEADER,
    CONTENT_TYPE_HEADER,
    POSITION_HEADER,
];

/// A record in a [`RecordBatch`](crate::RecordBatch), or the parts to
/// [`push`](crate::RecordBatch::push) one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Topic, accepted by the policy.
    pub topic: &'a str,
    /// Key. Records with one key keep their order.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Kafka timestamp: the commit time in milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: i64,
    /// The event's id, never empty.
    pub event_id: &'a str,
    /// The event's type, never empty.
    pub event_type: &'a str,
    /// The event's transfer id, if it has one.
    pub transfer_id: Option<&'a str>,
    /// The row's insertion number, if the table has such a column and the row a value there.
    pub seq: Option<i64>,
    /// The table that the row came from.
    pub table: TableId,
    /// The change that inserted the row.
    pub position: Position,
    /// When its transaction was committed.
    pub commit_time: PgTimestamp,
    /// Its transaction; 0 if that is long over.
    pub xid: u32,
    /// What became of the row, beside being published as this record.
    pub fate: Fate,
    /// Headers, in order. Names may occur more than once.
    pub headers: Headers<'a>,
}

/// What a record means for its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// The row is published.
    #[default]
    Sent,
    /// The row could not be published: this is its dead letter.
    Dead {
        /// How often publishing it was tried.
        attempts: u32,
    },
    /// The row is published from its dead letter.
    Revived,
    /// Nothing: the record only tells something of another one.
    None,
}

impl<'a> Record<'a> {
    /// The headers, in order: name and value, which may be null.
    pub fn headers(&self) -> Headers<'a> {
        self.headers.clone()
    }

    /// The value of the first header of that name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().find(|(n, _)| *n == name)?.1
    }

    /// Bytes of key, value, and names and values of headers.
    pub fn bytes(&self) -> usize {
        let size = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers: usize = self
            .headers()
            .map(|(name, value)| name.len() + size(value))
            .sum();
        size(self.key) + size(self.value) + headers
    }
}

/// Iterates over the headers of a record.
#[derive(Clone, Debug)]
pub struct Headers<'a>(Source<'a>);

#[derive(Clone, Debug)]
enum Source<'a> {
    Stored {
        rest: std::slice::Iter<'a, Header>,
        arena: Arena<'a>,
    },
    Given(std::slice::Iter<'a, (&'a str, Option<&'a [u8]>)>),
}

/// A header in a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub name: HeaderName,
    pub value: Option<Data>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum HeaderName {
    Static(&'static str),
    Stored(Span),
}

impl<'a> Headers<'a> {
    pub(crate) fn stored(headers: &'a [Header], arena: Arena<'a>) -> Self {
        Self(Source::Stored {
            rest: headers.iter(),
            arena,
        })
    }
}

impl<'a> From<&'a [(&'a str, Option<&'a [u8]>)]> for Headers<'a> {
    fn from(headers: &'a [(&'a str, Option<&'a [u8]>)]) -> Self {
        Self(Source::Given(headers.iter()))
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Stored { rest, arena } => rest.next().map(|header| {
                let name = match header.name {
                    HeaderName::Static(name) => name,
                    HeaderName::Stored(span) => arena.span(span),
                };
                (name, header.value.map(|value| arena.data(value)))
            }),
            Source::Given(rest) => rest.next().copied(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Source::Stored { rest, .. } => rest.size_hint(),
            Source::Given(rest) => rest.size_hint(),
        }
    }
}

impl ExactSizeIterator for Headers<'_> {}

impl PartialEq for Headers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.clone().eq(other.clone())
    }
}

impl Eq for Headers<'_> {}

//! One partition's log.

use std::collections::BTreeMap;

use envelope::{POSITION_HEADER, Record};

use super::TransactionId;

/// A record as a consumer gets it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Message {
    /// A checkpoint record.
    pub fn checkpoint(value: Vec<u8>) -> Self {
        Self {
            key: Some(b"checkpoint".to_vec()),
            value: Some(value),
            ..Self::default()
        }
    }

    /// A record beside the checkpoints.
    pub fn exception(key: Vec<u8>, value: Option<Vec<u8>>) -> Self {
        Self {
            key: Some(key),
            value,
            ..Self::default()
        }
    }

    /// A header's value, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// The position header.
    pub fn position(&self) -> Option<&str> {
        self.header(POSITION_HEADER)
    }
}

impl From<&Record<'_>> for Message {
    fn from(record: &Record<'_>) -> Self {
        let header =
            |(name, value): (&str, Option<&[u8]>)| (name.to_owned(), value.map(<[u8]>::to_vec));
        Self {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            timestamp_ms: record.timestamp_ms,
            headers: record.headers().map(header).collect(),
        }
    }
}

/// A record in its partition.
#[derive(Debug)]
pub struct Stored {
    /// What was produced.
    pub message: Message,
    /// The transaction it belongs to.
    pub transaction: Option<TransactionId>,
}

#[derive(Debug)]
enum Entry {
    Record(Stored),
    /// Takes up an offset and is never shown.
    Marker,
}

/// What has become of a produce request's sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sequence {
    /// The next ones: append.
    Next,
    /// Appended before, and not heard of by the client: acknowledge only.
    Repeated,
    /// Others are missing before them.
    Ahead,
}

/// Entries by offset, and which transactions are not settled here.
#[derive(Debug, Default)]
pub(super) struct Partition {
    entries: Vec<Entry>,
    /// Entries before are deleted.
    start: usize,
    /// The next sequence number of each producer and epoch.
    sequences: BTreeMap<(u64, u32), u64>,
    /// First offset of each.
    unsettled: BTreeMap<TransactionId, usize>,
}

impl Partition {
    /// Notes a request of `count` records that begins with `first`, unless it came before.
    pub fn sequence(&mut self, producer: (u64, u32), first: u64, count: u64) -> Sequence {
        let next = self.sequences.entry(producer).or_default();
        if first > *next {
            return Sequence::Ahead;
        }
        if first < *next {
            return Sequence::Repeated;
        }
        *next += count;
        Sequence::Next
    }

    /// Deletes every entry.
    pub fn truncate(&mut self) {
        self.start = self.entries.len();
    }

    pub fn append(&mut self, message: Message, transaction: Option<TransactionId>) -> usize {
        let offset = self.entries.len();
        if let Some(transaction) = transaction {
            self.unsettled.entry(transaction).or_insert(offset);
        }
        self.entries.push(Entry::Record(Stored {
            message,
            transaction,
        }));
        offset
    }

    /// The transaction's marker.
    pub fn settle(&mut self, transaction: TransactionId) {
        self.entries.push(Entry::Marker);
        self.unsettled.remove(&transaction);
    }

    pub fn end(&self) -> usize {
        self.entries.len()
    }

    /// The last stable offset.
    pub fn stable(&self) -> usize {
        let first = self.unsettled.values().min();
        first.copied().unwrap_or(self.entries.len())
    }

    pub fn stored(&self, below: usize) -> impl Iterator<Item = &Stored> {
        let entries = self.entries.iter().take(below).skip(self.start);
        entries.filter_map(|entry| match entry {
            Entry::Record(stored) => Some(stored),
            Entry::Marker => None,
        })
    }

    /// Where records stand.
    pub fn offsets(&self, below: usize) -> Vec<usize> {
        let range = self.start..below.min(self.entries.len());
        let is_record = |offset: &usize| matches!(self.entries[*offset], Entry::Record(_));
        range.filter(is_record).collect()
    }

    pub fn get(&self, offset: usize) -> &Stored {
        match &self.entries[offset] {
            Entry::Record(stored) => stored,
            Entry::Marker => unreachable!("a record's offset holds the record"),
        }
    }
}

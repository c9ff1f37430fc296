//! Entries on disk, in buckets by the digest of their event: what belongs together is in one bucket,
//! and only one bucket is in memory.
//!
//! Memory is bounded by the buckets' buffers and [`BUCKET_BYTES`]; a bucket that is larger is spread
//! over buckets of its own. The files have no name: nothing is left of them, however this ends.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use super::content::digest;
use super::entry::Entry;
use crate::failure::Failure;

/// Open files at a time are at most so many for each level of spreading.
const BUCKETS: usize = 64;
/// A bucket that is read into memory, where it takes about four times as much.
const BUCKET_BYTES: u64 = 8 << 20;
/// Digests have so many bytes, and each spreads once.
const LEVELS: usize = 16;
const BUFFER_BYTES: usize = 16 << 10;
/// Length and digest before each entry.
const HEAD_BYTES: usize = 4 + 16;

/// Entries, on disk.
pub(super) struct Spill {
    buckets: Vec<Bucket>,
    bucket_bytes: u64,
}

struct Bucket {
    file: BufWriter<File>,
    bytes: u64,
    /// The byte of the digest that its entries were spread by.
    level: usize,
}

/// Entries of some events, all that there are of each.
pub(super) type Entries = Vec<(u128, Entry)>;

impl Spill {
    /// Without entries, in the folder for temporary files.
    pub fn new() -> Result<Self, Failure> {
        Self::at_level(0, BUCKET_BYTES)
    }

    fn at_level(level: usize, bucket_bytes: u64) -> Result<Self, Failure> {
        let bucket = |_| {
            let file = tempfile::tempfile().map_err(|e| failed(&e))?;
            Ok(Bucket {
                file: BufWriter::with_capacity(BUFFER_BYTES, file),
                bytes: 0,
                level,
            })
        };
        let buckets = (0..BUCKETS).map(bucket).collect::<Result<_, Failure>>()?;
        Ok(Self {
            buckets,
            bucket_bytes,
        })
    }

    /// Adds an entry, before the first is handed out.
    pub fn add(&mut self, entry: &Entry) -> Result<(), Failure> {
        let (id, event_type) = match entry {
            Entry::Row(row) => (&row.id, &row.event_type),
            Entry::Sighting(sighting) => (&sighting.id, &sighting.event_type),
        };
        let bytes = postcard::to_stdvec(entry)
            .map_err(|e| Failure::caused("internal", "writing down an entry", &e))?;
        self.write(digest(event_type, id), &bytes)
    }

    fn write(&mut self, digest: u128, bytes: &[u8]) -> Result<(), Failure> {
        let key = digest.to_be_bytes();
        let level = self.buckets.first().map_or(0, |bucket| bucket.level);
        let byte = key.get(level).copied().unwrap_or_default();
        let Some(bucket) = self.buckets.get_mut(usize::from(byte) % BUCKETS) else {
            return Err(Failure::new("internal", "an entry comes too late"));
        };
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut write = |part: &[u8]| bucket.file.write_all(part).map_err(|e| failed(&e));
        write(&length.to_be_bytes())?;
        write(&key)?;
        write(bytes)?;
        bucket.bytes += (HEAD_BYTES + bytes.len()) as u64;
        Ok(())
    }

    /// The next entries, bucket by bucket; `None` when there are no more. What was handed out is
    /// gone from the disk.
    pub fn next(&mut self) -> Result<Option<Entries>, Failure> {
        while let Some(bucket) = self.buckets.pop() {
            let finer = bucket.level + 1;
            let is_large = bucket.bytes > self.bucket_bytes && finer < LEVELS;
            let file = bucket.file.into_inner().map_err(|e| failed(e.error()))?;
            if is_large {
                self.spread(file, finer)?;
            } else if bucket.bytes > 0 {
                return entries(file).map(Some);
            }
        }
        Ok(None)
    }

    fn spread(&mut self, file: File, level: usize) -> Result<(), Failure> {
        let mut finer = Self::at_level(level, self.bucket_bytes)?;
        each(file, |digest, bytes| finer.write(digest, bytes))?;
        let filled = finer.buckets.into_iter().filter(|bucket| bucket.bytes > 0);
        self.buckets.extend(filled);
        Ok(())
    }
}

fn entries(file: File) -> Result<Entries, Failure> {
    let mut entries = Vec::new();
    each(file, |digest, bytes| {
        let entry = postcard::from_bytes(bytes)
            .map_err(|e| Failure::caused("internal", "reading an entry back", &e))?;
        entries.push((digest, entry));
        Ok(())
    })?;
    Ok(entries)
}

fn each(
    mut file: File,
    mut show: impl FnMut(u128, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    file.seek(SeekFrom::Start(0)).map_err(|e| failed(&e))?;
    let mut reader = BufReader::new(file);
    let mut bytes = Vec::new();
    loop {
        let mut length = [0; 4];
        match reader.read_exact(&mut length) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(failed(&e)),
        }
        let mut key = [0; 16];
        reader.read_exact(&mut key).map_err(|e| failed(&e))?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        bytes.resize(length, 0);
        reader.read_exact(&mut bytes).map_err(|e| failed(&e))?;
        show(u128::from_be_bytes(key), &bytes)?;
    }
}

fn failed(error: &std::io::Error) -> Failure {
    let folder = std::env::temp_dir();
    let attempt = format!("keeping what is compared in {}", folder.display());
    Failure::caused("audit-disk", &attempt, error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;

    use super::super::entry::{Mapped, Row, State};
    use super::*;

    fn row(number: usize) -> Entry {
        Entry::Row(Row {
            table: 0,
            id: number.to_string(),
            event_type: "t".into(),
            state: State::Sent,
            at_ms: Some(5),
            mapped: Mapped::Nothing(String::new()),
        })
    }

    /// Every event comes back once with all of its entries together; how many of the parts are larger
    /// than `bucket_bytes`.
    fn check(events: usize, bucket_bytes: u64) -> usize {
        let mut spill = Spill::at_level(0, bucket_bytes).unwrap();
        for number in (0..events).chain(0..events) {
            spill.add(&row(number)).unwrap();
        }
        let (mut seen, mut large) = (HashMap::new(), 0);
        while let Some(entries) = spill.next().unwrap() {
            let mut here: HashMap<u128, usize> = HashMap::new();
            let mut bytes = 0;
            for (digest, entry) in &entries {
                *here.entry(*digest).or_default() += 1;
                bytes += (HEAD_BYTES + postcard::to_stdvec(entry).unwrap().len()) as u64;
            }
            large += usize::from(bytes > bucket_bytes);
            for (digest, count) in here {
                assert_eq!(count, 2, "an event is torn apart");
                assert!(seen.insert(digest, ()).is_none(), "an event comes twice");
            }
        }
        assert_eq!(seen.len(), events);
        large
    }

    #[test]
    fn what_belongs_together_comes_together() {
        check(0, BUCKET_BYTES);
        check(1_000, BUCKET_BYTES);
    }

    #[test]
    fn large_buckets_are_spread() {
        assert_eq!(check(3_000, 400), 0);
    }

    #[test]
    fn one_event_is_never_torn_apart() {
        let mut spill = Spill::at_level(0, 100).unwrap();
        for _ in 0..50 {
            spill.add(&row(1)).unwrap();
        }
        assert_eq!(spill.next().unwrap().unwrap().len(), 50);
        assert!(spill.next().unwrap().is_none());
    }
}

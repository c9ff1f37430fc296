//! Hands the dead letters that a request names to the pipeline, in order.

use std::collections::BTreeMap;

use delivery::{Command, Filter, Request};
use envelope::dead_letter::Entry;
use tokio::sync::mpsc;

use super::{Index, Letter, Place, Reader};
use crate::config::Pipeline;
use crate::failure::Failure;

/// Letters that are read ahead.
const AHEAD: usize = 64;
/// Letters that are looked up together.
const CHUNK: usize = 500;

/// Which letters.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The request that wants them: what it has dead-lettered again is not wanted.
    request: String,
    service: Option<String>,
    filter: Filter,
    /// They are dropped rather than published.
    pub drops: bool,
}

impl Wanted {
    /// What a request names; `None` if it is not about dead letters.
    pub fn by(request: &Request) -> Option<Self> {
        let (filter, drops) = match request.command.as_ref().ok()? {
            Command::DlqReplay { filter } => (filter.clone(), false),
            Command::DlqDrop { filter } => (filter.clone(), true),
            Command::DlqRelease { service, key } => {
                let filter = Filter {
                    service: Some(service.clone()),
                    key: Some(key.clone()),
                    ..Filter::default()
                };
                (filter, false)
            }
            Command::Replay => return None,
        };
        Some(Self {
            request: request.id.clone(),
            service: filter.service.clone(),
            filter,
            drops,
        })
    }

    fn takes(&self, letter: &Letter, entry: &Entry<'_>) -> bool {
        let place = letter.place();
        entry.request != self.request && self.filter.matches(entry, letter.key.as_deref(), &place)
    }
}

/// The letters, read by a thread of its own that ends with it.
pub struct Letters {
    letters: mpsc::Receiver<Result<Letter, Failure>>,
    /// They are dropped rather than published.
    pub drops: bool,
}

impl Letters {
    /// Begins to read.
    pub fn start(pipeline: &Pipeline, wanted: Wanted) -> Self {
        let (sender, letters) = mpsc::channel(AHEAD);
        let pipeline = pipeline.clone();
        let drops = wanted.drops;
        tokio::task::spawn_blocking(move || {
            if let Err(failure) = read(&pipeline, &wanted, &sender) {
                let _ = sender.blocking_send(Err(failure));
            }
        });
        Self { letters, drops }
    }

    /// The next letter; `None` after the last one; cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Letter, Failure>> {
        self.letters.recv().await
    }
}

fn read(
    pipeline: &Pipeline,
    wanted: &Wanted,
    sender: &mpsc::Sender<Result<Letter, Failure>>,
) -> Result<(), Failure> {
    let reader = Reader::open(pipeline)?;
    let takes = |letter: &Letter, entry: &Entry<'_>| wanted.takes(letter, entry);
    let topics = super::topics(pipeline, wanted.service.as_deref());
    let index = Index::build(&reader, topics, takes)?;
    for chunk in index.places.chunks(CHUNK) {
        for letter in look_up(&reader, &index.topics, chunk)? {
            if sender.blocking_send(Ok(letter)).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The letters at these places, in their order.
fn look_up(reader: &Reader, topics: &[String], places: &[Place]) -> Result<Vec<Letter>, Failure> {
    let mut ranges: BTreeMap<(usize, i32), (i64, i64)> = BTreeMap::new();
    let mut order = BTreeMap::new();
    for (rank, place) in places.iter().enumerate() {
        let range = ranges
            .entry((place.topic, place.partition))
            .or_insert((place.offset, place.offset));
        *range = (range.0.min(place.offset), range.1.max(place.offset));
        order.insert((place.topic, place.partition, place.offset), rank);
    }
    let mut found = BTreeMap::new();
    for ((topic, partition), (first, last)) in ranges {
        let Some(name) = topics.get(topic) else {
            continue;
        };
        reader.range(name, partition, first..last + 1, |letter| {
            if let Some(rank) = order.get(&(topic, partition, letter.offset)) {
                found.insert(*rank, letter);
            }
            Ok(())
        })?;
    }
    Ok(found.into_values().collect())
}

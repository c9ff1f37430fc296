//! Hands the dead letters that a request names to the pipeline, in order.

use delivery::{Command, Filter, Place, Request};
use envelope::dead_letter::Entry;
use tokio::sync::mpsc;

use super::{Index, Letter, Reader};
use crate::config::Pipeline;
use crate::failure::Failure;

/// Letters that are read ahead.
const AHEAD: usize = 8;
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
            Command::Replay { .. } => return None,
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
    letters: mpsc::Receiver<Result<Option<Letter>, Failure>>,
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
    pub async fn next(&mut self) -> Result<Option<Letter>, Failure> {
        let ended = || Failure::new("internal", "reading dead letters has panicked");
        self.letters.recv().await.unwrap_or_else(|| Err(ended()))
    }
}

fn read(
    pipeline: &Pipeline,
    wanted: &Wanted,
    sender: &mpsc::Sender<Result<Option<Letter>, Failure>>,
) -> Result<(), Failure> {
    let reader = Reader::open(pipeline)?;
    let takes = |letter: &Letter, entry: &Entry<'_>| wanted.takes(letter, entry);
    let goes_on = || match sender.is_closed() {
        true => Err(abandoned()),
        false => Ok(()),
    };
    let topics = pipeline.dead_letter_topics(wanted.service.as_deref());
    let topics = topics.into_iter().map(str::to_owned).collect();
    let index = Index::build(&reader, topics, takes, goes_on)?;
    let mut hand_over = |letter| {
        let taken = sender.blocking_send(Ok(Some(letter)));
        taken.map_err(|_| abandoned())
    };
    for chunk in index.places.chunks(CHUNK) {
        hand_over_chunk(&reader, &index.topics, chunk, &mut hand_over)?;
    }
    // Who reads knows that this was all, and not the end of this thread.
    let _ = sender.blocking_send(Ok(None));
    Ok(())
}

/// Whoever wanted the letters is gone: nobody hears of this.
fn abandoned() -> Failure {
    Failure::new("internal", "nobody takes the dead letters any more")
}

/// Hands the letters at these places over, in their order, without holding them.
fn hand_over_chunk(
    reader: &Reader,
    topics: &[String],
    places: &[Place],
    hand_over: &mut impl FnMut(Letter) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut rest = places;
    while let Some(first) = rest.first() {
        let run = run_length(rest);
        let (run, behind) = rest.split_at(run);
        rest = behind;
        let (Some(topic), Some(last)) = (topics.get(first.topic), run.last()) else {
            continue;
        };
        let mut wanted = run.iter().map(|place| place.offset).peekable();
        reader.range(
            topic,
            first.partition,
            first.offset..last.offset + 1,
            |letter| match wanted.next_if_eq(&letter.offset) {
                Some(_) => hand_over(letter),
                None => Ok(()),
            },
        )?;
        if let Some(offset) = wanted.next() {
            let message = format!("{topic}: the entry at offset {offset} is gone");
            return Err(Failure::new("kafka-unreachable", message));
        }
    }
    Ok(())
}

/// How many of the first places stand behind each other in one partition.
fn run_length(places: &[Place]) -> usize {
    let follows = |pair: &[Place]| match pair {
        [one, next] => {
            (one.topic, one.partition) == (next.topic, next.partition) && one.offset < next.offset
        }
        _ => false,
    };
    1 + places.windows(2).take_while(|pair| follows(pair)).count()
}

//! What outlives a session: Kafka, the tables, the slot, the lists of feeds.
#![allow(dead_code)]

mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use delivery::{
    Checkpoint, Delivery, Exception, Exceptions, Fed, FeedProgress, Lessons, Marks, OnDeadLetter,
    Outcome, Recording, Resume, Settings, WriteBack,
};
use envelope::{Fate, RecordBatch, TableSpec, TopicPolicy};
use pgoutput::Lsn;

use crate::bench;
use session::Session;

pub const A: &str = "00000000-0000-0000-0000-00000000000a";
pub const B: &str = "00000000-0000-0000-0000-00000000000b";
pub const C: &str = "00000000-0000-0000-0000-00000000000c";
/// They have no type.
pub const UNMAPPABLE: [&str; 2] = ["a1", "b3"];
/// The brokers take them in no topic.
pub const REFUSED: &str = "a6";
/// They have the key of the first dead one.
pub const SAME_KEY: [&str; 3] = ["a5", "b2", "s9"];
/// Is deleted before it is read.
pub const GONE: &str = "a7";

/// What the server sends.
#[derive(Debug, Clone)]
pub enum Sent {
    Begin(u64),
    Row(String),
    /// Of that slot: publish the feed again.
    Request(&'static str, &'static str),
    Commit(u64),
    Keepalive(u64),
}

/// How a session ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Kill,
    Drain,
}

pub struct World {
    pub settings: Settings,
    pub checkpoint: Option<Checkpoint>,
    pub exceptions: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Ids and whether they went to the dead letters.
    pub published: Vec<(String, bool)>,
    /// What the tables were told first.
    pub told: BTreeMap<String, &'static str>,
    pub slot: Lsn,
    /// The ids of a feed, until its list is deleted.
    pub lists: BTreeMap<String, Vec<String>>,
    pub stream: Vec<Sent>,
    /// The tables are locked now and then.
    pub locks: bool,
    /// The tables are written to only when nothing else can be done.
    pub writes_last: bool,
    /// What the brokers refuse.
    pub refused: BTreeSet<&'static str>,
    lessons: Option<Lessons>,
    random: u64,
}

pub fn list(letter: &str, rows: u64) -> Vec<String> {
    (1..=rows).map(|n| format!("{letter}{n}")).collect()
}

/// A transaction of rows and requests, and the keepalive behind it.
pub fn transaction(commit: u64, rows: &[Sent]) -> Vec<Sent> {
    let mut sent = vec![Sent::Begin(commit)];
    sent.extend(rows.iter().cloned());
    sent.extend([Sent::Commit(commit), Sent::Keepalive(commit + 9)]);
    sent
}

pub fn row(id: &str) -> Sent {
    Sent::Row(id.to_owned())
}

impl World {
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            checkpoint: None,
            exceptions: BTreeMap::new(),
            published: Vec::new(),
            told: BTreeMap::new(),
            slot: Lsn::from(5),
            lists: BTreeMap::new(),
            stream: Vec::new(),
            locks: false,
            writes_last: false,
            refused: BTreeSet::new(),
            lessons: None,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// A feed that comes before the stream.
    pub fn begin_with(&mut self, request: &str) {
        let mut bench = bench::Bench::new(self.settings.clone(), &Resume::default());
        bench.keepalive(self.slot.as_u64(), true);
        let mut first = match bench.produced.pop() {
            Some((_, _, checkpoint)) => checkpoint.unwrap(),
            None => bench.records.pop().unwrap(),
        };
        first.confirmed_up_to = self.slot;
        first.feed = Some(FeedProgress {
            request: request.to_owned(),
            rows: u64::try_from(self.lists[request].len()).unwrap(),
            fed: Fed::default(),
        });
        self.checkpoint = Some(first);
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % u64::try_from(bound).unwrap()).unwrap()
    }

    fn resume(&self) -> Resume {
        let mut exceptions = Exceptions::default();
        for value in self.exceptions.values() {
            assert!(exceptions.take(value));
        }
        let checkpoint = self.checkpoint.clone();
        Resume {
            position: checkpoint.as_ref().and_then(|c| c.position),
            confirmed_up_to: checkpoint.as_ref().map_or(self.slot, |c| c.confirmed_up_to),
            slot_confirmed: self.slot,
            feed: checkpoint.and_then(|c| c.feed),
            exceptions,
            ..Resume::default()
        }
    }

    fn record(&mut self, checkpoint: Option<Checkpoint>, exceptions: Vec<Exception>) {
        if checkpoint.is_some() {
            self.checkpoint = checkpoint;
        }
        for exception in exceptions {
            match exception.value() {
                Some(value) => self.exceptions.insert(exception.key(), value),
                None => self.exceptions.remove(&exception.key()),
            };
        }
    }

    fn publish(&mut self, batch: &RecordBatch) {
        let events = batch.iter().filter(|record| record.fate != Fate::None);
        let events = events.map(|record| {
            let is_dead = matches!(record.fate, Fate::Dead { .. });
            (record.event_id.to_owned(), is_dead)
        });
        self.published.extend(events);
    }

    fn tell(&mut self, marks: &Marks) {
        let only_failures = self.settings.tables[0].write_back == WriteBack::Failures;
        for mark in marks.iter() {
            let word = match mark.outcome {
                Outcome::Failed { .. } => "FAILED",
                Outcome::Sent | Outcome::Revived | Outcome::Fed => "SENT",
            };
            let before = self.told.get(mark.id).copied();
            let is_written = match mark.outcome {
                Outcome::Failed { .. } | Outcome::Sent => before.is_none(),
                Outcome::Fed if only_failures => before.is_some(),
                Outcome::Revived | Outcome::Fed => true,
            };
            if is_written {
                self.told.insert(mark.id.to_owned(), word);
            }
        }
    }

    /// What the server sends a new session. Where it has nothing to say, it may not say so.
    fn sent(&mut self) -> Vec<Sent> {
        let slot = self.slot.as_u64();
        let last = self.stream.len().saturating_sub(1);
        let mut sent = Vec::new();
        let mut is_past = false;
        for (n, one) in self.stream.clone().into_iter().enumerate() {
            if let Sent::Begin(commit) = one {
                is_past = commit < slot;
            }
            let is_sent = match one {
                Sent::Keepalive(_) => n == last || (!is_past && self.below(2) == 0),
                _ => !is_past,
            };
            if is_sent {
                sent.push(one);
            }
        }
        sent
    }

    /// Runs until it ends after `steps`, or nothing is left to be done: then `true`.
    pub fn session(&mut self, steps: usize, end: End) -> bool {
        let now = Instant::now();
        let (specs, policy) = (vec![TableSpec::default()], TopicPolicy::default());
        let settings = self.settings.clone();
        let verified = Lsn::from(u64::MAX);
        let resume = self.resume();
        let lessons = self.lessons.take().unwrap_or_else(|| bench::lessons(0));
        let delivery = Delivery::new(settings, specs, policy, resume, lessons, verified, now);
        let stream = self.sent();
        let mut session = Session::new(self, delivery, stream, now);
        session.announce();
        let is_over = (0..steps).any(|_| !session.step());
        let wants_another = session.wants_another();
        if end == End::Drain && !is_over {
            session.drain();
        }
        if end == End::Drain || is_over {
            let lessons = session.into_lessons();
            self.lessons = Some(lessons);
        }
        is_over && !wants_another
    }

    pub fn is_dead(&self, id: &str) -> bool {
        let parks = self.settings.tables[0].on_dead_letter == OnDeadLetter::ParkKey;
        UNMAPPABLE.contains(&id) || self.refused.contains(id) || (parks && SAME_KEY.contains(&id))
    }

    /// Everything is published and told, and nothing is left behind.
    pub fn check(&self, wanted: &[String], name: &str) {
        let feed = &self.checkpoint.as_ref().unwrap().feed;
        assert_eq!(*feed, None, "{name}: the feed is forgotten");
        assert_eq!(self.lists.len(), 0, "{name}: the lists are deleted");
        let stale = |key: &&Vec<u8>| key.starts_with(b"dead/0/0:");
        assert_eq!(self.exceptions.keys().find(stale), None, "{name}");
        let mut wanted: Vec<_> = wanted
            .iter()
            .filter(|id| *id != GONE)
            .map(|id| (id.clone(), self.is_dead(id)))
            .collect();
        wanted.sort();
        let mut published = self.published.clone();
        published.sort();
        if self.settings.recording != Recording::InTransaction {
            published.dedup();
        }
        assert_eq!(published, wanted, "{name}");
        for (id, is_dead) in wanted {
            let state = match (self.settings.tables[0].write_back, is_dead) {
                (WriteBack::All, false) => Some("SENT"),
                (WriteBack::All | WriteBack::Failures, true) => Some("FAILED"),
                (WriteBack::Failures, false) | (WriteBack::Off, _) => None,
            };
            assert_eq!(self.told.get(&id).copied(), state, "{name}: {id}");
        }
    }
}

//! Feeds, with the session killed after every step: each row is published once, and its table told.
#![allow(clippy::unwrap_used, missing_docs)]

mod bench;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bench::{TABLE, column, lessons, with, writing_back};
use delivery::{
    Action, Answer, Checkpoint, Delivery, Exception, Exceptions, Fed, FedRow, FeedProgress, Halt,
    Marks, MarksId, Outcome, Recording, Resume, Settings, WindowId,
};
use envelope::{Fate, RecordBatch, TableId, TableSpec, TopicPolicy};
use pgoutput::{
    Begin, Commit, CommitLsn, EndLsn, Lsn, Message, PgTimestamp, Relation, Value, encode, oid,
    parse,
};

const ROWS: u64 = 7;
/// Has no type: it is a dead letter.
const DEAD: u64 = 3;
/// Is deleted before it is read.
const GONE: u64 = 7;
const CONTROL: u32 = 9;
const REQUEST: &str = "00000000-0000-0000-0000-00000000000a";

/// What outlives a session.
struct World {
    settings: Settings,
    checkpoint: Option<Checkpoint>,
    exceptions: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Ids and whether they went to the dead letters.
    published: Vec<(String, bool)>,
    /// What the tables were told first.
    told: BTreeMap<String, &'static str>,
    slot: Lsn,
    list: bool,
    /// The feed is asked for in the stream.
    controlled: bool,
    random: u64,
}

/// What a session waits for.
#[derive(Default)]
struct Outside {
    producing: VecDeque<(WindowId, RecordBatch, Option<Checkpoint>, Vec<Exception>)>,
    acknowledged: VecDeque<(RecordBatch, Option<Checkpoint>, Vec<Exception>)>,
    commits: VecDeque<WindowId>,
    record: Option<(Checkpoint, Vec<Exception>)>,
    marks: VecDeque<(MarksId, Marks)>,
    feed: Option<VecDeque<u64>>,
    discard: bool,
    stream: VecDeque<u64>,
    /// The session wants another one in its place.
    stopped: bool,
}

impl World {
    fn new(settings: Settings, controlled: bool, seed: u64) -> Self {
        let mut world = Self {
            settings,
            checkpoint: None,
            exceptions: BTreeMap::new(),
            published: Vec::new(),
            told: BTreeMap::new(),
            slot: Lsn::from(5),
            list: true,
            controlled,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        };
        if !controlled {
            // What a backfill begins with.
            let mut first = world.settled_checkpoint();
            first.feed = Some(FeedProgress {
                request: REQUEST.into(),
                rows: ROWS,
                fed: Fed::default(),
            });
            world.checkpoint = Some(first);
        }
        world
    }

    fn settled_checkpoint(&self) -> Checkpoint {
        let mut bench = bench::Bench::new(self.settings.clone(), &Resume::default());
        bench.keepalive(5, true);
        match bench.produced.pop() {
            Some((_, _, checkpoint)) => checkpoint.unwrap(),
            None => bench.records.pop().unwrap(),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
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
        for mark in marks.iter() {
            let word = match mark.outcome {
                Outcome::Failed { .. } => "FAILED",
                Outcome::Sent | Outcome::Revived => "SENT",
            };
            self.told.entry(mark.id.to_owned()).or_insert(word);
        }
    }

    /// Runs until it is killed after `steps`, or nothing is left to be done: then `true`.
    fn session(&mut self, steps: usize) -> bool {
        let now = Instant::now();
        let (specs, policy) = (vec![TableSpec::default()], TopicPolicy::default());
        let settings = self.settings.clone();
        let verified = Lsn::from(u64::MAX);
        let resume = self.resume();
        let delivery = Delivery::new(settings, specs, policy, resume, lessons(0), verified, now);
        let stream = match self.slot.as_u64() {
            0..=10 => 0..,
            11..=20 => 8..,
            _ => 11..,
        };
        let mut session = Session {
            world: self,
            delivery,
            outside: Outside {
                stream: stream.take_while(|n| *n < 11).collect(),
                ..Outside::default()
            },
            now,
        };
        session.announce();
        (0..steps).any(|_| !session.step()) && !session.outside.stopped
    }

    fn check(&mut self, told: &str) {
        let feed = &self.checkpoint.as_ref().unwrap().feed;
        assert_eq!(*feed, None, "{told}: the feed is forgotten");
        assert!(!self.list, "{told}: its list is deleted");
        let mut ids: Vec<_> = (1..=ROWS)
            .filter(|n| *n != GONE)
            .map(|n| format!("f{n}"))
            .collect();
        ids.extend(["s1", "s2", "s3"].map(str::to_owned));
        let once = self.settings.recording == Recording::InTransaction;
        self.published.sort();
        if !once {
            self.published.dedup();
        }
        let wanted: Vec<_> = ids
            .iter()
            .map(|id| (id.clone(), *id == format!("f{DEAD}")))
            .collect();
        assert_eq!(self.published, wanted, "{told}");
        for (id, is_dead) in wanted {
            let state = if is_dead { "FAILED" } else { "SENT" };
            assert_eq!(self.told.get(&id), Some(&state), "{told}: {id}");
        }
    }
}

struct Session<'a> {
    world: &'a mut World,
    delivery: Delivery,
    outside: Outside,
    now: Instant,
}

impl Session<'_> {
    fn announce(&mut self) {
        let columns = vec![
            column("id", oid::TEXT),
            column("event_type", oid::TEXT),
            column("payload", oid::JSONB),
        ];
        let outbox = relation(TABLE, "public", "outbox", columns);
        self.delivery.handle_fed_relation(&outbox).unwrap();
        let control = ["request_id", "slot", "requested_by", "command"];
        let control = control.map(|name| column(name, oid::TEXT)).to_vec();
        for relation in [outbox, relation(CONTROL, "outboxd", "control", control)] {
            let mut bytes = Vec::new();
            encode::relation(&mut bytes, &relation);
            self.message(&bytes);
        }
    }

    fn message(&mut self, bytes: &[u8]) {
        let message = parse(bytes).unwrap();
        self.delivery.handle_message(message, self.now).unwrap();
    }

    fn insert(&mut self, oid: u32, row: &[&str]) {
        let mut bytes = Vec::new();
        encode::insert(&mut bytes, oid, &values(row));
        self.message(&bytes);
    }

    /// The stream: two transactions, the first with the request in its midst, and the end.
    fn streamed(&mut self, n: u64) {
        let controlled = self.world.controlled;
        let command = format!(r#"{{"command":"replay","rows":{ROWS}}}"#);
        match n {
            0 | 8 => {
                let (commit, xid) = if n == 0 { (10, 1) } else { (20, 2) };
                let begin = Begin {
                    final_lsn: CommitLsn(Lsn::from(commit)),
                    commit_time: PgTimestamp(0),
                    xid,
                };
                self.delivery
                    .handle_message(Message::Begin(begin), self.now)
                    .unwrap();
            }
            1 => self.insert(TABLE, &["s1", "transfers.settled", "{}"]),
            2 if controlled => {
                // Another relay's.
                self.insert(CONTROL, &[REQUEST, "another", "alice", &command]);
            }
            3 if controlled => self.insert(CONTROL, &[REQUEST, "outboxd", "alice", &command]),
            4 => self.insert(TABLE, &["s2", "transfers.settled", "{}"]),
            9 => self.insert(TABLE, &["s3", "transfers.settled", "{}"]),
            5 | 10 => {
                let commit = if n == 5 { 10 } else { 20 };
                let commit = Commit {
                    flags: 0,
                    commit_lsn: CommitLsn(Lsn::from(commit)),
                    end_lsn: EndLsn(Lsn::from(commit + 5)),
                    commit_time: PgTimestamp(0),
                };
                self.delivery
                    .handle_message(Message::Commit(commit), self.now)
                    .unwrap();
            }
            _ => {}
        }
    }

    fn fed(&mut self, ordinal: u64) {
        let id = format!("f{ordinal}");
        let mut row = vec![id.as_str(), "transfers.settled", "{}"];
        if ordinal == DEAD {
            row[1] = "";
        }
        let mut bytes = Vec::new();
        encode::insert(&mut bytes, TABLE, &values(&row));
        let Message::Insert(insert) = parse(&bytes).unwrap() else {
            panic!("no insert");
        };
        let fed = FedRow {
            table: TableId(0),
            ordinal,
            time: PgTimestamp(0),
            tuple: insert.tuple,
        };
        self.delivery.handle_fed_row(&fed, self.now).unwrap();
    }

    fn poll(&mut self) {
        while let Some(action) = self.delivery.poll_action() {
            let outside = &mut self.outside;
            match action {
                Action::Produce {
                    window,
                    batch,
                    checkpoint,
                    exceptions,
                } => outside
                    .producing
                    .push_back((window, batch, checkpoint, exceptions)),
                Action::Commit { window } => outside.commits.push_back(window),
                Action::Record {
                    checkpoint,
                    exceptions,
                } => outside.record = Some((checkpoint, exceptions)),
                Action::Ask { topic } => {
                    let answer = Answer::Usable { max_bytes: 1 << 20 };
                    self.delivery.handle_answer(&topic, &answer, 1.0, self.now);
                }
                Action::WriteBack { id, marks } => outside.marks.push_back((id, marks)),
                Action::Feed { feed } => {
                    assert!(self.world.list, "the list is still needed");
                    let ordinals = feed.fed.marked + 1..=feed.rows;
                    outside.feed = Some(ordinals.filter(|n| *n != GONE).collect());
                }
                Action::Discard { .. } => outside.discard = true,
                Action::Confirm(lsn) => self.world.slot = self.world.slot.max(lsn.lsn()),
                Action::Stop(Halt::WriteBackBehind) => outside.stopped = true,
                Action::Serve { .. } | Action::Stop(_) => panic!("{action:?}"),
            }
        }
    }

    /// One thing happens, whichever; `false` if nothing is left to happen.
    fn step(&mut self) -> bool {
        self.poll();
        if self.outside.stopped {
            return false;
        }
        let mut ways: Vec<fn(&mut Self)> = Vec::new();
        let outside = &self.outside;
        if !outside.producing.is_empty() {
            ways.push(Self::acknowledge);
        }
        if !outside.commits.is_empty() {
            ways.push(Self::commit);
        }
        if outside.record.is_some() {
            ways.push(Self::recorded);
        }
        if !outside.marks.is_empty() {
            ways.push(Self::written_back);
        }
        if outside.discard {
            ways.push(Self::discarded);
        }
        if outside.feed.is_some() && self.delivery.wants_more() {
            ways.push(Self::next_fed);
        }
        if !outside.stream.is_empty() && self.delivery.wants_input() {
            ways.push(Self::next_streamed);
        }
        if ways.is_empty() {
            return self.time_passes();
        }
        let way = self.world.below(ways.len());
        ways[way](self);
        self.poll();
        true
    }

    fn time_passes(&mut self) -> bool {
        self.delivery.handle_source_idle(self.now);
        self.poll();
        let due = self.delivery.poll_timeout();
        if let Some(due) = due {
            self.now = self.now.max(due) + Duration::from_millis(1);
            self.delivery.handle_timeout(self.now);
            self.poll();
        }
        let outside = &self.outside;
        let waits = !outside.producing.is_empty() || !outside.marks.is_empty();
        waits || outside.record.is_some() || outside.discard || due.is_some()
    }

    fn acknowledge(&mut self) {
        let (window, batch, checkpoint, exceptions) = self.outside.producing.pop_front().unwrap();
        if checkpoint.is_none() {
            self.world.publish(&batch);
        }
        self.outside
            .acknowledged
            .push_back((batch, checkpoint, exceptions));
        self.delivery.handle_acknowledged(window, self.now);
    }

    fn commit(&mut self) {
        let window = self.outside.commits.pop_front().unwrap();
        let (batch, checkpoint, exceptions) = self.outside.acknowledged.pop_front().unwrap();
        self.world.publish(&batch);
        self.world.record(checkpoint, exceptions);
        self.delivery.handle_committed(window, self.now);
    }

    fn recorded(&mut self) {
        let (checkpoint, exceptions) = self.outside.record.take().unwrap();
        self.world.record(Some(checkpoint), exceptions);
        self.delivery.handle_recorded(self.now);
    }

    fn written_back(&mut self) {
        let (id, marks) = self.outside.marks.pop_front().unwrap();
        self.world.tell(&marks);
        self.delivery.handle_written_back(id, marks, self.now);
    }

    fn discarded(&mut self) {
        self.outside.discard = false;
        self.world.list = false;
        self.delivery.handle_discarded(self.now);
    }

    fn next_fed(&mut self) {
        match self.outside.feed.as_mut().and_then(VecDeque::pop_front) {
            Some(ordinal) => self.fed(ordinal),
            None => {
                self.outside.feed = None;
                self.delivery.handle_feed_end(self.now);
            }
        }
    }

    fn next_streamed(&mut self) {
        let n = self.outside.stream.pop_front().unwrap();
        self.streamed(n);
    }
}

fn relation(oid: u32, schema: &str, name: &str, columns: Vec<pgoutput::Column>) -> Relation {
    Relation {
        oid,
        namespace: schema.into(),
        name: name.into(),
        replica_identity: b'd',
        columns,
    }
}

fn values<'a>(row: &[&'a str]) -> Vec<Value<'a>> {
    let value = |text: &&'a str| match *text {
        "" => Value::Null,
        text => Value::Text(text.as_bytes()),
    };
    row.iter().map(value).collect()
}

/// Enough for any session to come to its end.
const ENDLESS: usize = 10_000;

fn survives(settings: &Settings, controlled: bool) {
    for seed in 1..40 {
        for first in 0..60 {
            let mut world = World::new(settings.clone(), controlled, seed * 100 + first);
            let first = usize::try_from(first).unwrap();
            let second = world.below(40);
            let kills = [first, second];
            for kill in kills {
                world.session(kill);
            }
            assert!(world.session(ENDLESS), "{kills:?} of {seed} does not end");
            world.check(&format!("{kills:?} of {seed}"));
        }
    }
}

fn small_windows() -> Settings {
    let mut settings = writing_back();
    settings.max_events = 2;
    settings
}

#[test]
fn a_backfill_survives_a_kill_after_any_step() {
    survives(&small_windows(), false);
}

#[test]
fn a_replay_survives_a_kill_after_any_step() {
    survives(&small_windows(), true);
}

#[test]
fn without_transactions_each_row_is_published_at_least_once_and_told() {
    for controlled in [false, true] {
        let mut settings = small_windows();
        settings.recording = Recording::Beside;
        survives(&settings, controlled);
    }
}

#[test]
fn rows_that_do_not_fit_are_told_by_the_next_session() {
    let settings = with(|s| {
        *s = small_windows();
        s.max_pending_marks = 3;
    });
    for seed in 1..200 {
        let mut world = World::new(settings.clone(), seed % 2 == 0, seed);
        let ended = (0..10).any(|_| world.session(ENDLESS));
        assert!(ended, "{seed}");
        world.check(&format!("{seed}"));
    }
}

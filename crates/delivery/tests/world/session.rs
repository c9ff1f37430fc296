//! One session, in which whatever may happen next happens.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use delivery::{
    Action, Answer, Checkpoint, Delivery, Exception, Halt, Lessons, Marks, MarksId, Refusal,
    RefusalCause, WindowId,
};
use envelope::{Fate, RecordBatch};
use pgoutput::{
    Begin, Commit, CommitLsn, EndLsn, Lsn, Message, PgTimestamp, Relation, Value, encode, oid,
    parse,
};

use super::{GONE, SAME_KEY, Sent, UNMAPPABLE, World};
use crate::bench::{TABLE, column, hand_in_fed};

const CONTROL: u32 = 9;
/// The driver's.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// So many of them without anything else: longer than anything is waited for.
const QUIET: usize = 30;

/// What a session waits for.
#[derive(Default)]
struct Outside {
    producing: VecDeque<(WindowId, RecordBatch, Option<Checkpoint>, Vec<Exception>)>,
    acknowledged: VecDeque<(RecordBatch, Option<Checkpoint>, Vec<Exception>)>,
    commits: VecDeque<WindowId>,
    record: Option<(Checkpoint, Vec<Exception>)>,
    marks: VecDeque<(MarksId, Marks)>,
    feed: Option<VecDeque<(u64, String)>>,
    discard: Option<String>,
    stream: VecDeque<Sent>,
    /// The session wants another one in its place.
    stopped: bool,
    is_locked: bool,
    heartbeats: usize,
}

pub struct Session<'a> {
    world: &'a mut World,
    delivery: Delivery,
    outside: Outside,
    now: Instant,
}

impl<'a> Session<'a> {
    pub fn new(world: &'a mut World, delivery: Delivery, stream: Vec<Sent>, now: Instant) -> Self {
        let is_locked = world.locks && world.below(2) == 0;
        Self {
            world,
            delivery,
            outside: Outside {
                stream: stream.into(),
                is_locked,
                ..Outside::default()
            },
            now,
        }
    }

    pub fn wants_another(&self) -> bool {
        self.outside.stopped
    }

    pub fn into_lessons(self) -> Lessons {
        self.delivery.into_lessons()
    }

    pub fn announce(&mut self) {
        let columns = vec![
            column("id", oid::TEXT),
            column("event_type", oid::TEXT),
            column("payload", oid::JSONB),
            column("transfer_id", oid::TEXT),
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

    fn streamed(&mut self, sent: Sent) {
        match sent {
            Sent::Begin(commit) => {
                let begin = Begin {
                    final_lsn: CommitLsn(Lsn::from(commit)),
                    commit_time: PgTimestamp(0),
                    xid: u32::try_from(commit).unwrap(),
                };
                let begin = Message::Begin(begin);
                self.delivery.handle_message(begin, self.now).unwrap();
            }
            Sent::Row(id) => self.insert(TABLE, &columns_of(&id)),
            Sent::Request(slot, request) => {
                // Of a carried-out request the list may be gone.
                let rows = if request == super::A { 7 } else { 6 };
                let command = format!(r#"{{"command":"replay","rows":{rows}}}"#);
                self.insert(CONTROL, &[request, slot, "alice", &command]);
            }
            Sent::Commit(commit) => {
                let commit = Commit {
                    flags: 0,
                    commit_lsn: CommitLsn(Lsn::from(commit)),
                    end_lsn: EndLsn(Lsn::from(commit + 5)),
                    commit_time: PgTimestamp(0),
                };
                let commit = Message::Commit(commit);
                self.delivery.handle_message(commit, self.now).unwrap();
            }
            Sent::Keepalive(end) => {
                let end = Lsn::from(end);
                self.delivery
                    .handle_keepalive(end, false, self.now)
                    .unwrap();
            }
        }
    }

    fn fed(&mut self, ordinal: u64, id: &str) {
        let mut bytes = Vec::new();
        encode::insert(&mut bytes, TABLE, &values(&columns_of(id)));
        hand_in_fed(&mut self.delivery, ordinal, &bytes, self.now);
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
                    let list = self.world.lists.get(&feed.request);
                    let list = list.expect("the list is still needed");
                    assert_eq!(list.len(), usize::try_from(feed.rows).unwrap());
                    let rows = (1..).zip(list.iter().cloned());
                    let rows = rows.filter(|(n, id)| *n > feed.fed.marked && id != GONE);
                    outside.feed = Some(rows.collect());
                }
                Action::Discard { request } => outside.discard = Some(request),
                Action::Confirm(lsn) => self.world.slot = self.world.slot.max(lsn.lsn()),
                Action::Stop(Halt::WriteBackBehind) => outside.stopped = true,
                Action::Serve { .. } | Action::Stop(_) => panic!("{action:?}"),
            }
        }
    }

    /// Outcomes that Kafka and the tables tell.
    fn ways(&self) -> Vec<fn(&mut Self)> {
        let outside = &self.outside;
        let mut ways: Vec<fn(&mut Self)> = Vec::new();
        if !outside.producing.is_empty() {
            ways.push(Self::acknowledge);
        }
        if !outside.commits.is_empty() {
            ways.push(Self::commit);
        }
        if outside.record.is_some() {
            ways.push(Self::recorded);
        }
        let waits = outside.is_locked || (self.world.writes_last && !self.is_idle());
        if !outside.marks.is_empty() && !waits {
            ways.push(Self::written_back);
        }
        ways
    }

    /// Nothing is taken in.
    fn is_idle(&self) -> bool {
        self.outside.feed.is_none() || !self.delivery.wants_more()
    }

    /// One thing happens, whichever; `false` if nothing is left to happen.
    pub fn step(&mut self) -> bool {
        self.poll();
        if self.outside.stopped {
            return false;
        }
        let mut ways = self.ways();
        let outside = &self.outside;
        if outside.discard.is_some() {
            ways.push(Self::discarded);
        }
        if outside.feed.is_some() && self.delivery.wants_more() {
            ways.push(Self::next_fed);
        }
        if !outside.stream.is_empty() && self.delivery.wants_input() {
            ways.push(Self::next_streamed);
        }
        if self.world.below(8) == 0 {
            self.now += 2 * HEARTBEAT;
            self.delivery.handle_timeout(self.now);
            self.poll();
            ways = self.ways();
        }
        if self.world.locks && self.world.below(8) == 0 {
            self.outside.is_locked = !self.outside.is_locked;
            return true;
        }
        if ways.is_empty() {
            return self.time_passes();
        }
        let way = self.world.below(ways.len());
        ways[way](self);
        self.outside.heartbeats = 0;
        self.poll();
        true
    }

    /// What is under way ends; nothing else comes in.
    pub fn drain(&mut self) {
        self.outside.is_locked = false;
        self.delivery.handle_drain(self.now);
        self.poll();
        while !self.outside.stopped && !self.delivery.is_drained() {
            let ways = self.ways();
            assert_ne!(ways.len(), 0, "nothing is left to be waited for");
            let way = self.world.below(ways.len());
            ways[way](self);
            self.poll();
        }
    }

    fn time_passes(&mut self) -> bool {
        self.delivery.handle_source_idle(self.now);
        self.poll();
        let due = self.delivery.poll_timeout();
        let heartbeat = self.now + HEARTBEAT;
        self.now = due.map_or(heartbeat, |due| due.clamp(self.now, heartbeat));
        self.delivery.handle_timeout(self.now);
        self.poll();
        let again = self.delivery.poll_timeout();
        let spins = again.is_some_and(|again| again <= self.now) && self.ways().is_empty();
        assert!(!spins, "what is due is not done");
        self.outside.heartbeats += 1;
        if self.outside.heartbeats > QUIET {
            self.outside.is_locked = false;
        }
        self.outside.heartbeats <= 2 * QUIET
    }

    fn acknowledge(&mut self) {
        let (window, batch, checkpoint, exceptions) = self.outside.producing.pop_front().unwrap();
        let refused = &self.world.refused;
        let is_bad = |r: envelope::Record<'_>| r.fate == Fate::Sent && refused.contains(r.event_id);
        if batch.iter().any(is_bad) {
            let refusal = Refusal {
                topic: "transfers.settled".into(),
                cause: RefusalCause::Contents,
                reason: "no".into(),
                events: Vec::new(),
            };
            let halt = self.delivery.handle_refused(&refusal, self.now);
            assert!(halt.is_none(), "{halt:?}");
            self.outside.stopped = true;
            return;
        }
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
        let request = self.outside.discard.take().unwrap();
        self.world.lists.remove(&request);
        self.delivery.handle_discarded(self.now);
    }

    fn next_fed(&mut self) {
        match self.outside.feed.as_mut().and_then(VecDeque::pop_front) {
            Some((ordinal, id)) => self.fed(ordinal, &id),
            None => {
                self.outside.feed = None;
                self.delivery.handle_feed_end(self.now);
            }
        }
    }

    fn next_streamed(&mut self) {
        let sent = self.outside.stream.pop_front().unwrap();
        self.streamed(sent);
    }
}

/// Without a type it can't be mapped.
fn columns_of(id: &str) -> [&str; 4] {
    let event_type = match UNMAPPABLE.contains(&id) {
        true => "",
        false => "transfers.settled",
    };
    let key = match SAME_KEY.contains(&id) {
        true => UNMAPPABLE[0],
        false => id,
    };
    [id, event_type, "{}", key]
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

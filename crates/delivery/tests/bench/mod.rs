//! A state machine that is driven by hand.
#![allow(dead_code)]

pub mod control;

use std::time::{Duration, Instant};

use delivery::{
    Action, Answer, Checkpoint, Coverage, Delivery, Exception, FedRow, FeedProgress, Fingerprint,
    Halt, Identity, Lessons, Marks, MarksId, OnDeadLetter, Recording, Refusal, RefusalCause,
    Request, Resume, RetryPolicy, Settings, TablePolicy, TransactionPosition, WindowId, WriteBack,
};
use envelope::{Fate, Record, TableId, TableSpec, TopicPolicy, dead_letter};
use pgoutput::{
    Begin, Column, Commit, CommitLsn, EndLsn, Lsn, Message, PgTimestamp, Relation, Value,
};
use pgoutput::{encode, oid, parse};

pub const TABLE: u32 = 7;

pub struct Bench {
    pub delivery: Delivery,
    pub now: Instant,
    pub produced: Vec<(WindowId, usize, Option<Checkpoint>)>,
    pub commits: Vec<WindowId>,
    pub records: Vec<Checkpoint>,
    pub confirmed: Vec<u64>,
    /// Everything produced: topic, key, class of a dead letter.
    pub events: Vec<(String, String, String)>,
    /// Its values.
    pub values: Vec<String>,
    /// Names of its headers.
    pub headers: Vec<Vec<String>>,
    /// Of every dead letter: where its event was dead for the first time.
    pub origins: Vec<String>,
    pub exceptions: Vec<Exception>,
    pub asked: Vec<String>,
    pub marks: Vec<(MarksId, Marks)>,
    pub served: Vec<Request>,
    pub feeds: Vec<FeedProgress>,
    pub stopped: Option<Halt>,
    /// What is not usable.
    pub unusable: Vec<(String, Answer)>,
}

pub const DEAD_LETTERS: &str = "outbox.dead-letter";

pub fn settings() -> Settings {
    Settings {
        recording: Recording::InTransaction,
        producers: 2,
        max_events: 1000,
        max_bytes: 1 << 20,
        max_wait: Duration::from_millis(20),
        event_max_bytes: 1 << 20,
        tables: vec![TablePolicy {
            dead_letter_topic: DEAD_LETTERS.into(),
            on_dead_letter: OnDeadLetter::Continue,
            write_back: WriteBack::Off,
        }],
        dead_letter_max_bytes: 1 << 20,
        dead_letters_per_minute: 100,
        max_parked_keys: 10,
        max_pending_marks: 100,
        wall_clock: PgTimestamp(0),
        checkpoint_interval: Duration::from_secs(1),
        identity: Identity {
            system_identifier: "1".into(),
            timeline: 1,
            database: "app".into(),
            slot: "outboxd".into(),
        },
        fingerprint: Fingerprint::of("f"),
        coverage: Coverage::default(),
        transactional_id_prefix: "outboxd".into(),
        relay_version: "test".into(),
    }
}

fn outbox() -> Relation {
    Relation {
        oid: TABLE,
        namespace: "public".into(),
        name: "outbox".into(),
        replica_identity: b'd',
        columns: vec![
            column("id", oid::UUID),
            column("event_type", oid::TEXT),
            column("payload", oid::JSONB),
            column("transfer_id", oid::TEXT),
        ],
    }
}

impl Bench {
    pub fn new(settings: Settings, resume: &Resume) -> Self {
        Self::after(lessons(2), settings, resume)
    }

    pub fn verified_up_to(lsn: u64) -> Self {
        Self::start(lessons(2), settings(), &Resume::default(), Lsn::from(lsn))
    }

    /// A session that knows what an earlier one has learned.
    pub fn after(lessons: Lessons, settings: Settings, resume: &Resume) -> Self {
        Self::start(lessons, settings, resume, Lsn::from(u64::MAX))
    }

    fn start(lessons: Lessons, settings: Settings, resume: &Resume, verified: Lsn) -> Self {
        let now = Instant::now();
        let (tables, policy) = (vec![TableSpec::default()], TopicPolicy::default());
        let resume = resume.clone();
        let delivery = Delivery::new(settings, tables, policy, resume, lessons, verified, now);
        let mut bench = Self {
            delivery,
            now,
            produced: Vec::new(),
            commits: Vec::new(),
            records: Vec::new(),
            confirmed: Vec::new(),
            events: Vec::new(),
            values: Vec::new(),
            headers: Vec::new(),
            origins: Vec::new(),
            exceptions: Vec::new(),
            asked: Vec::new(),
            marks: Vec::new(),
            served: Vec::new(),
            feeds: Vec::new(),
            stopped: None,
            unusable: Vec::new(),
        };
        bench.relation();
        bench
    }

    pub fn fresh() -> Self {
        Self::new(settings(), &Resume::default())
    }

    pub fn relation(&mut self) {
        let mut bytes = Vec::new();
        encode::relation(&mut bytes, &outbox());
        self.feed(&bytes).unwrap();
    }

    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Halt> {
        let result = self
            .delivery
            .handle_message(parse(bytes).unwrap(), self.now);
        self.poll();
        result
    }

    pub fn begin(&mut self, lsn: u64) -> Result<(), Halt> {
        let begin = Begin {
            final_lsn: CommitLsn(Lsn::from(lsn)),
            commit_time: PgTimestamp(0),
            xid: 1,
        };
        let result = self
            .delivery
            .handle_message(Message::Begin(begin), self.now);
        self.poll();
        result
    }

    pub fn insert(&mut self) {
        self.insert_payload("{}").unwrap();
    }

    pub fn insert_payload(&mut self, payload: &str) -> Result<(), Halt> {
        self.insert_row("transfers.settled", "t1", payload)
    }

    /// A row of that type (and so for that topic) and key.
    pub fn insert_row(&mut self, event_type: &str, key: &str, payload: &str) -> Result<(), Halt> {
        self.feed(&inserted(event_type, key, payload))
    }

    /// The next row of a feed.
    pub fn fed_row(&mut self, ordinal: u64) {
        self.delivery.handle_fed_relation(&outbox()).unwrap();
        let bytes = inserted("transfers.settled", "t1", "{}");
        hand_in_fed(&mut self.delivery, ordinal, &bytes, self.now);
        self.poll();
    }

    pub fn commit(&mut self, lsn: u64) {
        let commit = Commit {
            flags: 0,
            commit_lsn: CommitLsn(Lsn::from(lsn)),
            end_lsn: EndLsn(Lsn::from(lsn + 5)),
            commit_time: PgTimestamp(0),
        };
        self.delivery
            .handle_message(Message::Commit(commit), self.now)
            .unwrap();
        self.poll();
    }

    /// A whole transaction.
    pub fn transaction(&mut self, lsn: u64, rows: usize) {
        self.begin(lsn).unwrap();
        for _ in 0..rows {
            self.insert();
        }
        self.commit(lsn);
    }

    pub fn keepalive(&mut self, lsn: u64, reply_requested: bool) {
        self.delivery
            .handle_keepalive(Lsn::from(lsn), reply_requested, self.now)
            .unwrap();
        self.poll();
    }

    pub fn idle(&mut self) {
        self.delivery.handle_source_idle(self.now);
        self.poll();
    }

    pub fn acknowledge(&mut self, window: u64) {
        self.delivery
            .handle_acknowledged(WindowId(window), self.now);
        self.poll();
    }

    pub fn committed(&mut self, window: u64) {
        self.delivery.handle_committed(WindowId(window), self.now);
        self.poll();
    }

    pub fn land(&mut self, window: u64) {
        self.acknowledge(window);
        self.committed(window);
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.delivery.handle_timeout(self.now);
        self.poll();
    }

    pub fn poll(&mut self) {
        while let Some(action) = self.delivery.poll_action() {
            match action {
                Action::Produce {
                    window,
                    batch,
                    checkpoint,
                    exceptions,
                } => {
                    self.produced.push((window, batch.len(), checkpoint));
                    let text = |bytes: Option<&[u8]>| {
                        String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
                    };
                    self.values
                        .extend(batch.iter().map(|record| text(record.value)));
                    let names = |record: Record<'_>| {
                        let names = record.headers().map(|(name, _)| name.to_owned());
                        names.collect()
                    };
                    self.headers.extend(batch.iter().map(names));
                    self.events.extend(batch.iter().map(|record| {
                        let class = text(record.header(dead_letter::CLASS));
                        (record.topic.to_owned(), text(record.key), class)
                    }));
                    let dead = batch.iter().filter(|r| matches!(r.fate, Fate::Dead { .. }));
                    let origin = |record: Record<'_>| -> String {
                        dead_letter::text(&record, dead_letter::ORIGIN).to_owned()
                    };
                    self.origins.extend(dead.map(origin));
                    self.exceptions.extend(exceptions);
                    self.delivery.recycle(batch);
                }
                Action::Commit { window } => self.commits.push(window),
                Action::Record {
                    checkpoint,
                    exceptions,
                } => {
                    self.records.push(checkpoint);
                    self.exceptions.extend(exceptions);
                }
                Action::Confirm(lsn) => self.confirmed.push(lsn.lsn().as_u64()),
                Action::Ask { topic } => self.answer(topic),
                Action::WriteBack { id, marks } => self.marks.push((id, marks)),
                Action::Serve { request } => self.served.push(request),
                Action::Feed { feed } => self.feeds.push(feed),
                Action::Discard { .. } => panic!("{action:?}"),
                Action::Stop(halt) => self.stopped = Some(halt),
            }
        }
    }

    fn answer(&mut self, topic: String) {
        let unusable = self.unusable.iter().find(|(name, _)| *name == topic);
        let usable = Answer::Usable { max_bytes: 1 << 20 };
        let answer = unusable.map_or(usable, |(_, answer)| answer.clone());
        self.delivery.handle_answer(&topic, &answer, 1.0, self.now);
        self.asked.push(topic);
    }

    /// The brokers refuse the window under way, for a record of that topic.
    pub fn refuse(&mut self, topic: &str, cause: RefusalCause) -> Option<Halt> {
        let refusal = Refusal {
            topic: topic.into(),
            cause,
            reason: "refused".into(),
            events: Vec::new(),
        };
        self.delivery.handle_refused(&refusal, self.now)
    }

    /// Topic and class of every event produced.
    pub fn fates(&self) -> Vec<(&str, &str)> {
        let events = self.events.iter();
        events
            .map(|(topic, _, class)| (topic.as_str(), class.as_str()))
            .collect()
    }

    /// Lets time pass until nothing is due any more.
    pub fn wait(&mut self) {
        for _ in 0..100 {
            let Some(due) = self.delivery.poll_timeout() else {
                return;
            };
            self.now = self.now.max(due);
            self.delivery.handle_timeout(self.now);
            self.poll();
        }
    }

    pub fn sizes(&self) -> Vec<usize> {
        self.produced.iter().map(|(_, size, _)| *size).collect()
    }

    pub fn last_checkpoint(&self) -> &Checkpoint {
        self.produced.last().unwrap().2.as_ref().unwrap()
    }
}

/// A refusal of a topic counts once it was repeated so often.
pub fn lessons(max_retries: u32) -> Lessons {
    let policy = RetryPolicy {
        initial: Duration::from_millis(100),
        max: Duration::from_secs(30),
        multiplier: 2.0,
    };
    Lessons::new(policy, max_retries)
}

/// A column of that type.
pub fn column(name: &str, type_oid: u32) -> Column {
    Column {
        flags: 0,
        name: name.into(),
        type_oid,
        type_modifier: -1,
    }
}

/// How far the checkpoint's transaction is published.
pub fn position(commit_lsn: u64, index: u64, complete: bool) -> TransactionPosition {
    TransactionPosition {
        commit_lsn: CommitLsn(Lsn::from(commit_lsn)),
        xid: 1,
        commit_time_us: PgTimestamp(0).unix_micros(),
        index,
        complete,
    }
}

/// Topic and class of an event that is published.
pub const GOOD: (&str, &str) = ("transfers.settled", "");

/// Topic and class of one that is dead.
pub fn dead(class: &'static str) -> (&'static str, &'static str) {
    (DEAD_LETTERS, class)
}

pub fn with(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = settings();
    change(&mut settings);
    settings
}

pub fn parking() -> Settings {
    with(|s| s.tables[0].on_dead_letter = OnDeadLetter::ParkKey)
}

pub fn writing_back() -> Settings {
    with(|s| s.tables[0].write_back = WriteBack::All)
}

/// An INSERT of a row of that type (none: NULL) and key.
fn inserted(event_type: &str, key: &str, payload: &str) -> Vec<u8> {
    let event_type = match event_type {
        "" => Value::Null,
        text => Value::Text(text.as_bytes()),
    };
    let row = [
        Value::Text(b"59a42efd-b015-44a9-9dde-cb36d9002425"),
        event_type,
        Value::Text(payload.as_bytes()),
        Value::Text(key.as_bytes()),
    ];
    let mut bytes = Vec::new();
    encode::insert(&mut bytes, TABLE, &row);
    bytes
}

/// A row of a feed, given as its INSERT.
pub fn hand_in_fed(delivery: &mut Delivery, ordinal: u64, inserted: &[u8], now: Instant) {
    let Message::Insert(insert) = parse(inserted).unwrap() else {
        panic!("no insert");
    };
    let row = FedRow {
        table: TableId(0),
        ordinal,
        time: PgTimestamp(0),
        tuple: insert.tuple,
    };
    delivery.handle_fed_row(&row, now).unwrap();
}

//! The state machine: inputs `handle_*`, outputs [`Delivery::poll_action`].

mod burial;
mod feeding;
mod intake;
mod serving;
mod windows;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use envelope::{RecordBatch, TableSpec, TopicPolicy};
use pgoutput::{Begin, Lsn, Message, PgTimestamp, Position, Relation};

pub use serving::Redelivered;

use feeding::Feed;
use serving::Serving;

use crate::clock::Clock;
use crate::exception::Held;
use crate::flight::Flight;
use crate::parking::Parking;
use crate::resume::Skipper;
use crate::transaction::OpenTransaction;
use crate::window::{Cut, OpenWindow};
use crate::write_back::WriteBacks;
use crate::{
    Action, Answer, DeadRow, Exception, Fed, Front, Halt, Lessons, Marks, MarksId, Opener,
    Progress, Recording, Refusal, RefusalCause, Resume, Settings, Tables, WindowId,
};

/// How many emptied buffers of each kind are kept for the next windows.
const SPARE_BUFFERS: usize = 4;

/// One session of a pipeline: from the start of the stream to its end, whatever ends it.
///
/// After any failure the driver drops it, and the next session resumes from the checkpoint.
#[derive(Debug)]
pub struct Delivery {
    settings: Settings,
    clock: Clock,
    lessons: Lessons,
    tables: Tables,
    /// What is published in the clear.
    opener: Option<Arc<dyn Opener>>,
    skipper: Skipper,
    transaction: Option<OpenTransaction>,
    window: OpenWindow,
    flight: Flight,
    front: Front,
    parking: Parking,
    /// Dead letters whose rows may not say so yet.
    dead: BTreeMap<Position, DeadRow>,
    /// Of rows that commit below it is not known any more whether they are dead letters.
    settled_below: Lsn,
    /// To be recorded beside the events with the next checkpoint.
    exceptions: Vec<Exception>,
    /// Those that are recorded, or handed out to be.
    held: Held,
    write_backs: WriteBacks,
    /// Rows that were published before this session, to be written back (again).
    skipped: Marks,
    /// Where the first of them begins.
    skipped_from: Option<Lsn>,
    /// Transactions whose rows did not fit there while the checkpoint's one was awaited.
    outgrown: Vec<Begin>,
    /// What is published beside the stream, which waits meanwhile.
    serving: Option<Serving>,
    /// The feed in the checkpoint.
    feed: Option<Feed>,
    /// What the last durable checkpoint says of it.
    recorded_fed: Option<Fed>,
    /// Recorded with every checkpoint as the session found them.
    whole_tables: BTreeSet<String>,
    /// What the checkpoint that the session began with covers.
    covered: Lsn,
    floor: Lsn,
    /// The stream has shown everything that commits below.
    shown: Lsn,
    /// Everything that commits below is in windows handed out by this session, or needed none.
    dealt_with: Lsn,
    /// What the newest window or checkpoint handed out covers.
    handed_out: Progress,
    /// What acknowledgements have made durable (only beside).
    durable: Progress,
    /// A checkpoint recorded beside the events.
    recording_now: Option<Progress>,
    /// Marks that wait until what they say is recorded (only beside).
    unrecorded: VecDeque<(MarksId, Marks)>,
    /// So many of them say what is in the record under way.
    being_recorded: usize,
    last_record: Instant,
    source_idle: bool,
    /// The server waits until this is confirmed.
    asked_for: Lsn,
    draining: bool,
    /// Nothing more is published: the driver has been told why.
    stopped: bool,
    /// The barrier stands before the open transaction.
    at_barrier: bool,
    /// A window was taken out and could not be produced: the boundary lies behind it.
    lost_window: bool,
    /// Since when marks have held up the stream.
    blocked_since: Option<Instant>,
    spare: Vec<RecordBatch>,
    spare_marks: Vec<Marks>,
    actions: VecDeque<Action>,
}

impl Delivery {
    /// Starts a session. `verified` is an LSN below which the publication is known to be intact.
    pub fn new(
        settings: Settings,
        specs: Vec<TableSpec>,
        policy: TopicPolicy,
        resume: Resume,
        lessons: Lessons,
        verified: Lsn,
        now: Instant,
    ) -> Self {
        // The checkpoint covers more than the slot, but that it speaks of this server's log has to
        // be seen first: the slot of a restored server must not be moved past what reuses LSNs.
        let start = Progress {
            position: resume.position,
            confirm: resume.slot_confirmed,
            fed: resume.feed.as_ref().map(|feed| feed.fed),
        };
        let recorded = Progress {
            confirm: resume.confirmed_up_to,
            ..start
        };
        // Beside the events the first checkpoint is due at once: a relay that dies young, again and
        // again, would otherwise repeat the same events each time.
        let last_record = match settings.recording {
            Recording::Beside => now.checked_sub(settings.checkpoint_interval).unwrap_or(now),
            Recording::InTransaction | Recording::Nowhere => now,
        };
        let skipper = Skipper::new(&resume);
        let held = Held::of(&resume.exceptions);
        let dead = resume.exceptions.dead.into_iter();
        let revived = resume.exceptions.revived;
        let mut delivery = Self {
            tables: Tables::new(specs, policy),
            opener: None,
            skipper,
            transaction: None,
            window: OpenWindow::new(start),
            flight: Flight::default(),
            front: Front::new(resume.slot_confirmed, verified),
            parking: Parking::new(resume.exceptions.parked),
            dead: dead.map(|row| (row.position, row)).collect(),
            settled_below: resume.settled_below,
            exceptions: Vec::new(),
            held,
            write_backs: WriteBacks::new(settings.max_pending_marks),
            skipped: Marks::default(),
            skipped_from: None,
            outgrown: Vec::new(),
            serving: resume.feed.as_ref().and_then(Serving::resumed),
            feed: resume.feed.as_ref().map(Feed::resumed),
            recorded_fed: start.fed,
            whole_tables: resume.whole_tables,
            covered: resume.confirmed_up_to,
            floor: resume.floor,
            shown: resume.slot_confirmed,
            dealt_with: start.confirm,
            handed_out: recorded,
            durable: start,
            recording_now: None,
            unrecorded: VecDeque::new(),
            being_recorded: 0,
            last_record,
            source_idle: false,
            asked_for: Lsn::INVALID,
            draining: false,
            stopped: false,
            at_barrier: false,
            lost_window: false,
            blocked_since: None,
            spare: Vec::new(),
            spare_marks: Vec::new(),
            actions: VecDeque::new(),
            clock: Clock {
                began: now,
                wall: settings.wall_clock,
            },
            lessons: lessons.renew(settings.identity.timeline, now),
            settings,
        };
        delivery.forget_dead_of_other_feeds(start.fed.map_or(0, |fed| fed.done));
        delivery.tell_of_revived(revived);
        if let Some(void_from) = resume.void_from {
            delivery.forget_dead_from(void_from);
        }
        // Nothing of this slot was published: the letters are of another slot, or of the history before a
        // restore, and other rows may come at their positions.
        if resume.position.is_none() && resume.floor == Lsn::INVALID {
            delivery.forget_dead_from(Lsn::from(1));
        }
        if !delivery.parking.is_empty() {
            delivery.ask_for_dead_letter_topics(now);
        }
        delivery
    }

    /// What the next session need not learn again.
    pub fn into_lessons(self) -> Lessons {
        self.lessons
    }

    /// From here on events are decrypted with these keys. What was taken in before stays as it is.
    pub fn handle_keys(&mut self, opener: Arc<dyn Opener>) {
        self.opener = Some(opener);
    }

    /// A pgoutput message has come.
    pub fn handle_message(&mut self, message: Message<'_>, now: Instant) -> Result<(), Halt> {
        self.source_idle = false;
        match message {
            Message::Begin(begin) => self.begin(begin)?,
            Message::Commit(commit) => self.commit(&commit)?,
            Message::Insert(insert) => self.change(Some(&insert), now)?,
            Message::Update { .. } | Message::Delete { .. } | Message::Truncate(_) => {
                self.change(None, now)?;
            }
            Message::Logical(message) if message.transactional => self.change(None, now)?,
            Message::Logical(_) | Message::Origin(_) | Message::Type(_) => {}
            Message::Relation(relation) => self.tables.announce(Relation::from(relation))?,
        }
        self.advance(now);
        Ok(())
    }

    /// The server has sent everything that commits below `wal_end`, of which all came before this.
    ///
    /// That makes it safe to confirm even with a transaction half received, whose commit record
    /// starts at or after `wal_end` (`WalSndKeepalive` in `walsender.c` reports `sentPtr`).
    pub fn handle_keepalive(
        &mut self,
        wal_end: Lsn,
        reply_requested: bool,
        now: Instant,
    ) -> Result<(), Halt> {
        self.skipper.passed(wal_end)?;
        self.window.advance(wal_end);
        self.shown = self.shown.max(wal_end);
        if reply_requested {
            self.asked_for = self.asked_for.max(wal_end);
        }
        self.advance(now);
        Ok(())
    }

    /// The source has nothing more at hand.
    pub fn handle_source_idle(&mut self, now: Instant) {
        self.source_idle = true;
        self.advance(now);
    }

    /// Every record of the window is acknowledged.
    pub fn handle_acknowledged(&mut self, window: WindowId, now: Instant) {
        self.flight.acknowledge(window);
        match self.settings.recording {
            Recording::InTransaction => self.start_commit(),
            Recording::Beside | Recording::Nowhere => {
                while let Some(window) = self.flight.take_acknowledged() {
                    self.durable = window.progress;
                    self.landed(window);
                }
            }
        }
        self.advance(now);
    }

    /// The window's transaction is known to be committed.
    pub fn handle_committed(&mut self, window: WindowId, now: Instant) {
        let window = self.flight.committed(window);
        self.durable = window.progress;
        self.front.record(window.progress.confirm);
        let fed = window.progress.fed;
        self.landed(window);
        self.note_recorded_fed(fed);
        self.start_commit();
        self.advance(now);
    }

    /// The checkpoint recorded beside the events is committed.
    pub fn handle_recorded(&mut self, now: Instant) {
        let recorded = self
            .recording_now
            .take()
            .expect("a checkpoint was being recorded");
        self.submit_recorded();
        self.front.record(recorded.confirm);
        self.note_recorded_fed(recorded.fed);
        self.advance(now);
    }

    /// The outcomes are written to their rows.
    pub fn handle_written_back(&mut self, id: MarksId, marks: Marks, now: Instant) {
        self.write_backs.done(id);
        self.note_told(&marks);
        self.keep_marks(marks);
        self.advance(now);
    }

    /// The brokers have said of a topic whether it may be written to. `random` is uniform in
    /// `0.0..1.0`.
    pub fn handle_answer(&mut self, topic: &str, answer: &Answer, random: f64, now: Instant) {
        let wall = self.clock.at(now);
        self.lessons.topics.answer(topic, answer, random, now, wall);
        let buries = match answer {
            Answer::Missing | Answer::Denied => true,
            Answer::Usable { max_bytes } => self.window.awaits_larger(topic, *max_bytes),
            Answer::Unanswered => false,
        };
        if buries {
            self.ask_for_dead_letter_topics(now);
        }
        self.advance(now);
    }

    /// A window was refused. The session has to end; the next ones find out what is wrong with the
    /// topic, or which event it is.
    ///
    /// If not even what goes to the dead letters is taken, there is nothing to find out, and the
    /// pipeline halts.
    #[must_use]
    pub fn handle_refused(&mut self, refusal: &Refusal, now: Instant) -> Option<Halt> {
        self.stopped = true;
        let wall = self.clock.at(now);
        let events = self.flight.events();
        let answer = match refusal.cause {
            RefusalCause::TopicMissing => Answer::Missing,
            RefusalCause::TopicDenied => Answer::Denied,
            RefusalCause::Contents if !refusal.events.is_empty() => {
                self.lessons.named(&refusal.events, wall);
                return None;
            }
            RefusalCause::Contents => {
                // What is alone may be a dead letter, or an event with what is said of its letter.
                let is_dead_letter = self.settings.is_dead_letter_topic(&refusal.topic);
                if is_dead_letter && events <= 1 {
                    return Some(Halt::DeadLetterTopic {
                        topic: refusal.topic.clone(),
                        reason: refusal.reason.clone(),
                    });
                }
                let alone = self.flight.alone();
                self.lessons.refused(events, alone, &refusal.reason, wall);
                return None;
            }
        };
        let topics = &mut self.lessons.topics;
        topics.lapsed(&refusal.topic, &answer, now, wall);
        None
    }

    /// The publication was found intact by a check begun when the server's WAL ended at `lsn`.
    pub fn handle_publication_verified(&mut self, lsn: Lsn) {
        self.front.verify(lsn);
    }

    /// Time has passed; see [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// Take in nothing more, and make durable what is complete. A transaction that is not complete
    /// stays out: what has come of it may be what could not be dealt with.
    pub fn handle_drain(&mut self, now: Instant) {
        self.draining = true;
        self.advance(now);
    }

    /// Writes a checkpoint even without progress, to learn whether Kafka takes it.
    pub fn handle_probe(&mut self, now: Instant) {
        if self.is_quiet() && self.recording_now.is_none() && !self.skipper.awaits() {
            self.record(self.recordable(), now);
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        let held = [
            self.write_backs.bound().map(|floor| floor.lsn),
            self.skipped_from,
        ];
        let held = held.into_iter().flatten().min();
        self.actions
            .pop_front()
            .or_else(|| self.front.poll(held).map(Action::Confirm))
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, if at all.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (recordable, recorded) = (self.recordable(), self.handed_out);
        let unrecorded = recordable.confirm > recorded.confirm || recordable.fed != recorded.fed;
        let may_record = self.knows_progress() && self.recording_now.is_none();
        let record = (unrecorded && may_record && self.flight.is_empty())
            .then(|| self.last_record + self.settings.checkpoint_interval);
        let complete = self.window.boundary_records() > 0 && self.may_close(Cut::Boundary);
        let close = self.window.opened_at().filter(|_| complete);
        let close = close.map(|opened| opened + self.settings.max_wait);
        let ask = self.lessons.topics.poll_timeout();
        let give_up = self.blocked_since.map(|since| since + windows::BLOCKED);
        [record, close, ask, give_up].into_iter().flatten().min()
    }

    /// Whether the driver may feed more messages: bounds the memory.
    pub fn wants_input(&self) -> bool {
        let is_over = self.draining || self.stopped;
        let waits = self.at_barrier || self.serving.is_some();
        !(is_over || waits || self.is_ahead_of_tables() || self.is_full())
    }

    /// Nothing that was taken in is left to be made durable, save an incomplete transaction.
    pub fn is_drained(&self) -> bool {
        self.is_published() && self.write_backs.is_empty()
    }

    /// As [`is_drained`](Self::is_drained), but rows may be left to be written back.
    pub fn is_published(&self) -> bool {
        if self.stopped {
            // What is still in the window stays there.
            return self.flight.is_empty() && self.is_recorded();
        }
        self.is_quiet()
            && self.recording_now.is_none()
            && (self.skipper.awaits() || self.lost_window || self.front.recorded() >= self.shown)
    }

    /// The checkpoint reaches as far as it can while windows that are under way stay so.
    pub fn is_recorded(&self) -> bool {
        self.recording_now.is_none() && self.handed_out.confirm >= self.durable.confirm
    }

    /// Every event taken in is durable in Kafka.
    pub fn is_caught_up(&self) -> bool {
        self.flight.is_empty() && self.window.batch.is_empty()
    }

    /// Commit time of the oldest event taken in that is not durable yet.
    pub fn oldest_undelivered(&self) -> Option<PgTimestamp> {
        self.flight
            .oldest_commit()
            .or_else(|| self.window.oldest_commit())
    }

    /// Up to where a committed checkpoint covers the stream.
    pub fn recorded(&self) -> Lsn {
        self.front.recorded()
    }

    /// Windows in Kafka's hands.
    pub fn windows_in_flight(&self) -> usize {
        self.flight.len()
    }

    /// Keys whose events go to the dead letters.
    pub fn parked_keys(&self) -> usize {
        self.parking.len()
    }

    /// Gives back the buffer of a window that is done.
    pub fn recycle(&mut self, mut batch: RecordBatch) {
        if self.spare.len() < SPARE_BUFFERS {
            batch.clear();
            self.spare.push(batch);
        }
    }

    fn keep_marks(&mut self, mut marks: Marks) {
        if self.spare_marks.len() < SPARE_BUFFERS {
            marks.clear();
            self.spare_marks.push(marks);
        }
    }

    /// Tells the driver why this session must end. What is under way may still land.
    fn stop(&mut self, halt: Halt) {
        if !self.stopped {
            self.stopped = true;
            self.actions.push_back(Action::Stop(halt));
        }
    }
}

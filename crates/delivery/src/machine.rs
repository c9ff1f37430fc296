//! The state machine: inputs `handle_*`, outputs [`Delivery::poll_action`].

use std::collections::VecDeque;
use std::time::Instant;

use envelope::{Origin, RecordBatch, TableSpec, TopicPolicy};
use pgoutput::{Begin, Commit, Insert, Lsn, Message, PgTimestamp, Position, Relation};

use crate::flight::Flight;
use crate::resume::Skipper;
use crate::transaction::OpenTransaction;
use crate::window::{Bounds, Cut, OpenWindow};
use crate::{
    Action, CHECKPOINT_FORMAT, Checkpoint, Front, Halt, Kind, Progress, Recording, Resume,
    Settings, Tables, WindowId,
};

/// How many emptied batches are kept for the next windows.
const SPARE_BATCHES: usize = 4;

/// One session of a pipeline: from the start of the stream to its end, whatever ends it.
///
/// After any failure the driver drops it, and the next session resumes from the checkpoint.
#[derive(Debug)]
pub struct Delivery {
    settings: Settings,
    tables: Tables,
    skipper: Skipper,
    transaction: Option<OpenTransaction>,
    window: OpenWindow,
    flight: Flight,
    front: Front,
    /// What the checkpoint that the session began with covers.
    covered: Lsn,
    floor: Lsn,
    /// The stream has shown everything that commits below.
    shown: Lsn,
    /// What the newest window or checkpoint handed out covers.
    handed_out: Progress,
    /// What acknowledgements have made durable (only beside).
    durable: Progress,
    recording_now: Option<Lsn>,
    last_record: Instant,
    source_idle: bool,
    /// The server waits until this is confirmed.
    asked_for: Lsn,
    draining: bool,
    spare: Vec<RecordBatch>,
    actions: VecDeque<Action>,
}

impl Delivery {
    /// Starts a session. `verified` is an LSN below which the publication is known to be intact.
    pub fn new(
        settings: Settings,
        specs: Vec<TableSpec>,
        policy: TopicPolicy,
        resume: &Resume,
        verified: Lsn,
        now: Instant,
    ) -> Self {
        // The checkpoint covers more than the slot, but that it speaks of this server's log has to
        // be seen first: the slot of a restored server must not be moved past what reuses LSNs.
        let start = Progress {
            position: resume.position,
            confirm: resume.slot_confirmed,
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
        Self {
            settings,
            tables: Tables::new(specs, policy),
            skipper: Skipper::new(resume),
            transaction: None,
            window: OpenWindow::new(start),
            flight: Flight::default(),
            front: Front::new(resume.slot_confirmed, verified),
            covered: resume.confirmed_up_to,
            floor: resume.floor,
            shown: resume.slot_confirmed,
            handed_out: recorded,
            durable: start,
            recording_now: None,
            last_record,
            source_idle: false,
            asked_for: Lsn::INVALID,
            draining: false,
            spare: Vec::new(),
            actions: VecDeque::new(),
        }
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
                while let Some(progress) = self.flight.take_acknowledged() {
                    self.durable = progress;
                }
            }
        }
        self.advance(now);
    }

    /// The window's transaction is known to be committed.
    pub fn handle_committed(&mut self, window: WindowId, now: Instant) {
        let progress = self.flight.committed(window);
        self.durable = progress;
        self.front.record(progress.confirm);
        self.start_commit();
        self.advance(now);
    }

    /// The checkpoint recorded beside the events is committed.
    pub fn handle_recorded(&mut self, now: Instant) {
        let lsn = self
            .recording_now
            .take()
            .expect("a checkpoint was being recorded");
        self.front.record(lsn);
        self.advance(now);
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
            self.record(self.window.boundary(), now);
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions
            .pop_front()
            .or_else(|| self.front.poll().map(Action::Confirm))
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, if at all.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let unrecorded = self.recordable().confirm > self.handed_out.confirm;
        let record = (unrecorded && self.recording_now.is_none() && self.flight.is_empty())
            .then(|| self.last_record + self.settings.checkpoint_interval);
        let complete = self.window.boundary_records() > 0 && self.has_free_producer();
        let close = self.window.opened_at().filter(|_| complete);
        let close = close.map(|opened| opened + self.settings.max_wait);
        [record, close].into_iter().flatten().min()
    }

    /// Whether the driver may feed more messages: bounds the memory.
    pub fn wants_input(&self) -> bool {
        !self.draining
            && !self
                .window
                .is_full(self.bounds(), self.transaction.is_some())
    }

    /// Nothing that was taken in is left to be made durable, save an incomplete transaction.
    pub fn is_drained(&self) -> bool {
        self.is_quiet()
            && self.recording_now.is_none()
            && (self.skipper.awaits() || self.front.recorded() >= self.shown)
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

    /// Windows in Kafka's hands.
    pub fn windows_in_flight(&self) -> usize {
        self.flight.len()
    }

    /// Gives back the buffer of a window that is done.
    pub fn recycle(&mut self, mut batch: RecordBatch) {
        if self.spare.len() < SPARE_BATCHES {
            batch.clear();
            self.spare.push(batch);
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            max_events: self.settings.max_events,
            max_bytes: self.settings.max_bytes,
        }
    }

    fn begin(&mut self, begin: Begin) -> Result<(), Halt> {
        if self.transaction.is_some() {
            return Err(Halt::Protocol(format!(
                "Begin {} inside a transaction",
                begin.final_lsn
            )));
        }
        let skip = self.skipper.skip(&begin)?;
        self.transaction = Some(OpenTransaction {
            begin,
            index: 0,
            skip,
        });
        Ok(())
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), Halt> {
        let transaction = self.transaction.take();
        let Some(transaction) = transaction.filter(|t| t.begin.final_lsn == commit.commit_lsn)
        else {
            return Err(Halt::Protocol(format!(
                "Commit {} without its Begin",
                commit.commit_lsn
            )));
        };
        self.window
            .complete(transaction.position(true), commit.end_lsn.0);
        self.shown = self.shown.max(commit.end_lsn.0);
        Ok(())
    }

    fn change(&mut self, insert: Option<&Insert<'_>>, now: Instant) -> Result<(), Halt> {
        let Some(transaction) = &mut self.transaction else {
            return Err(Halt::Protocol("a change outside a transaction".into()));
        };
        let skip = transaction.skips_next();
        let position = Position {
            commit_lsn: transaction.begin.final_lsn,
            index: transaction.index,
        };
        let commit_time = transaction.begin.commit_time;
        transaction.index += 1;
        match insert {
            Some(insert) if !skip => self.publish(
                insert,
                Origin {
                    position,
                    commit_time,
                },
                now,
            ),
            Some(_) | None => Ok(()),
        }
    }

    fn publish(&mut self, insert: &Insert<'_>, origin: Origin, now: Instant) -> Result<(), Halt> {
        let Some(known) = self.tables.get(insert.relation_oid) else {
            let oid = insert.relation_oid;
            return Err(Halt::Protocol(format!(
                "a row of relation {oid} before its Relation"
            )));
        };
        let Some(mapper) = &mut known.mapper else {
            return Ok(());
        };
        let position = origin.position;
        mapper
            .map(insert.tuple, origin, &mut self.window.batch)
            .map_err(|source| Halt::Unpublishable {
                position,
                table: known.name.clone(),
                source,
            })?;
        let bytes = self.window.batch.last_record_bytes();
        if bytes > self.settings.event_max_bytes {
            let max_bytes = self.settings.event_max_bytes;
            return Err(Halt::EventTooLarge {
                position,
                table: known.name.clone(),
                bytes,
                max_bytes,
            });
        }
        self.window.touch(now);
        Ok(())
    }

    fn advance(&mut self, now: Instant) {
        while let Some(cut) = self.closable(now) {
            self.close(cut, now);
        }
        // What was skipped so far may be foreign: no progress can be told from it.
        if self.skipper.awaits() {
            return;
        }
        if self.is_quiet() {
            self.front.record(self.shown.min(self.covered));
        }
        self.record_progress(now);
    }

    /// Whether a window could be produced now. In a transaction it has to wait until every record
    /// of the one before is acknowledged, or they could overtake each other.
    fn has_free_producer(&self) -> bool {
        let waits = self.settings.recording == Recording::InTransaction
            && self.flight.newest_is_producing();
        !waits && self.flight.len() < self.settings.producers
    }

    /// Whether and how the open window can go to a producer now.
    fn closable(&self, now: Instant) -> Option<Cut> {
        if !self.has_free_producer() {
            return None;
        }
        let waited = |opened: Instant| now.duration_since(opened) >= self.settings.max_wait;
        let ripe = self.source_idle || self.draining || self.window.opened_at().is_some_and(waited);
        let cut = self.window.cut(self.bounds(), ripe);
        cut.filter(|cut| !(self.draining && *cut == Cut::Middle))
    }

    fn close(&mut self, cut: Cut, now: Instant) {
        let open = self.transaction.as_ref().and_then(|t| t.position(false));
        let oldest = self.window.oldest_commit();
        let empty = self.spare.pop().unwrap_or_default();
        let (batch, progress) = self.window.take(cut, open, empty, now);
        self.hand_out(batch, progress, oldest, now);
    }

    fn hand_out(
        &mut self,
        batch: RecordBatch,
        progress: Progress,
        oldest: Option<PgTimestamp>,
        now: Instant,
    ) {
        let window = self.flight.push(progress, oldest);
        let checkpoint = match self.settings.recording {
            Recording::InTransaction => {
                self.handed_out = progress;
                self.last_record = now;
                Some(self.checkpoint(progress))
            }
            Recording::Beside | Recording::Nowhere => None,
        };
        self.actions.push_back(Action::Produce {
            window,
            batch,
            checkpoint,
        });
    }

    fn start_commit(&mut self) {
        if let Some(window) = self.flight.start_commit() {
            self.actions.push_back(Action::Commit { window });
        }
    }

    /// Every complete transaction taken in is durable.
    fn is_quiet(&self) -> bool {
        self.flight.is_empty() && self.window.boundary_records() == 0
    }

    /// What could be recorded now: the boundary if nothing before it is under way.
    fn recordable(&self) -> Progress {
        if self.is_quiet() {
            return self.window.boundary();
        }
        self.durable
    }

    /// Records progress that no window carries: idle advance, and every checkpoint beside.
    fn record_progress(&mut self, now: Instant) {
        let progress = self.recordable();
        // A checkpoint never goes back: the slot may be confirmed up to the last one.
        if progress == self.handed_out || progress.confirm < self.handed_out.confirm {
            return;
        }
        let due = now.duration_since(self.last_record) >= self.settings.checkpoint_interval;
        let urgent = self.asked_for > self.handed_out.confirm;
        if !(due || urgent || self.draining) {
            return;
        }
        match self.settings.recording {
            Recording::InTransaction if !self.is_quiet() => {}
            Recording::Beside if self.recording_now.is_some() => {}
            Recording::InTransaction | Recording::Beside | Recording::Nowhere => {
                self.record(progress, now);
            }
        }
    }

    fn record(&mut self, progress: Progress, now: Instant) {
        self.handed_out = progress;
        if self.is_quiet() && self.settings.recording != Recording::InTransaction {
            self.durable = progress;
        }
        self.last_record = now;
        match self.settings.recording {
            Recording::InTransaction => {
                let batch = self.spare.pop().unwrap_or_default();
                self.hand_out(batch, progress, None, now);
            }
            Recording::Beside => {
                self.recording_now = Some(progress.confirm);
                let checkpoint = self.checkpoint(progress);
                self.actions.push_back(Action::Record { checkpoint });
            }
            Recording::Nowhere => self.front.record(progress.confirm),
        }
    }

    fn checkpoint(&self, progress: Progress) -> Checkpoint {
        Checkpoint {
            format: CHECKPOINT_FORMAT,
            kind: Kind::Progress,
            identity: self.settings.identity.clone(),
            position: progress.position,
            floor: match progress.position {
                None => self.floor,
                Some(_) => Lsn::INVALID,
            },
            // Never behind an older one, up to which the slot may be confirmed.
            confirmed_up_to: progress.confirm.max(self.covered),
            fingerprint: self.settings.fingerprint,
            coverage: Some(self.settings.coverage.clone()),
            producers: self.settings.producers,
            transactional_id_prefix: Some(self.settings.transactional_id_prefix.clone()),
            feed: None,
            relay_version: self.settings.relay_version.clone(),
        }
    }
}

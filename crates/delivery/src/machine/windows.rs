//! From the open window to Kafka, and what follows once it is durable.

use std::time::{Duration, Instant};

use envelope::{Fate, RecordBatch, TableId, dead_letter, is_fed};
use pgoutput::{Lsn, Position};

use super::Delivery;
use super::burial::Buried;
use crate::exception::first_position;
use crate::flight::{Contents, Window};
use crate::window::{Bounds, Cut, first_commit};
use crate::write_back::Floor;
use crate::{
    Action, CHECKPOINT_FORMAT, Checkpoint, Exception, Fed, Halt, Kind, Mark, Marks, Outcome,
    Progress, Recording, RevivedRow,
};

/// How long marks may hold up the stream of rows that were published before.
pub(super) const BLOCKED: Duration = Duration::from_secs(5);

impl Delivery {
    pub(super) fn bounds(&self) -> Bounds {
        let caution = self.lessons.caution;
        Bounds {
            max_events: caution.unwrap_or(self.settings.max_events),
            max_bytes: self.settings.max_bytes,
            cautious: caution.is_some(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.window
            .is_full(self.bounds(), self.transaction.is_some())
    }

    pub(super) fn advance(&mut self, now: Instant) {
        while let Some(cut) = self.closable(now) {
            self.close(cut, now);
        }
        while let Some(topic) = self.lessons.topics.poll(now) {
            self.actions.push_back(Action::Ask { topic });
        }
        if self.source_idle || self.draining {
            self.flush_skipped();
        }
        self.start_over_behind_dropped();
        self.give_up_blocked_marks(now);
        self.go_on_feeding();
        self.go_on_serving(now);
        if !self.knows_progress() {
            self.record_dead_letters(now);
            return;
        }
        if self.is_quiet() && !self.skipper.awaits() {
            self.at_barrier = false;
            self.front.record(self.shown.min(self.covered));
        }
        self.record_progress(now);
    }

    /// What was published before comes faster than rows can be written back: the next one would not fit.
    /// It is not taken in then, so that what was taken in can be handed over at any time.
    pub(super) fn is_ahead_of_tables(&self) -> bool {
        let skips = match &self.transaction {
            Some(transaction) => transaction.skips_next(),
            None => self.skipper.may_skip(),
        };
        let fits = self.write_backs.has_room_for(self.skipped.len() + 1);
        skips && !fits && !self.write_backs.has_dropped()
    }

    /// Marks were dropped, and all others are written: the next session finds them. Not before the
    /// checkpoint's transaction has come, or it would wait for that one as this one did.
    fn start_over_behind_dropped(&mut self) {
        if !self.write_backs.must_start_over() || self.skipper.awaits() {
            return;
        }
        self.flush_skipped();
        if self.write_backs.must_start_over() {
            self.stop(Halt::WriteBackBehind);
        }
    }

    /// Rows that can't be written back must not hold up the events behind them for long.
    fn give_up_blocked_marks(&mut self, now: Instant) {
        let is_ahead = self.is_ahead_of_tables();
        let is_ahead_in_feed = self.is_ahead_in_feed();
        if !is_ahead && !is_ahead_in_feed {
            self.blocked_since = None;
            return;
        }
        let since = *self.blocked_since.get_or_insert(now);
        if now.duration_since(since) < BLOCKED {
            return;
        }
        if is_ahead {
            let lsn = self.skipped_from.take().unwrap_or(self.shown);
            let fed = self.handed_over();
            self.write_backs.drop_from(Floor { lsn, fed });
            self.skipped.clear();
        }
        if is_ahead_in_feed {
            self.give_up_telling_again();
        }
        self.blocked_since = None;
    }

    /// Whether a window could be produced now. In a transaction it has to wait until every record
    /// of the one before is acknowledged, or they could overtake each other.
    fn has_free_producer(&self) -> bool {
        let waits = self.settings.recording == Recording::InTransaction
            && self.flight.newest_is_producing();
        let producers = match self.lessons.caution {
            None => self.settings.producers,
            Some(_) => 1,
        };
        !waits && self.flight.len() < producers
    }

    /// Whether and how the open window can go to a producer now.
    fn closable(&self, now: Instant) -> Option<Cut> {
        let waited = |opened: Instant| now.duration_since(opened) >= self.settings.max_wait;
        let ripe = self.source_idle
            || self.draining
            || self.at_barrier
            || self.serving.is_some()
            || self.window.opened_at().is_some_and(waited);
        let cut = self.window.cut(self.bounds(), ripe)?;
        let admitted = !(self.draining && cut == Cut::Middle);
        (admitted && self.may_close(cut)).then_some(cut)
    }

    /// Whether a window that ends there could be produced now.
    pub(super) fn may_close(&self, cut: Cut) -> bool {
        let is_plain = !self.window.has_suspects(cut) && self.parking.is_empty();
        let settled = is_plain || self.lessons.topics.is_settled();
        settled && !self.stopped && self.has_free_producer()
    }

    fn close(&mut self, cut: Cut, now: Instant) {
        let open = self.open_position();
        let empty = self.spare.pop().unwrap_or_default();
        let taken = self.window.take(cut, open, empty, now);
        let progress = taken.progress;
        match self.bury(taken, now) {
            Ok(Buried {
                batch,
                mut exceptions,
            }) => {
                self.note_revived(&batch, &mut exceptions);
                let contents = Contents {
                    oldest_commit: first_commit(&batch),
                    events: batch.fates().filter(|fate| *fate != Fate::None).count(),
                    first: batch.get(0).map(|r| (r.position, r.event_id.to_owned())),
                    proves: self.lessons.topics.proven_by(&batch),
                    marks: self.marks_of(&batch),
                    // A restored server may commit below what the checkpoint covers.
                    floor: self.dealt_with.min(progress.confirm),
                    exceptions,
                };
                self.dealt_with = self.dealt_with.max(progress.confirm);
                self.hand_out(batch, progress, contents, now);
            }
            Err((position, halt)) => {
                self.lost_window = true;
                self.lessons.halted_by(&halt);
                self.lessons.barrier = Some(position.commit_lsn);
                self.stop(halt);
            }
        }
    }

    /// The rows of dead letters that are published, which the stream does not show again.
    fn note_revived(&self, batch: &RecordBatch, exceptions: &mut Vec<Exception>) {
        if self.serving.is_none() || !self.settings.writes_back() {
            return;
        }
        let revived = batch.iter().filter(|r| r.fate == Fate::Revived);
        let rows = revived.map(|r| Exception::Revived(self.revived_row(r.table, r.event_id)));
        exceptions.extend(rows);
    }

    fn revived_row(&self, table: TableId, id: &str) -> RevivedRow {
        RevivedRow {
            service: self.tables.service(table).to_owned(),
            table: self.tables.name(table),
            id: id.to_owned(),
        }
    }

    /// The tables say so by now.
    pub(super) fn note_told(&mut self, marks: &Marks) {
        let revived = marks.iter().filter(|m| m.outcome == Outcome::Revived);
        let told = revived.map(|m| Exception::Told(self.revived_row(m.table, m.id)));
        let told: Vec<_> = told.collect();
        self.exceptions.extend(told);
    }

    /// What an earlier session published and may not have told the tables of.
    pub(super) fn tell_of_revived(&mut self, rows: Vec<RevivedRow>) {
        for row in rows {
            if let Some(table) = self.tables.find(&row.service, &row.table) {
                self.skipped.push(Mark {
                    table,
                    id: &row.id,
                    outcome: Outcome::Revived,
                });
                self.skipped_from.get_or_insert(self.shown);
            }
        }
    }

    /// The rows of a window whose tables are told of them.
    fn marks_of(&mut self, batch: &RecordBatch) -> Option<Marks> {
        if !self.settings.writes_back() {
            return None;
        }
        let mut marks = self.spare_marks.pop().unwrap_or_default();
        for record in batch.iter() {
            let outcome = match record.fate {
                Fate::None => continue,
                Fate::Sent if is_fed(record.position) => Outcome::Fed,
                Fate::Sent => Outcome::Sent,
                Fate::Revived => Outcome::Revived,
                Fate::Dead { attempts } => Outcome::Failed {
                    attempts,
                    error: dead_letter::text(&record, dead_letter::REASON),
                },
            };
            let policy = self.settings.policy(record.table);
            if !policy.is_some_and(|policy| policy.write_back.takes(&outcome)) {
                continue;
            }
            let (table, id) = (record.table, record.event_id);
            if !id.is_empty() {
                marks.push(Mark { table, id, outcome });
                marks.push_xid(record.xid);
            }
        }
        if marks.is_empty() {
            self.keep_marks(marks);
            return None;
        }
        Some(marks)
    }

    fn hand_out(
        &mut self,
        batch: RecordBatch,
        progress: Progress,
        mut contents: Contents,
        now: Instant,
    ) {
        let mut exceptions = Vec::new();
        let checkpoint = match self.settings.recording {
            Recording::InTransaction => {
                exceptions = std::mem::take(&mut self.exceptions);
                exceptions.append(&mut contents.exceptions);
                exceptions.append(&mut self.settled(progress.fed));
                self.held.note(&exceptions);
                self.handed_out = progress;
                self.last_record = now;
                Some(self.checkpoint(progress))
            }
            Recording::Beside | Recording::Nowhere => None,
        };
        let window = self.flight.push(progress, contents);
        self.actions.push_back(Action::Produce {
            window,
            batch,
            checkpoint,
            exceptions,
        });
    }

    /// Dead letters whose rows say so by now: the slot was confirmed beyond them, or the feed counts
    /// them as told.
    fn settled(&mut self, fed: Option<Fed>) -> Vec<Exception> {
        if self.dead.is_empty() {
            return Vec::new();
        }
        let confirmed = first_position(self.front.confirmed().lsn());
        // The beginning of a feed may not be durable yet.
        let told = fed.map_or(0, |fed| fed.marked);
        let is_settled = |at: &Position| match is_fed(*at) {
            true => at.index <= told,
            false => *at < confirmed,
        };
        let streamed = self.dead.range(..confirmed).next_back();
        if let Some((last, _)) = streamed.filter(|(at, _)| !is_fed(**at)) {
            let beyond = Lsn::from(last.commit_lsn.0.as_u64() + 1);
            self.settled_below = self.settled_below.max(beyond);
        }
        self.settle(is_settled)
    }

    /// The dead letters of positions that a promotion has voided: other rows are there now.
    pub(super) fn forget_dead_from(&mut self, void_from: Lsn) {
        let void_from = first_position(void_from);
        let settled = self.settle(|at| *at >= void_from);
        self.exceptions.extend(settled);
    }

    /// Takes back what was said of the rows of some dead letters.
    pub(super) fn settle(&mut self, is_settled: impl Fn(&Position) -> bool) -> Vec<Exception> {
        let settled: Vec<_> = self.dead.keys().copied().filter(is_settled).collect();
        for at in &settled {
            self.dead.remove(at);
        }
        settled.into_iter().map(Exception::Settled).collect()
    }

    pub(super) fn start_commit(&mut self) {
        if let Some(window) = self.flight.start_commit() {
            self.actions.push_back(Action::Commit { window });
        }
    }

    /// A window is durable.
    pub(super) fn landed(&mut self, window: Window) {
        let Window {
            progress, contents, ..
        } = window;
        self.lessons.got_through(self.settings.max_events);
        self.lessons.topics.proved(&contents.proves);
        if let Some(position) = progress.position {
            self.lessons.passed(position.commit_lsn);
        }
        if let Some(fed) = progress.fed {
            self.lessons.breaker.fed(fed.done);
        }
        self.exceptions.extend(contents.exceptions);
        if let Some(marks) = contents.marks {
            self.flush_skipped();
            self.submit_marks(contents.floor, marks);
        }
        self.note_fed(progress.fed);
    }

    /// Every complete transaction taken in is durable.
    pub(super) fn is_quiet(&self) -> bool {
        self.flight.is_empty() && self.window.boundary_records() == 0
    }

    /// What could be recorded now: the boundary if nothing before it is under way.
    pub(super) fn recordable(&self) -> Progress {
        if self.is_quiet() && !self.lost_window {
            return self.window.boundary();
        }
        self.durable
    }

    /// What was skipped while the checkpoint's transaction is awaited may be foreign: no progress can
    /// be told from it. A feed that goes on comes before all of that.
    pub(super) fn knows_progress(&self) -> bool {
        !self.skipper.awaits() || self.resumes_feed()
    }

    /// Marks wait until it is recorded which events are dead. Those of a feed are not to wait for the
    /// checkpoint's transaction: as far as it is durable, the progress of the feed is known.
    fn record_dead_letters(&mut self, now: Instant) {
        if self.holds_up_marks() && self.recording_now.is_none() {
            self.record(self.durable, now);
        }
    }

    /// Whether there are marks that wait for the next record.
    fn holds_up_marks(&self) -> bool {
        self.unrecorded.len() > self.being_recorded
    }

    /// Records progress that no window carries: idle advance, and every checkpoint beside.
    fn record_progress(&mut self, now: Instant) {
        let progress = self.recordable();
        // Behind an earlier checkpoint only a feed makes progress.
        let is_new = match progress.confirm < self.handed_out.confirm {
            true => progress.fed != self.handed_out.fed || self.holds_up_marks(),
            false => progress != self.handed_out || !self.exceptions.is_empty(),
        };
        if !is_new {
            return;
        }
        let due = now.duration_since(self.last_record) >= self.settings.checkpoint_interval;
        let is_asked = self.asked_for > self.handed_out.confirm;
        let urgent = is_asked || self.waits_for_feed() || self.holds_up_marks();
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

    pub(super) fn record(&mut self, progress: Progress, now: Instant) {
        self.handed_out = progress;
        if self.is_quiet() && self.settings.recording != Recording::InTransaction {
            self.durable = progress;
        }
        self.last_record = now;
        match self.settings.recording {
            Recording::InTransaction => {
                let batch = self.spare.pop().unwrap_or_default();
                self.hand_out(batch, progress, Contents::default(), now);
            }
            Recording::Beside => {
                self.recording_now = Some(progress);
                self.being_recorded = self.unrecorded.len();
                let mut exceptions = std::mem::take(&mut self.exceptions);
                exceptions.append(&mut self.settled(progress.fed));
                self.held.note(&exceptions);
                let checkpoint = self.checkpoint(progress);
                self.actions.push_back(Action::Record {
                    checkpoint,
                    exceptions,
                });
            }
            Recording::Nowhere => {
                self.exceptions.clear();
                self.front.record(progress.confirm);
                self.note_recorded_fed(progress.fed);
            }
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
            settled_below: self.settled_below,
            feed: self
                .feed
                .as_ref()
                .zip(progress.fed)
                .map(|(feed, fed)| feed.progress(fed)),
            fingerprint: self.settings.fingerprint,
            coverage: Some(self.settings.coverage.clone()),
            whole_tables: self.whole_tables.clone(),
            exceptions: Some(self.held.len()),
            producers: self.settings.producers,
            transactional_id_prefix: Some(self.settings.transactional_id_prefix.clone()),
            relay_version: self.settings.relay_version.clone(),
        }
    }
}

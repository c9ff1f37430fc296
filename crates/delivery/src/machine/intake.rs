//! From the stream into the open window.

use std::time::Instant;

use envelope::{Fate, MapError, Origin, Record};
use pgoutput::{Begin, Commit, Insert, Lsn, Position};

use super::Delivery;
use super::serving::Serving;
use crate::lessons::VOUCHED_MAX;
use crate::tables::Role;
use crate::topics::Judgement;
use crate::transaction::OpenTransaction;
use crate::verdict::{Class, Verdict};
use crate::write_back::Floor;
use crate::{Action, Exception, Halt, Mark, Marks, OnDeadLetter, Opened, Outcome, Recording};

/// So many rows that were published before are written back at a time.
const SKIPPED_ROWS: usize = 1000;

impl Delivery {
    pub(super) fn begin(&mut self, begin: Begin) -> Result<(), Halt> {
        if self.transaction.is_some() {
            return Err(Halt::Protocol(format!(
                "Begin {} inside a transaction",
                begin.final_lsn
            )));
        }
        let skip = self.skipper.skip(&begin)?;
        if !self.skipper.awaits() {
            self.lessons.vouch_for(std::mem::take(&mut self.outgrown));
        }
        let is_vouched = self.lessons.vouches_for(&begin);
        self.at_barrier = self.lessons.barrier == Some(begin.final_lsn) && !self.is_quiet();
        self.transaction = Some(OpenTransaction {
            begin,
            index: 0,
            skip,
            is_vouched,
        });
        // What came before it is of the same history.
        if is_vouched {
            self.flush_skipped();
        }
        Ok(())
    }

    pub(super) fn commit(&mut self, commit: &Commit) -> Result<(), Halt> {
        // While it is open it is known that these rows are published.
        if self.transaction.as_ref().is_some_and(|t| t.is_vouched) {
            self.flush_skipped();
        }
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

    pub(super) fn change(&mut self, insert: Option<&Insert<'_>>, now: Instant) -> Result<(), Halt> {
        let Some(transaction) = &mut self.transaction else {
            return Err(Halt::Protocol("a change outside a transaction".into()));
        };
        let skip = transaction.skips_next();
        let origin = Origin {
            position: Position {
                commit_lsn: transaction.begin.final_lsn,
                index: transaction.index,
            },
            commit_time: transaction.begin.commit_time,
            xid: transaction.begin.xid,
        };
        let Some(insert) = insert else {
            transaction.index += 1;
            return Ok(());
        };
        if skip {
            transaction.index += 1;
            self.mark_skipped(insert, origin);
            return Ok(());
        }
        let Some(known) = self.tables.get(insert.relation_oid) else {
            let oid = insert.relation_oid;
            return Err(Halt::Protocol(format!(
                "a row of relation {oid} before its Relation"
            )));
        };
        match &mut known.role {
            Role::Control(rows) => {
                let request = rows.read(insert.tuple, origin);
                if !request.is_for(&self.settings.identity.slot) {
                    transaction.index += 1;
                } else if self.is_carried_out(&request.id) {
                    self.pass_control_row();
                } else {
                    self.note_request(&request.id);
                    // It counts as dealt with once it has been carried out.
                    self.stand_at_control_row();
                    self.serving = Some(Serving::asked_for(request));
                }
                Ok(())
            }
            Role::Outbox(_) => {
                transaction.index += 1;
                self.publish(insert, origin, now)
            }
            Role::Other => {
                transaction.index += 1;
                Ok(())
            }
        }
    }

    fn publish(&mut self, insert: &Insert<'_>, origin: Origin, now: Instant) -> Result<(), Halt> {
        self.flush_skipped();
        let Some(known) = self.tables.get(insert.relation_oid) else {
            return Ok(());
        };
        let Role::Outbox(mapper) = &mut known.role else {
            return Ok(());
        };
        let unmappable = mapper.map_or_salvage(insert.tuple, origin, &mut self.window.batch);
        self.judge(unmappable.as_ref(), now)
    }

    /// Decrypts the record added last, if it is to be, and looks whether it can be published.
    pub(super) fn judge(
        &mut self,
        unmappable: Option<&MapError>,
        now: Instant,
    ) -> Result<(), Halt> {
        self.window.touch(now);
        let index = self.window.batch.len() - 1;
        let verdict = match unmappable {
            Some(error) => Some(Verdict::certain(
                Class::Mapping(error.code()),
                error.to_string(),
                self.clock.at(now),
            )),
            None => match self.open_last(index, now) {
                Some(undecryptable) => Some(undecryptable),
                None => match self.judge_at(index, now) {
                    Judgement::Fine => return Ok(()),
                    Judgement::Open => None,
                    Judgement::Certain(verdict) => Some(verdict),
                },
            },
        };
        if let Some(verdict) = &verdict {
            self.refuse_where_nothing_may_die(index, verdict)?;
            self.ask_for_dead_letter_topic_of(index, now);
        }
        self.window.suspects.insert(index, verdict);
        Ok(())
    }

    /// Why it can't be decrypted.
    fn open_last(&mut self, index: usize, now: Instant) -> Option<Verdict> {
        let opener = self.opener.as_ref()?;
        match opener.open(&self.window.batch.get(index)?)? {
            Ok(Opened { value, without }) => {
                self.window.batch.open_last(&value, without);
                None
            }
            Err(reason) => {
                let wall = self.clock.at(now);
                Some(Verdict::certain(Class::Encryption, reason, wall))
            }
        }
    }

    fn judge_at(&mut self, index: usize, now: Instant) -> Judgement {
        let Some(record) = self.window.batch.get(index) else {
            return Judgement::Fine;
        };
        let (bytes, max_bytes) = (record.bytes(), self.settings.event_max_bytes);
        if bytes > max_bytes {
            let reason = format!("{bytes} bytes are more than event.max_bytes = {max_bytes}");
            return Judgement::Certain(Verdict::certain(
                Class::TooLarge,
                reason,
                self.clock.at(now),
            ));
        }
        match self.lessons.refusal_of(record.position, record.event_id) {
            Some(verdict) => Judgement::Certain(verdict.clone()),
            None => self
                .lessons
                .topics
                .judge(record.topic, bytes, now, self.clock),
        }
    }

    /// Where the table's dead letters are not wanted, the stream stops here, and what came before is
    /// published.
    fn refuse_where_nothing_may_die(
        &mut self,
        index: usize,
        verdict: &Verdict,
    ) -> Result<(), Halt> {
        let Some(record) = self.window.batch.get(index) else {
            return Ok(());
        };
        let Some(halt) = self.halt_at(&record, verdict) else {
            return Ok(());
        };
        self.window.batch.truncate(index);
        self.lessons.halted_by(&halt);
        Err(halt)
    }

    /// Why the stream stops before an event, if its table wants no dead letters. What is published
    /// again on request never stops it.
    pub(super) fn halt_at(&self, record: &Record<'_>, verdict: &Verdict) -> Option<Halt> {
        let policy = self.settings.policy(record.table)?;
        let halts = policy.on_dead_letter == OnDeadLetter::Halt && record.fate != Fate::Revived;
        halts.then(|| Halt::Refused {
            position: record.position,
            table: self.tables.name(record.table),
            id: record.event_id.to_owned(),
            verdict: Box::new(verdict.clone()),
        })
    }

    pub(super) fn ask_for_dead_letter_topic_of(&mut self, index: usize, now: Instant) {
        let table = self.window.batch.get(index).map(|record| record.table);
        let policy = table.and_then(|table| self.settings.policy(table));
        if let Some(policy) = policy {
            self.lessons.topics.route(&policy.dead_letter_topic, now);
        }
    }

    /// All of them: which of them will be needed is not known yet.
    pub(super) fn ask_for_dead_letter_topics(&mut self, now: Instant) {
        for table in &self.settings.tables {
            self.lessons.topics.route(&table.dead_letter_topic, now);
        }
    }

    /// A row that was published before this session: the table may not have been told.
    fn mark_skipped(&mut self, insert: &Insert<'_>, origin: Origin) {
        if !self.settings.writes_back() {
            return;
        }
        if self.write_backs.has_dropped() {
            // Or each of such transactions would take a session of its own.
            if self.is_large() {
                self.note_outgrown();
            }
            return;
        }
        let Some(known) = self.tables.get(insert.relation_oid) else {
            return;
        };
        let (Role::Outbox(mapper), Some(table)) = (&known.role, known.table) else {
            return;
        };
        let outcome = match self.dead.get(&origin.position) {
            Some(row) => Outcome::Failed {
                attempts: row.attempts,
                error: &row.reason,
            },
            // It was told once, on a server that may be another one.
            None if origin.position.commit_lsn.0 < self.settled_below => return,
            None => Outcome::Sent,
        };
        let policy = self.settings.policy(table);
        if !policy.is_some_and(|policy| policy.write_back.takes(&outcome)) {
            return;
        }
        let marks = &mut self.skipped;
        mapper.with_id(insert.tuple, |id| marks.push(Mark { table, id, outcome }));
        marks.push_xid(origin.xid);
        self.skipped_from.get_or_insert(self.shown);
        self.bound_skipped();
    }

    /// Rows that are known to be published are written back some at a time, the rows of one transaction,
    /// too: the slot stays before it meanwhile. Of rows that are not known to be as many are held as fit.
    fn bound_skipped(&mut self) {
        let max = self.settings.max_pending_marks;
        if self.skipped.len() >= SKIPPED_ROWS.min(max) {
            self.flush_skipped();
        }
        if self.skipped.len() <= max || self.knows_history() {
            return;
        }
        self.note_outgrown();
        let (lsn, fed) = (self.shown, self.handed_over());
        self.write_backs.drop_from(Floor { lsn, fed });
        if self.skipped_from.is_some_and(|from| from >= lsn) {
            self.skipped.clear();
            self.skipped_from = None;
        }
    }

    /// The open transaction is left to a later session, which need not wait once this one has seen the
    /// checkpoint's transaction behind it.
    fn note_outgrown(&mut self) {
        let open = self.transaction.as_ref().map(|t| t.begin);
        let is_new = self.outgrown.last() != open.as_ref();
        if is_new && self.skipper.awaits() && self.outgrown.len() < VOUCHED_MAX {
            self.outgrown.extend(open);
        }
    }

    /// Whether the open transaction alone has more rows than fit.
    fn is_large(&self) -> bool {
        let max = self.settings.max_pending_marks as u64;
        self.transaction.as_ref().is_some_and(|t| t.index >= max)
    }

    /// Whether rows that were skipped up to now are known to be published. What is skipped while the
    /// checkpoint's transaction is awaited may be other transactions at the same LSNs, on a restored
    /// server.
    fn knows_history(&self) -> bool {
        let is_vouched = self.transaction.as_ref().is_some_and(|t| t.is_vouched);
        is_vouched || !self.skipper.awaits()
    }

    /// Has the rows gathered by [`mark_skipped`](Self::mark_skipped) written back.
    pub(super) fn flush_skipped(&mut self) {
        if self.skipped.is_empty() || !self.knows_history() {
            return;
        }
        let Some(floor) = self.skipped_from.take() else {
            return;
        };
        let empty = self.spare_marks.pop().unwrap_or_default();
        let marks = std::mem::replace(&mut self.skipped, empty);
        self.submit_marks(floor, marks);
    }

    pub(super) fn submit_marks(&mut self, lsn: Lsn, marks: Marks) {
        let fed = self.handed_over();
        self.submit_marks_from(Floor { lsn, fed }, marks);
    }

    /// A row must not say FAILED before it is recorded that its event is dead: the next session, which
    /// would not know, might publish the event. Marks keep their order.
    fn awaits_record(&self) -> bool {
        let is_beside = self.settings.recording == Recording::Beside;
        is_beside && (!self.unrecorded.is_empty() || self.has_unrecorded_dead())
    }

    fn has_unrecorded_dead(&self) -> bool {
        let mut exceptions = self.exceptions.iter();
        exceptions.any(|exception| matches!(exception, Exception::Dead(_)))
    }

    /// A record beside the events is durable.
    pub(super) fn submit_recorded(&mut self) {
        let recorded = match self.has_unrecorded_dead() {
            true => self.being_recorded,
            false => self.unrecorded.len(),
        };
        for (id, marks) in self.unrecorded.drain(..recorded) {
            self.actions.push_back(Action::WriteBack { id, marks });
        }
        self.being_recorded = 0;
    }

    pub(super) fn submit_marks_from(&mut self, floor: Floor, marks: Marks) {
        match self.write_backs.submit(floor, marks.len()) {
            Some(id) if self.awaits_record() => self.unrecorded.push_back((id, marks)),
            Some(id) => self.actions.push_back(Action::WriteBack { id, marks }),
            None => self.keep_marks(marks),
        }
    }
}

//! What a session holds in memory, reckoned from outside the state machine.

use std::collections::{BTreeMap, VecDeque};

use delivery::{Resume, TransactionPosition, WindowId};
use envelope::{Fate, RECORD_OVERHEAD_BYTES, RecordBatch};
use pgoutput::{CommitLsn, Message, Position};

use crate::Violation;
use crate::setup::Limits;
use crate::wal::OUTBOX_OID;

/// A dead letter, or the resolution of one, is larger than its event by less.
const EPITAPH_BYTES: usize = 1_500;

/// Counts rows in and windows out.
pub(super) struct Ledger {
    limits: Limits,
    resume: Resume,
    /// The open transaction, and its changes so far.
    transaction: Option<(CommitLsn, u64)>,
    /// Rows taken in and not handed out yet: at least so many bytes each.
    gathered: VecDeque<(Position, usize)>,
    /// Bytes of each window in Kafka's hands.
    in_flight: BTreeMap<WindowId, usize>,
    /// What their dead letters may say beside the events.
    epitaphs: BTreeMap<WindowId, usize>,
    /// No record was larger.
    largest: usize,
}

impl Ledger {
    pub fn new(limits: Limits, resume: Resume) -> Self {
        Self {
            limits,
            resume,
            transaction: None,
            gathered: VecDeque::new(),
            in_flight: BTreeMap::new(),
            epitaphs: BTreeMap::new(),
            largest: 0,
        }
    }

    /// A message of so many bytes goes in.
    pub fn taken_in(&mut self, message: &Message<'_>, bytes: usize) {
        match message {
            Message::Begin(begin) => self.transaction = Some((begin.final_lsn, 0)),
            Message::Commit(_) => self.transaction = None,
            Message::Insert(insert) => self.change(insert.relation_oid == OUTBOX_OID, bytes),
            Message::Truncate(_) | Message::Update { .. } | Message::Delete { .. } => {
                self.change(false, bytes);
            }
            Message::Logical(logical) if logical.transactional => self.change(false, bytes),
            Message::Logical(_) | Message::Origin(_) | Message::Relation(_) | Message::Type(_) => {}
        }
    }

    /// A dead letter of so many bytes goes in.
    pub fn handed_in(&mut self, bytes: usize) {
        self.largest = self.largest.max(RECORD_OVERHEAD_BYTES + 1_024 + 2 * bytes);
    }

    /// A window comes out.
    pub fn handed_out(&mut self, window: WindowId, batch: &RecordBatch) {
        let last = batch.iter().next_back().map(|record| record.position);
        while let (Some(last), Some((position, _))) = (last, self.gathered.front())
            && *position <= last
        {
            self.gathered.pop_front();
        }
        let dead = batch.iter().filter(|record| record.fate != Fate::Sent);
        self.epitaphs.insert(window, dead.count() * EPITAPH_BYTES);
        self.in_flight.insert(window, batch.bytes());
    }

    /// A window is done.
    pub fn landed(&mut self, window: WindowId) {
        self.in_flight.remove(&window);
        self.epitaphs.remove(&window);
    }

    /// What must not be.
    pub fn breach(&self) -> Option<Violation> {
        let gathered: usize = self.gathered.iter().map(|(_, bytes)| bytes).sum();
        let held = gathered + self.in_flight.values().sum::<usize>();
        let window = self.limits.max_bytes + self.largest;
        let allowed = (self.limits.producers + 1) * window;
        let epitaphs: usize = self.epitaphs.values().sum();
        let widest = self.in_flight.iter();
        let widest = widest.map(|(id, bytes)| bytes.saturating_sub(self.epitaphs[id]));
        let widest = widest.max().unwrap_or_default();
        let allowed = allowed + epitaphs;
        for (held, allowed) in [(held, allowed), (gathered, window), (widest, window)] {
            if held > allowed {
                return Some(Violation::Memory { held, allowed });
            }
        }
        None
    }

    fn change(&mut self, is_event: bool, bytes: usize) {
        let Some((commit_lsn, changes)) = &mut self.transaction else {
            return;
        };
        let position = Position {
            commit_lsn: *commit_lsn,
            index: *changes,
        };
        *changes += 1;
        if !is_event {
            return;
        }
        // A record holds the row's payload once, and its short columns up to four times.
        self.largest = self.largest.max(RECORD_OVERHEAD_BYTES + 1_024 + 2 * bytes);
        if !is_published(&self.resume, position) {
            let least = RECORD_OVERHEAD_BYTES + bytes / 2;
            self.gathered.push_back((position, least));
        }
    }
}

/// The checkpoint covers it.
fn is_published(resume: &Resume, position: Position) -> bool {
    let is_before = |published: TransactionPosition| {
        position.commit_lsn < published.commit_lsn
            || position.commit_lsn == published.commit_lsn
                && (published.complete || position.index < published.index)
    };
    position.commit_lsn.0 < resume.confirmed_up_to || resume.position.is_some_and(is_before)
}

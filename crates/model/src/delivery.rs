//! The relay's state machine, reduced: which rows form a window, and what its checkpoint says.

use crate::{Lane, Lsn, Position, Progress, RowId, Wal};

/// How far a window has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Handed to a producer.
    Producing {
        /// The events are still to be appended.
        events: bool,
        /// The checkpoint is still to be appended.
        checkpoint: bool,
    },
    /// Every record is acknowledged.
    Acknowledged,
    /// EndTxn has been sent.
    Committing,
    /// EndTxn has been answered.
    Answered {
        /// The transaction is committed; else the producer was fenced.
        committed: bool,
    },
    /// Committed without its checkpoint, which is written beside it (which breaks a rule).
    Recording,
    /// A new producer is being acquired to repeat it (which breaks a rule).
    Repeating,
}

/// The events of one Kafka transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Window {
    /// Its producer.
    pub lane: Lane,
    /// Its first row.
    pub first: RowId,
    /// How many rows; none if it only carries a checkpoint.
    pub rows: u8,
    /// What its checkpoint says.
    pub progress: Progress,
    /// How far it has got.
    pub stage: Stage,
}

/// What does not change during a session.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Producers.
    pub ring: u8,
    /// Rows after which the window is full.
    pub window_rows: u8,
    /// Whether a window waits until the one before it is acknowledged.
    pub waits_for_acknowledgement: bool,
    /// Whether the checkpoint is part of the window's transaction.
    pub checkpoint_inside: bool,
}

/// A streaming session's state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// The next transaction, or the one that is being received.
    pub transaction: u8,
    /// Its next row.
    pub index: u8,
    /// Rows in the open window; they end at the next row.
    pub gathered: u8,
    /// How many of them belong to complete transactions.
    pub boundary_rows: u8,
    /// The stream's place at the end of those.
    pub boundary: Progress,
    /// What the newest window handed out covers.
    pub handed_out: Progress,
    /// Windows in Kafka's hands, in order.
    pub flight: Vec<Window>,
    /// The producer of the next window.
    pub next_lane: Lane,
}

impl Delivery {
    /// Takes the stream up: it comes from `from`, and what `resume` covers is skipped.
    pub fn new(wal: &Wal, from: Lsn, resume: Progress) -> Self {
        let sent = wal.first_sent(from);
        let (transaction, index) = match resume.position {
            None => (wal.first_sent(resume.confirm), 0),
            Some(position) if position.complete => (position.transaction + 1, 0),
            Some(position) => (position.transaction, position.index),
        };
        let (transaction, index) = match sent > transaction {
            true => (sent, 0),
            false => (transaction, index),
        };
        Self {
            transaction,
            index,
            gathered: 0,
            boundary_rows: 0,
            boundary: resume,
            handed_out: resume,
            flight: Vec::new(),
            next_lane: 0,
        }
    }

    /// Whether there is something to receive and room for it.
    pub fn wants_input(&self, wal: &Wal, limits: Limits) -> bool {
        self.gathered < limits.window_rows && self.transaction < wal.transactions()
    }

    /// The next message: a row, or the commit of its transaction.
    pub fn receive(&mut self, wal: &Wal, limits: Limits) {
        let rows = wal.rows_of(self.transaction);
        if self.index < rows {
            self.index += 1;
            self.gathered += 1;
        } else {
            self.boundary_rows = self.gathered;
            if rows > 0 {
                self.boundary.position = Some(self.position(true));
            }
            self.reach(Wal::end_lsn(self.transaction));
            self.transaction += 1;
            self.index = 0;
        }
        self.advance(wal, limits);
    }

    /// The end of the WAL that a keepalive could report now: where the next commit record starts.
    pub fn keepalive(&self) -> Lsn {
        Wal::commit_lsn(self.transaction)
    }

    /// Nothing below `lsn` is left to come.
    pub fn reach(&mut self, lsn: Lsn) {
        self.boundary.confirm = self.boundary.confirm.max(lsn);
    }

    /// Whether complete transactions could go to a producer now.
    pub fn can_close(&self, limits: Limits) -> bool {
        self.boundary_rows > 0 && self.has_free_producer(limits)
    }

    /// Ends the open window at the last boundary.
    pub fn close(&mut self, wal: &Wal, limits: Limits) {
        let first = self.next_row(wal) - self.gathered;
        let rows = self.boundary_rows;
        self.gathered -= rows;
        self.boundary_rows = 0;
        self.hand_out(first, rows, limits);
    }

    /// Whether there is progress that no window carries.
    pub fn can_record(&self) -> bool {
        let quiet = self.flight.is_empty() && self.boundary_rows == 0;
        quiet
            && self.boundary != self.handed_out
            && self.boundary.confirm >= self.handed_out.confirm
    }

    /// Hands out a window with nothing but a checkpoint.
    pub fn record(&mut self, limits: Limits) {
        self.hand_out(0, 0, limits);
    }

    /// Closes windows that are full, as long as a producer is free.
    pub fn advance(&mut self, wal: &Wal, limits: Limits) {
        while self.gathered >= limits.window_rows && self.has_free_producer(limits) {
            if self.boundary_rows > 0 {
                self.close(wal, limits);
                continue;
            }
            self.boundary.position = Some(self.position(false));
            let rows = std::mem::take(&mut self.gathered);
            self.hand_out(self.next_row(wal) - rows, rows, limits);
        }
    }

    /// The window of a producer.
    pub fn window(&mut self, lane: Lane) -> Option<&mut Window> {
        self.flight.iter_mut().find(|w| w.lane == lane)
    }

    /// Takes the window of a producer out of flight.
    pub fn land(&mut self, lane: Lane) -> Option<Window> {
        let index = self.flight.iter().position(|w| w.lane == lane)?;
        Some(self.flight.remove(index))
    }

    /// The stages of a window that has just got its producer.
    pub fn begin(rows: u8, limits: Limits) -> Stage {
        match (rows > 0, limits.checkpoint_inside) {
            (false, false) => Stage::Acknowledged,
            (events, checkpoint) => Stage::Producing { events, checkpoint },
        }
    }

    fn hand_out(&mut self, first: RowId, rows: u8, limits: Limits) {
        self.handed_out = self.boundary;
        self.flight.push(Window {
            lane: self.next_lane,
            first,
            rows,
            progress: self.boundary,
            stage: Self::begin(rows, limits),
        });
        self.next_lane = (self.next_lane + 1) % usize::from(limits.ring);
    }

    fn has_free_producer(&self, limits: Limits) -> bool {
        let producing = |w: &Window| matches!(w.stage, Stage::Producing { .. });
        let waits = limits.waits_for_acknowledgement && self.flight.last().is_some_and(producing);
        !waits && self.flight.iter().all(|w| w.lane != self.next_lane)
    }

    fn next_row(&self, wal: &Wal) -> RowId {
        wal.first_row(self.transaction) + self.index
    }

    fn position(&self, complete: bool) -> Position {
        Position {
            transaction: self.transaction,
            index: self.index,
            complete,
        }
    }
}

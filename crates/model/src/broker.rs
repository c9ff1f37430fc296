//! Kafka: a coordinator per transactional id, one partition of events, one of checkpoints.

use crate::{CoordinatorId, LANES, Progress, RELAYS, RowId};

/// What a coordinator is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No transaction.
    Empty,
    /// Records have been added.
    Ongoing,
    /// The commit is decided; the partitions are not told yet.
    Committing,
    /// The abort is decided; the partitions are not told yet.
    Aborting,
}

/// The state of one transactional id. Its epoch is kept by those who compare themselves with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Coordinator {
    /// What it is doing.
    pub phase: Phase,
}

/// Who sees a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// Its transaction is open, or its marker is not written yet.
    Open(CoordinatorId),
    /// Everybody.
    Committed,
    /// Only who reads what is uncommitted.
    Aborted,
}

/// A record of the events partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventRecord {
    /// The row that it was made of.
    pub row: RowId,
    /// Who sees it.
    pub visibility: Visibility,
}

/// A record of the checkpoint partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CheckpointRecord {
    /// What it says.
    pub progress: Progress,
    /// Producers of its writer.
    pub ring: u8,
    /// Who sees it.
    pub visibility: Visibility,
}

/// Both partitions in the order of their offsets. Records that nobody can see any more are left
/// out: aborted events, and checkpoints before the newest committed one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Broker {
    /// One for each transactional id.
    pub coordinators: [Coordinator; RELAYS * LANES],
    /// The events.
    pub events: Vec<EventRecord>,
    /// The checkpoints.
    pub checkpoints: Vec<CheckpointRecord>,
}

impl Broker {
    /// Holds the record of the slot's creation and nothing else.
    pub fn new(ring: u8) -> Self {
        let genesis = CheckpointRecord {
            progress: Progress {
                position: None,
                confirm: 0,
            },
            ring,
            visibility: Visibility::Committed,
        };
        let idle = Coordinator {
            phase: Phase::Empty,
        };
        Self {
            coordinators: [idle; RELAYS * LANES],
            events: Vec::new(),
            checkpoints: vec![genesis],
        }
    }

    /// Whether the coordinator still has to tell the partitions.
    pub fn is_settling(&self, id: CoordinatorId) -> bool {
        match self.coordinators[id].phase {
            Phase::Committing | Phase::Aborting => true,
            Phase::Empty | Phase::Ongoing => false,
        }
    }

    /// Adds events to a transaction.
    pub fn append_events(&mut self, id: CoordinatorId, rows: impl Iterator<Item = RowId>) {
        let visibility = Visibility::Open(id);
        self.events
            .extend(rows.map(|row| EventRecord { row, visibility }));
        self.coordinators[id].phase = Phase::Ongoing;
    }

    /// Adds a checkpoint to a transaction.
    pub fn append_checkpoint(&mut self, id: CoordinatorId, progress: Progress, ring: u8) {
        self.checkpoints.push(CheckpointRecord {
            progress,
            ring,
            visibility: Visibility::Open(id),
        });
        self.coordinators[id].phase = Phase::Ongoing;
    }

    /// Adds a checkpoint outside any transaction.
    pub fn append_plain_checkpoint(&mut self, progress: Progress, ring: u8) {
        self.checkpoints.push(CheckpointRecord {
            progress,
            ring,
            visibility: Visibility::Committed,
        });
        self.compact();
    }

    /// Decides an open transaction.
    pub fn decide(&mut self, id: CoordinatorId, decision: Phase) {
        self.coordinators[id].phase = decision;
    }

    /// Writes the markers of a decided transaction.
    pub fn settle(&mut self, id: CoordinatorId) {
        let fate = match self.coordinators[id].phase {
            Phase::Committing => Visibility::Committed,
            Phase::Aborting | Phase::Empty | Phase::Ongoing => Visibility::Aborted,
        };
        let open = Visibility::Open(id);
        for event in self.events.iter_mut().filter(|e| e.visibility == open) {
            event.visibility = fate;
        }
        for record in self.checkpoints.iter_mut().filter(|c| c.visibility == open) {
            record.visibility = fate;
        }
        self.events.retain(|e| e.visibility != Visibility::Aborted);
        self.compact();
        self.coordinators[id].phase = Phase::Empty;
    }

    fn compact(&mut self) {
        let newest = self
            .checkpoints
            .iter()
            .rposition(|c| c.visibility == Visibility::Committed);
        let mut offset = 0;
        self.checkpoints.retain(|record| {
            let is_open = matches!(record.visibility, Visibility::Open(_));
            let keep = is_open || newest.is_none_or(|newest| offset >= newest);
            offset += 1;
            keep
        });
    }

    /// Forgets aborted checkpoints, for relays that never see them.
    pub fn forget_aborted(&mut self) {
        self.checkpoints
            .retain(|c| c.visibility != Visibility::Aborted);
    }

    /// Whether every checkpoint is settled: the last stable offset is the high watermark.
    pub fn is_stable(&self) -> bool {
        let open = |c: &CheckpointRecord| matches!(c.visibility, Visibility::Open(_));
        !self.checkpoints.iter().any(open)
    }

    /// The newest committed checkpoint.
    pub fn committed_checkpoint(&self) -> CheckpointRecord {
        let mut committed = self.checkpoints.iter().rev();
        let newest = committed.find(|c| c.visibility == Visibility::Committed);
        *newest.expect("the genesis record is committed")
    }

    /// The newest checkpoint, whatever became of it.
    pub fn last_checkpoint(&self) -> CheckpointRecord {
        *self.checkpoints.last().expect("there is a genesis record")
    }

    /// Whether a record's fate is durable and good: EndTxn is answered before the markers are there.
    pub fn is_durable(&self, visibility: Visibility) -> bool {
        match visibility {
            Visibility::Committed => true,
            Visibility::Open(id) => self.coordinators[id].phase == Phase::Committing,
            Visibility::Aborted => false,
        }
    }

    /// What a `read_committed` consumer sees or will see, in its order.
    pub fn durable_rows(&self) -> impl Iterator<Item = RowId> {
        let durable = |e: &&EventRecord| self.is_durable(e.visibility);
        self.events.iter().filter(durable).map(|e| e.row)
    }

    /// What the newest checkpoint will say once the markers are there.
    pub fn durable_checkpoint(&self) -> Progress {
        let mut records = self.checkpoints.iter().rev();
        let newest = records.find(|c| self.is_durable(c.visibility));
        newest.expect("the genesis record is durable").progress
    }
}

//! What a seed decides before its run: sizes, limits, and how often what goes wrong.

use std::time::Duration;

use crate::adversity::Adversity;
use crate::{Dice, Fault, Sabotage};

/// How the relay writes to Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Transactions that hold the events and the checkpoint.
    ExactlyOnce,
    /// An idempotent producer, and checkpoints beside it.
    AtLeastOnce,
}

impl Mode {
    /// What counts and traces call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExactlyOnce => "exactly-once",
            Self::AtLeastOnce => "at-least-once",
        }
    }
}

/// The limits of one relay process.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Size of the producer ring.
    pub producers: usize,
    /// `batch.max_events`
    pub max_events: usize,
    /// `batch.max_bytes`
    pub max_bytes: usize,
    /// `batch.max_wait`
    pub max_wait: Duration,
}

impl Limits {
    /// A record takes 600 to 1,500 bytes, so most of these split transactions now and then.
    fn draw(dice: &mut Dice) -> Self {
        Self {
            producers: dice.index(1..5),
            max_events: dice.index(1..30),
            max_bytes: dice.index(800..20_000),
            max_wait: Duration::from_millis(dice.number(0..200)),
        }
    }
}

/// What may happen to one request to Kafka, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestFaults {
    /// EndTxn never arrives, and the client hears of a timeout.
    pub end_lost: u64,
    /// EndTxn is carried out, and the client hears of a timeout.
    pub end_unanswered: u64,
    /// EndTxn is carried out without an answer, and the client asks again.
    pub end_retried: u64,
    /// The client hears of a timeout, and EndTxn arrives later.
    pub end_delayed: u64,
    /// AddPartitionsToTxn never arrives, and is sent again.
    pub add_lost: u64,
    /// AddPartitionsToTxn is carried out without an answer, and sent again.
    pub add_unanswered: u64,
    /// Records are refused for good.
    pub produce_refused: u64,
    /// Records are refused by a partition that can't be written to for now, and sent again.
    pub produce_retriable: u64,
    /// A produce request never arrives, and is sent again.
    pub produce_lost: u64,
    /// Records are appended without an answer, and sent again.
    pub produce_unanswered: u64,
    /// The client gives records up, and they arrive later.
    pub produce_delayed: u64,
    /// InitProducerId never arrives, and the client hears of a timeout.
    pub fence_lost: u64,
    /// InitProducerId is carried out, and the client hears of a timeout.
    pub fence_unanswered: u64,
    /// The client hears of a timeout, and InitProducerId arrives later.
    pub fence_delayed: u64,
    /// Metadata is not answered.
    pub metadata: u64,
    /// A question about a topic is not answered.
    pub ask_unanswered: u64,
    /// An UPDATE is carried out, and the connection is lost.
    pub update_unanswered: u64,
    /// The checkpoint can't be read.
    pub read: u64,
    /// A fetch answers from a follower's older view: an end that is not the end.
    pub early_end: u64,
}

/// Everything a seed decides beforehand.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How the relay writes.
    pub mode: Mode,
    /// Limits of the first process, and of all unless `reconfigures`.
    pub limits: Limits,
    /// Each process is started with other limits.
    pub reconfigures: bool,
    /// Partitions per topic.
    pub partitions: usize,
    /// Different transfer ids.
    pub transfers: u64,
    /// Source transactions to write.
    pub transactions: usize,
    /// Steps with faults, before the calm.
    pub trouble_steps: u64,
    /// Once in so many steps something goes wrong.
    pub fault_every: u64,
    /// What goes wrong, and its share.
    pub faults: Vec<(Fault, u64)>,
    /// What goes wrong with requests.
    pub requests: RequestFaults,
    /// What is taken from the relay, if anything, and from which step on.
    pub sabotage: Option<(Sabotage, u64)>,
    /// How often progress without events is recorded. Where that is seldom, it shows whether an
    /// urgent request is obeyed.
    pub checkpoint_interval: Duration,
    /// One in so many keepalives asks for a reply.
    pub asks_every: u64,
    /// The server sends transactions without changes, as versions before 15 do.
    pub sends_empty: bool,
    /// What is wrong with events, and what is done about it.
    pub adversity: Adversity,
    /// `transaction.timeout.ms`
    pub transaction_timeout: Duration,
    /// What is streamed has been received by the standby (`synchronized_standby_slots`).
    pub is_synchronised: bool,
}

impl Setup {
    /// Draws a setup. Each kind of fault is absent from half of all runs, so that others are seen
    /// at work undisturbed.
    pub fn draw(dice: &mut Dice) -> Self {
        let mode = if dice.per_mille(650) {
            Mode::ExactlyOnce
        } else {
            Mode::AtLeastOnce
        };
        let trouble_steps = dice.number(1_000..15_000);
        Self {
            mode,
            limits: Limits::draw(dice),
            reconfigures: dice.one_in(2),
            partitions: dice.index(1..4),
            transfers: dice.number(1..7),
            transactions: dice.index(10..120),
            trouble_steps,
            fault_every: dice.number(20..400),
            faults: Fault::ALL
                .map(|fault| (fault, sometimes(dice, 20)))
                .to_vec(),
            requests: RequestFaults::draw(dice),
            sabotage: draw_sabotage(dice, trouble_steps),
            checkpoint_interval: Duration::from_secs(if dice.one_in(3) { 30 } else { 1 }),
            asks_every: if dice.one_in(2) { 20 } else { 500 },
            sends_empty: dice.one_in(3),
            adversity: Adversity::draw(dice),
            transaction_timeout: Duration::from_millis(dice.number(2_000..10_000)),
            is_synchronised: dice.one_in(2),
        }
    }

    /// Limits for a process that starts now.
    pub fn limits_of_next(&self, dice: &mut Dice) -> Limits {
        if self.reconfigures {
            Limits::draw(dice)
        } else {
            self.limits
        }
    }
}

fn draw_sabotage(dice: &mut Dice, steps: u64) -> Option<(Sabotage, u64)> {
    if !dice.one_in(4) {
        return None;
    }
    let sabotage = dice.pick(&Sabotage::ALL)?;
    Some((sabotage, dice.number(0..steps)))
}

fn sometimes(dice: &mut Dice, most: u64) -> u64 {
    if dice.one_in(2) {
        dice.number(1..most + 1)
    } else {
        0
    }
}

impl RequestFaults {
    fn draw(dice: &mut Dice) -> Self {
        Self {
            end_lost: sometimes(dice, 100),
            end_unanswered: sometimes(dice, 100),
            end_retried: sometimes(dice, 100),
            end_delayed: sometimes(dice, 100),
            add_lost: sometimes(dice, 100),
            add_unanswered: sometimes(dice, 100),
            produce_refused: sometimes(dice, 20),
            produce_retriable: sometimes(dice, 100),
            produce_lost: sometimes(dice, 100),
            produce_unanswered: sometimes(dice, 100),
            produce_delayed: sometimes(dice, 20),
            fence_lost: sometimes(dice, 50),
            fence_unanswered: sometimes(dice, 50),
            fence_delayed: sometimes(dice, 50),
            metadata: sometimes(dice, 100),
            update_unanswered: sometimes(dice, 100),
            ask_unanswered: sometimes(dice, 200),
            read: sometimes(dice, 50),
            early_end: sometimes(dice, 500),
        }
    }
}

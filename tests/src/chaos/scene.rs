//! What faults hit. Without this a run would prove little.

use std::fmt;

use super::Fault;

/// What was going on when faults struck.
#[derive(Debug, Default, Clone)]
pub struct Evidence {
    /// How often each kind struck.
    kinds: Vec<(Fault, u32)>,
    /// Relays started, each with settings of its own.
    pub lives: u32,
    /// While the relay did not stream yet.
    pub starting: u32,
    /// While it had published, with committed rows yet to be published.
    pub publishing: u32,
    /// Relays killed inside a Kafka transaction, which was left open.
    pub in_transaction: u32,
    /// Records of aborted transactions, which no consumer may see.
    pub aborted_records: u64,
    /// The most memory that a relay took, in KiB.
    pub peak_kib: u64,
}

/// Runs shorter than this may miss by chance.
const TELLING_FAULTS: u32 = 10;

impl Evidence {
    pub(super) fn new(kinds: &[Fault]) -> Self {
        Self {
            kinds: kinds.iter().map(|kind| (*kind, 0)).collect(),
            ..Self::default()
        }
    }

    /// Whether faults came while events were on their way: at least one of ten.
    pub fn is_telling(&self) -> bool {
        let faults: u32 = self.kinds.iter().map(|(_, count)| count).sum();
        faults < TELLING_FAULTS || self.publishing * 10 >= faults
    }

    /// How often the rarest kind struck.
    pub fn least(&self) -> u32 {
        self.kinds
            .iter()
            .map(|(_, count)| *count)
            .min()
            .unwrap_or(0)
    }

    pub(super) fn add(&mut self, fault: Fault, found: &Scene) {
        let counts = self.kinds.iter_mut().filter(|(kind, _)| *kind == fault);
        counts.for_each(|(_, count)| *count += 1);
        self.starting += u32::from(!found.streaming);
        self.publishing += u32::from(found.published && found.behind);
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let struck = self.kinds.iter().filter(|(_, count)| *count > 0);
        for (kind, count) in struck {
            writeln!(f, "  {:>3} {}", count, kind.name())?;
        }
        write!(
            f,
            "{} relays; faults while starting: {}, while publishing with rows to come: {}; kills inside \
             a Kafka transaction: {}; {} records aborted; most memory: {} MiB",
            self.lives,
            self.starting,
            self.publishing,
            self.in_transaction,
            self.aborted_records,
            self.peak_kib >> 10,
        )
    }
}

/// What one fault hit.
#[derive(Debug)]
pub(super) struct Scene {
    pub streaming: bool,
    pub published: bool,
    pub behind: bool,
}

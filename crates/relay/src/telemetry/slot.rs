//! The slot in metrics.

use pgoutput::Lsn;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::{FloatGauge, PipelineLabel, as_gauge};
use super::table::{self, families};
use crate::source::catalog::SlotUse;

families! {
    pub(super) struct SlotFamilies {
        lag: Family<PipelineLabel, Gauge> = Family::default(), table::SLOT_LAG;
        retained: Family<PipelineLabel, Gauge> = Family::default(), table::SLOT_RETAINED;
        limit: Family<PipelineLabel, Gauge> = Family::default(), table::SLOT_RETAINED_LIMIT;
        unconfirmed: Family<PipelineLabel, FloatGauge> = Family::default(), table::SLOT_UNCONFIRMED;
        age: Family<PipelineLabel, FloatGauge> = Family::default(), table::SLOT_AGE;
        confirmed: Family<PipelineLabel, Gauge> = Family::default(), table::CONFIRMED_LSN;
        wal_end: Family<PipelineLabel, Gauge> = Family::default(), table::WAL_END_LSN;
    }
}

impl SlotFamilies {
    /// How old the figures are, and how long WAL has been waiting to be confirmed.
    pub fn aged(&self, label: &PipelineLabel, age_seconds: f64, unconfirmed_seconds: f64) {
        self.age.get_or_create(label).set(age_seconds);
        self.unconfirmed
            .get_or_create(label)
            .set(unconfirmed_seconds);
    }

    /// A look at the slot.
    pub fn looked(&self, label: &PipelineLabel, slot: &SlotUse) {
        self.lag.get_or_create(label).set(slot.lag_bytes);
        self.retained.get_or_create(label).set(slot.retained_bytes);
        let wal_end = as_gauge(slot.wal_end.as_u64());
        self.wal_end.get_or_create(label).set(wal_end);
        match slot.retained_limit_bytes {
            Some(limit) => {
                self.limit.get_or_create(label).set(limit);
            }
            None => {
                self.limit.remove(label);
            }
        }
    }

    /// The slot may be confirmed up to here.
    pub fn confirmed(&self, label: &PipelineLabel, lsn: Lsn) {
        let confirmed = as_gauge(lsn.as_u64());
        self.confirmed.get_or_create(label).set(confirmed);
    }
}

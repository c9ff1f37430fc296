//! Dead letters in metrics and log.

use envelope::dead_letter::{self, text};
use envelope::{Fate, RecordBatch};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::PipelineLabel;
use super::table::{self, families};
use crate::config::Pipeline;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ClassLabel {
    pipeline: String,
    service: String,
    class: String,
}

families! {
    pub(super) struct DeadLetterFamilies {
        events: Family<ClassLabel, Counter> = Family::default(), table::DEAD_LETTERS;
        revived: Family<PipelineLabel, Counter> = Family::default(), table::REPLAYED;
        parked: Family<PipelineLabel, Gauge> = Family::default(), table::PARKED_KEYS;
    }
}

impl DeadLetterFamilies {
    /// A window is durable.
    pub fn published(&self, pipeline: &str, batch: &RecordBatch) {
        if is_plain(batch) {
            return;
        }
        for record in batch.iter() {
            match record.fate {
                Fate::Sent | Fate::None => {}
                Fate::Revived => {
                    let pipeline = pipeline.to_owned();
                    self.revived
                        .get_or_create(&PipelineLabel { pipeline })
                        .inc();
                }
                Fate::Dead { .. } => {
                    let label = ClassLabel {
                        pipeline: pipeline.to_owned(),
                        service: text(&record, dead_letter::SERVICE).to_owned(),
                        class: text(&record, dead_letter::CLASS).to_owned(),
                    };
                    self.events.get_or_create(&label).inc();
                }
            }
        }
    }

    pub fn parked(&self, pipeline: &str, keys: usize) {
        let pipeline = pipeline.to_owned();
        let keys = i64::try_from(keys).unwrap_or(i64::MAX);
        self.parked
            .get_or_create(&PipelineLabel { pipeline })
            .set(keys);
    }
}

/// One line for each dead letter of a window that is durable.
pub fn log_dead_letters(pipeline: &Pipeline, batch: &RecordBatch) {
    if is_plain(batch) {
        return;
    }
    for record in batch.iter() {
        let Fate::Dead { attempts } = record.fate else {
            continue;
        };
        tracing::warn!(
            pipeline = pipeline.name,
            slot = pipeline.postgres.slot,
            eventId = record.event_id,
            transferId = record.transfer_id,
            r#type = record.event_type,
            topic = text(&record, dead_letter::TOPIC),
            table = text(&record, dead_letter::TABLE),
            lsn = %record.position.commit_lsn,
            index = record.position.index,
            class = text(&record, dead_letter::CLASS),
            reason = text(&record, dead_letter::REASON),
            attempts,
            "dead letter"
        );
    }
}

/// Nothing but events that are published: as nearly always.
fn is_plain(batch: &RecordBatch) -> bool {
    batch.fates().all(|fate| fate == Fate::Sent)
}

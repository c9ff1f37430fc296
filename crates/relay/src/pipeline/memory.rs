//! What is kept from one session to the next. None of it is needed to be right.

use delivery::Lessons;

use crate::config::{Pipeline, Property, Retry};

/// librdkafka's property for the size of a batch of records, and what we set it to.
const BATCH_SIZE: &str = "batch.size";
const BATCH_BYTES: usize = 1_000_000;
/// Below this a topic is for small events only: larger ones are dead letters.
const SMALLEST_BATCH: usize = 1_000;

/// Kept from session to session.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What the state machine has learned.
    pub lessons: Option<Lessons>,
    /// The smallest batch that a topic insists on, if it is smaller than ours.
    batch_limit: Option<usize>,
}

impl Memory {
    /// What the state machine has learned so far.
    pub fn take_lessons(&mut self, retry: &Retry) -> Lessons {
        let fresh = || Lessons::new(retry.policy(), retry.max_retries);
        self.lessons.take().unwrap_or_else(fresh)
    }

    /// Whether batches fit into a topic that takes `max_bytes`; if not, those of the next session
    /// will.
    pub fn fit_batches(&mut self, pipeline: &Pipeline, max_bytes: usize) -> bool {
        let configured = pipeline.kafka.properties.get(BATCH_SIZE);
        let configured = configured.and_then(|value| value.expose().parse().ok());
        let ours = self.batch_limit.or(configured).unwrap_or(BATCH_BYTES);
        let fits = ours <= max_bytes.max(SMALLEST_BATCH);
        if !fits {
            self.batch_limit = Some(max_bytes.max(SMALLEST_BATCH));
        }
        fits
    }

    /// The pipeline with batches that fit.
    pub fn fitted(&self, pipeline: &Pipeline) -> Pipeline {
        let mut pipeline = pipeline.clone();
        if let Some(limit) = self.batch_limit {
            let value = Property::Plain(limit.to_string());
            pipeline.kafka.properties.insert(BATCH_SIZE.into(), value);
        }
        pipeline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_shrink_to_the_smallest_topic() {
        let pipeline = Pipeline::default();
        let mut memory = Memory::default();
        assert!(memory.fit_batches(&pipeline, 1_040_000));
        assert!(!memory.fit_batches(&pipeline, 100_000));
        assert!(memory.fit_batches(&pipeline, 100_000));
        assert!(memory.fit_batches(&pipeline, 1_040_000));
        let fitted = memory.fitted(&pipeline);
        assert_eq!(
            fitted.kafka.properties.get(BATCH_SIZE),
            Some(&Property::Plain("100000".into()))
        );
    }
}

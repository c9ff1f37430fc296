//! From whoever wrote last to this relay: fence, claim, read.

use std::collections::HashMap;

use delivery::Identity;
use producer::Producer;

use super::checkpoints::{self, Claim, Found, Recorded, Ring};
use super::transactional;
use crate::config::Pipeline;
use crate::failure::Failure;

/// Acquires `count` transactional ids and reads the newest checkpoint.
///
/// If whoever wrote last had a larger ring, or one under another prefix, that is fenced too. A
/// checkpoint of another database stops this relay before it has fenced the one that the
/// checkpoint belongs to.
pub(super) async fn take_over(
    pipeline: &Pipeline,
    identity: &Identity,
    count: usize,
) -> Result<(Vec<Producer>, Recorded), Failure> {
    let mut found = checkpoints::look(pipeline).await?;
    if let Some(checkpoint) = &found.checkpoint {
        delivery::check_identity(&checkpoint.identity, identity)?;
    }
    let own = Ring {
        prefix: pipeline.kafka.transactional_id_prefix.clone(),
        producers: count,
    };
    let mut producers = transactional::fence(pipeline, &own.prefix, 0..count).await?;
    let mut fenced = Fenced(HashMap::from([(own.prefix.clone(), count)]));
    loop {
        fenced.extend(pipeline, found.ring(&own.prefix)).await?;
        tracing::debug!(pipeline = pipeline.name, "older producers fenced");
        let claim = Claim::new(own.clone());
        producers = transactional::claim(pipeline, producers, &claim).await?;
        let recorded = checkpoints::read_claimed(pipeline, claim).await?;
        tracing::debug!(pipeline = pipeline.name, "checkpoint read");
        // One that was committed between the look and the fencing.
        found = Found::of(recorded.checkpoint.clone());
        if fenced.covers(found.ring(&own.prefix)) {
            return Ok((producers, recorded));
        }
    }
}

/// How many ids are fenced, by their prefix.
struct Fenced(HashMap<String, usize>);

impl Fenced {
    fn covers(&self, ring: Option<Ring>) -> bool {
        ring.is_none_or(|ring| self.count(&ring.prefix) >= ring.producers)
    }

    fn count(&self, prefix: &str) -> usize {
        self.0.get(prefix).copied().unwrap_or(0)
    }

    async fn extend(&mut self, pipeline: &Pipeline, ring: Option<Ring>) -> Result<(), Failure> {
        let Some(Ring { prefix, producers }) = ring else {
            return Ok(());
        };
        let done = self.count(&prefix);
        if producers > done {
            drop(transactional::fence(pipeline, &prefix, done..producers).await?);
            self.0.insert(prefix, producers);
        }
        Ok(())
    }
}

//! From whoever wrote last to this relay: fence, claim, read.

use std::collections::HashMap;

use delivery::{Checkpoint, Identity};
use producer::Producer;

use super::checkpoints::{self, Claim};
use super::transactional;
use crate::config::Pipeline;
use crate::failure::Failure;

/// Acquires `count` transactional ids and reads the newest checkpoint.
///
/// If its writer had a larger ring, or one under another prefix, that is fenced too and the
/// checkpoint read again. A checkpoint of another database stops this relay before it has fenced
/// the one that the checkpoint belongs to.
pub(super) async fn take_over(
    pipeline: &Pipeline,
    identity: &Identity,
    count: usize,
) -> Result<(Vec<Producer>, Option<Checkpoint>), Failure> {
    if let Some(checkpoint) = checkpoints::read_latest(pipeline).await? {
        delivery::check_identity(&checkpoint.identity, identity)?;
    }
    let own = &pipeline.kafka.transactional_id_prefix;
    let mut producers = transactional::fence(pipeline, own, 0..count).await?;
    tracing::debug!(pipeline = pipeline.name, count, "older producers fenced");
    let mut fenced = HashMap::from([(own.clone(), count)]);
    loop {
        let claim = Claim::new();
        producers = transactional::claim(pipeline, producers, &claim).await?;
        let checkpoint = checkpoints::read_claimed(pipeline, claim).await?;
        tracing::debug!(pipeline = pipeline.name, "checkpoint read");
        let Some((prefix, recorded)) = checkpoint.as_ref().map(|c| ring(c, own)) else {
            return Ok((producers, None));
        };
        let done = fenced.entry(prefix.to_owned()).or_default();
        if recorded <= *done {
            return Ok((producers, checkpoint));
        }
        drop(transactional::fence(pipeline, prefix, *done..recorded).await?);
        *done = recorded;
    }
}

/// The transactional ids of a checkpoint's writer.
fn ring<'a>(checkpoint: &'a Checkpoint, own: &'a str) -> (&'a str, usize) {
    let prefix = checkpoint.transactional_id_prefix.as_deref();
    (prefix.unwrap_or(own), checkpoint.producers)
}

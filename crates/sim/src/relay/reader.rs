//! Reading the newest committed checkpoint.

use std::collections::BTreeMap;
use std::time::Duration;

use delivery::{Checkpoint, Exceptions};

use super::{Bug, Context, Failure};
use crate::broker::{Message, PartitionId};
use crate::task::pause;
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(30);

/// The newest committed checkpoint: waits until everything below the partition's end is settled,
/// and reads until it has come to that end.
pub(super) async fn read_latest(context: &Context) -> Result<Option<Checkpoint>, Failure> {
    let until = context.elapsed() + PATIENCE;
    let mut high = None;
    while context.elapsed() < until {
        pause().await;
        let end = context.with(|world| {
            let (now, partition) = (world.clock.elapsed(), world.broker.checkpoints());
            if world.befalls(|faults| faults.read, "read-failed") {
                return Err(Failure::transient("the checkpoint can't be read"));
            }
            high = high.or_else(|| world.broker.high_watermark(partition, now).ok());
            Ok(seen_end(world))
        })?;
        let (Some(end), Some(high)) = (end, high) else {
            continue;
        };
        if context.has(Bug::ReadsUncommitted) {
            return newest_uncommitted(context);
        }
        if end >= high || context.has(Bug::TrustsEarlyEnd) {
            return newest_below(context, end);
        }
        context.count("read-waits");
    }
    Err(Failure::transient("reading the checkpoint takes too long"))
}

/// All exceptions, for each is the newest of its key.
pub(super) async fn read_exceptions(context: &Context) -> Result<Exceptions, Failure> {
    let until = context.elapsed() + PATIENCE;
    let partition = context.with(|world| world.broker.exceptions());
    let mut high = None;
    while context.elapsed() < until {
        pause().await;
        if context.with(|world| is_settled(world, partition, &mut high)) {
            return context.with(|world| decode_exceptions(world, partition));
        }
    }
    Err(Failure::transient("reading the exceptions takes too long"))
}

/// Whether everything below the `high` watermark, as it was at first, has been settled.
pub(super) fn is_settled(world: &World, partition: PartitionId, high: &mut Option<usize>) -> bool {
    let now = world.clock.elapsed();
    *high = high.or_else(|| world.broker.high_watermark(partition, now).ok());
    let stable = world.broker.stable_offset(partition, now).ok();
    high.is_some() && stable >= *high
}

fn decode_exceptions(world: &World, partition: PartitionId) -> Result<Exceptions, Failure> {
    let mut newest = BTreeMap::new();
    for stored in world.broker.committed(partition, usize::MAX) {
        let Message { key, value, .. } = &stored.message;
        match value {
            Some(value) => newest.insert(key, value),
            None => newest.remove(key),
        };
    }
    let mut exceptions = Exceptions::default();
    let mut values = newest.into_values();
    match values.all(|value| exceptions.take(value)) {
        true => Ok(exceptions),
        false => Err(Failure::transient("an exception is not understood")),
    }
}

/// Where a `read_committed` reader is told that the partition ends: at the last stable offset,
/// which open transactions and missing markers hold back, or even before it, by a follower that
/// lags.
fn seen_end(world: &mut World) -> Option<usize> {
    let (now, partition) = (world.clock.elapsed(), world.broker.checkpoints());
    let stable = world.broker.stable_offset(partition, now).ok()?;
    match world.befalls(|faults| faults.early_end, "early-end") {
        true => Some(world.dice.index(0..stable + 1)),
        false => Some(stable),
    }
}

fn newest_below(context: &Context, end: usize) -> Result<Option<Checkpoint>, Failure> {
    context.with(|world| {
        let partition = world.broker.checkpoints();
        let newest = world.broker.committed(partition, end).last();
        decode(newest.and_then(|stored| stored.message.value.as_deref()))
    })
}

fn newest_uncommitted(context: &Context) -> Result<Option<Checkpoint>, Failure> {
    context.with(|world| {
        let newest = world.broker.stored(world.broker.checkpoints()).last();
        decode(newest.and_then(|stored| stored.message.value.as_deref()))
    })
}

fn decode(value: Option<&[u8]>) -> Result<Option<Checkpoint>, Failure> {
    let decoded = value.map(Checkpoint::decode).transpose();
    decoded.map_err(Failure::transient)
}

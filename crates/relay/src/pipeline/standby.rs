//! Standing by: one connection looks at the slot until it is free, and Kafka is asked now and then
//! whether it could be used.

use std::time::{Duration, Instant};

use super::Context;
use crate::config::SinkKind;
use crate::failure::Failure;
use crate::sink::Directory;
use crate::source;
use crate::source::catalog::Catalog;
use crate::telemetry::State;

/// It bounds the time of a takeover, and does not grow: a standby may wait for months.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const ASK_INTERVAL: Duration = Duration::from_secs(5);
/// How often the whole start is gone through, which finds what would prevent a takeover.
const REHEARSAL_INTERVAL: Duration = Duration::from_secs(30);

/// Stands by until a session must be tried: the slot is free, can't be seen, or has not been tried
/// for long. `failure` says that the slot is held.
pub(super) async fn stand_by(context: &Context, failure: &Failure) {
    let found = find_slot(context).await;
    // What a new standby says of itself is known before it calls itself one.
    if context.vitals.state() != State::Standby {
        ask_kafka(context).await;
    }
    announce(context, failure);
    let looking = async {
        match found {
            Ok(catalog) => look_until_free(context, &catalog).await,
            Err(failure) => Err(failure),
        }
    };
    let asking = async {
        loop {
            tokio::time::sleep(ASK_INTERVAL).await;
            ask_kafka(context).await;
        }
    };
    let looked = tokio::select! {
        looked = looking => looked,
        () = asking => Ok(()),
    };
    if let Err(failure) = looked {
        tracing::debug!(%failure, "the slot can't be looked at");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn announce(context: &Context, failure: &Failure) {
    if !context.vitals.failed(failure) {
        tracing::info!(
            pipeline = context.pipeline.name,
            code = failure.code.name,
            reason = failure.message,
            "standing by"
        );
    }
}

async fn find_slot(context: &Context) -> Result<Catalog, Failure> {
    let catalog = source::primary(&context.pipeline.postgres).await?;
    look(context, &catalog).await?;
    Ok(catalog)
}

async fn look_until_free(context: &Context, catalog: &Catalog) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        // A silent server is left as soon as one that can't be connected to.
        let patience = context.pipeline.postgres.connect_timeout;
        let held = match tokio::time::timeout(patience, look(context, catalog)).await {
            Ok(looked) => looked?,
            Err(_) => return Err(source::silent("looking at the slot", patience)),
        };
        if !held || began.elapsed() > REHEARSAL_INTERVAL {
            return Ok(());
        }
    }
}

/// Whether somebody holds the slot.
async fn look(context: &Context, catalog: &Catalog) -> Result<bool, Failure> {
    let slot = context.pipeline.slot_name();
    let Some(holder) = catalog.holder(&slot).await? else {
        return Ok(false);
    };
    let slot = catalog.slot_use(&slot).await?;
    context.metrics.slot(&slot);
    context.vitals.looked(slot);
    context.vitals.held_by(holder);
    Ok(true)
}

async fn ask_kafka(context: &Context) {
    if context.pipeline.sink == SinkKind::Stdout {
        return;
    }
    let asked = Directory::connect(&context.pipeline).await;
    let usable = asked.and_then(|directory| directory.require_checkpoint_topic());
    context.vitals.asked_kafka(usable.err());
}

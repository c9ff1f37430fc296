//! Standing by: one connection looks at the slot until it is free, and Kafka is asked now and then
//! whether it could be used.

use std::time::{Duration, Instant};

use super::Context;
use super::yielding::{ASK_INTERVAL, ask_kafka};
use crate::failure::Failure;
use crate::source;
use crate::source::catalog::{Catalog, Holder};
use crate::source::presence::KafkaReport;
use crate::telemetry::{News, State};

/// It bounds the time of a takeover, and does not grow: a standby may wait for months.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often the whole start is gone through, which finds what would prevent a takeover.
const REHEARSAL_INTERVAL: Duration = Duration::from_secs(30);

/// Stands by until a session must be tried: the slot is free for this relay, can't be seen, or has
/// not been tried for long. `failure` says that the slot is held, or was given up.
pub(super) async fn stand_by(context: &Context, failure: &Failure) {
    let found = find_slot(context).await;
    // What a new standby says of itself is known before it calls itself one. Who has yielded knows.
    if context.vitals.state() != State::Standby && failure.code.name != "yielded" {
        ask(context).await;
    }
    let holder = found.as_ref().ok().and_then(|(_, holder)| holder.as_ref());
    announce(context, failure, holder);
    let looking = async {
        match &found {
            Ok((catalog, _)) => look_until_due(context, catalog).await,
            Err(failure) => Err(failure.clone()),
        }
    };
    let asking = async {
        loop {
            tokio::time::sleep(ASK_INTERVAL).await;
            ask(context).await;
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

fn announce(context: &Context, failure: &Failure, holder: Option<&Holder>) {
    if context.vitals.failed(failure) == News::First {
        tracing::info!(
            pipeline = context.pipeline.name,
            code = failure.code.name,
            reason = failure.message,
            holder = holder.map(tracing::field::display),
            "standing by"
        );
    }
}

async fn find_slot(context: &Context) -> Result<(Catalog, Option<Holder>), Failure> {
    let catalog = source::primary(&context.pipeline.postgres).await?;
    let holder = look(context, &catalog).await?;
    Ok((catalog, holder))
}

async fn look_until_due(context: &Context, catalog: &Catalog) -> Result<(), Failure> {
    let began = Instant::now();
    let mut told = None;
    loop {
        tell(context, catalog, &mut told).await?;
        tokio::time::sleep(LOOK_INTERVAL).await;
        // A silent server is left as soon as one that can't be connected to.
        let patience = context.pipeline.postgres.connect_timeout;
        let due = match tokio::time::timeout(patience, is_due(context, catalog, began)).await {
            Ok(looked) => looked?,
            Err(_) => return Err(source::silent("looking at the slot", patience)),
        };
        if due {
            return Ok(());
        }
    }
}

/// Lets the other relays know whether this one reaches Kafka, when that changes.
async fn tell(
    context: &Context,
    catalog: &Catalog,
    told: &mut Option<KafkaReport>,
) -> Result<(), Failure> {
    let report = match context.vitals.could_use_kafka() {
        true => KafkaReport::Ok,
        false => KafkaReport::Trouble,
    };
    if *told != Some(report) {
        catalog.report(&context.pipeline, report).await?;
        *told = Some(report);
    }
    Ok(())
}

/// Whether a session is to be tried now. A slot that is free is left to a standby that reaches
/// Kafka, by one that does not.
async fn is_due(context: &Context, catalog: &Catalog, began: Instant) -> Result<bool, Failure> {
    if look(context, catalog).await?.is_some() {
        return Ok(began.elapsed() > REHEARSAL_INTERVAL);
    }
    if context.vitals.could_use_kafka() {
        return Ok(true);
    }
    let abler = catalog.able_standby(&context.pipeline).await?;
    Ok(abler.is_none())
}

/// Who holds the slot, if anybody does.
async fn look(context: &Context, catalog: &Catalog) -> Result<Option<Holder>, Failure> {
    let slot = context.pipeline.slot_name();
    let Some(holder) = catalog.holder(&slot).await? else {
        return Ok(None);
    };
    let slot = catalog.slot_use(&slot).await?;
    context.metrics.slot(&slot);
    context.vitals.looked(slot);
    context.vitals.held_by(holder.clone());
    Ok(Some(holder))
}

async fn ask(context: &Context) {
    let asked = ask_kafka(&context.pipeline).await;
    context.vitals.asked_kafka(asked.err());
}

//! Giving the slot up: a relay that is cut off from Kafka leaves it to a standby that is not.
//!
//! Both ask Kafka the same question. A relay yields only when its own question is not answered and
//! the standby's was, so with both cut off, or neither, or trouble that lies elsewhere, the slot
//! stays where it is, and two relays never hand it to and fro.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Pipeline, SinkKind};
use crate::failure::Failure;
use crate::sink::Directory;
use crate::source;
use crate::source::catalog::Holder;
use crate::telemetry::Vitals;

/// A standby that asks every [`ASK_INTERVAL`] tells within this and [`ASK_PATIENCE`] that Kafka is
/// out of reach, so a longer trouble with a standby that reaches it is not everybody's trouble.
const YIELD_AFTER: Duration = Duration::from_secs(12);
/// How often a standby asks Kafka.
pub(super) const ASK_INTERVAL: Duration = Duration::from_secs(5);
/// How long brokers may take to answer.
const ASK_PATIENCE: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Whether Kafka can be used, as far as can be told without fencing anybody.
pub(super) async fn ask_kafka(pipeline: &Pipeline) -> Result<(), Failure> {
    if pipeline.sink == SinkKind::Stdout {
        return Ok(());
    }
    let asking = Directory::connect(pipeline);
    match tokio::time::timeout(ASK_PATIENCE, asking).await {
        Ok(directory) => directory?.require_checkpoint_topic(),
        Err(_) => {
            let seconds = ASK_PATIENCE.as_secs();
            let message = format!("no broker has told its topics within {seconds} s");
            Err(Failure::new("kafka-unreachable", message))
        }
    }
}

/// Resolves once this relay has long been cut off from Kafka and a standby is not.
pub(super) async fn due(pipeline: Pipeline, vitals: Arc<Vitals>) -> Failure {
    let cut_off_for = |bound: Duration| vitals.cut_off_from_kafka().filter(|age| *age >= bound);
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        if cut_off_for(YIELD_AFTER - ASK_PATIENCE).is_none() {
            continue;
        }
        // Mostly there is none, and then Kafka need not be asked.
        if able_standby(&pipeline).await.is_none() {
            tokio::time::sleep(ASK_INTERVAL).await;
            continue;
        }
        let Err(unusable) = ask_kafka(&pipeline).await else {
            continue;
        };
        let Some(cut_off) = cut_off_for(YIELD_AFTER) else {
            continue;
        };
        if let Some(standby) = able_standby(&pipeline).await {
            vitals.asked_kafka(Some(unusable));
            return yielded(&pipeline, cut_off, &standby);
        }
    }
}

async fn able_standby(pipeline: &Pipeline) -> Option<Holder> {
    let looked = async {
        let catalog = source::primary(&pipeline.postgres).await?;
        catalog.able_standby(pipeline).await
    };
    let looked: Result<_, Failure> = looked.await;
    looked.unwrap_or_else(|failure| {
        tracing::debug!(%failure, "standbys can't be looked for");
        None
    })
}

fn yielded(pipeline: &Pipeline, cut_off: Duration, standby: &Holder) -> Failure {
    let seconds = cut_off.as_secs();
    tracing::warn!(
        pipeline = pipeline.name,
        cut_off_s = seconds,
        %standby,
        "giving the slot up to a standby that reaches Kafka"
    );
    Failure::new(
        "yielded",
        format!(
            "nothing has got into Kafka for {seconds} s, and a standby reaches it ({standby}): \
             the slot is left to it"
        ),
    )
}

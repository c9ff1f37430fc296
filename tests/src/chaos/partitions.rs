//! Topics that grow while they are written to.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;

use crate::stage::TOPICS;

const WITHIN: Duration = Duration::from_secs(30);

/// One partition more for each topic of the stage.
pub(super) async fn add(bootstrap: &str) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let count = |topic| -> Result<usize> {
        let metadata = admin.inner().fetch_metadata(Some(topic), WITHIN)?;
        let found = metadata.topics().first().context("no metadata")?;
        Ok(found.partitions().len())
    };
    for topic in TOPICS {
        let grown = NewPartitions::new(topic, count(topic)? + 1);
        let options = AdminOptions::new().operation_timeout(Some(WITHIN));
        for outcome in admin.create_partitions([&grown], &options).await? {
            outcome.map_err(|(topic, code)| anyhow!("{topic}: {code}"))?;
        }
    }
    Ok(())
}

//! One run of a broker that does nothing but record which classes it loads.

use crate::error::{Error, Result};
use crate::kafka::builder::KafkaBuilder;
use crate::kafka::distribution::Distribution;

/// The file's name in its folder of the cache.
pub(crate) const ARCHIVE: &str = "classes.jsa";

/// Starts and stops a broker; the JVM writes the archive as it ends.
pub(crate) fn write_archive(distribution: Distribution) -> Result<()> {
    let brokers = KafkaBuilder::new().launch(&distribution, 1)?;
    match brokers.first() {
        Some(broker) => broker.stop().map(drop),
        None => Err(Error::NotRunning {
            server: "the broker that was just started".to_owned(),
        }),
    }
}

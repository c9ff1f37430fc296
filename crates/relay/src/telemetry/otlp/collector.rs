//! Where to export to.

use std::env;
use std::time::Duration;

use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::Resource;
use reqwest::blocking::Client;

use super::VERSION;
use crate::config::Otlp;

const TIMEOUT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
/// What OpenTelemetry defines for want of that variable.
const TIMEOUT: Duration = Duration::from_secs(10);

const INSTANCE: &str = "service.instance.id";

/// A collector, and what all exports to it share.
#[derive(Clone, Debug)]
pub struct Collector {
    endpoint: String,
    pub(super) client: Client,
    /// Who exports.
    pub(super) resource: Resource,
}

impl Collector {
    /// The configured one; `None` without an endpoint. To be called outside an async runtime.
    ///
    /// # Errors
    /// The client for it can't be made.
    pub fn of(otlp: &Otlp) -> Result<Option<Self>, String> {
        let Some(endpoint) = &otlp.endpoint else {
            return Ok(None);
        };
        // The client takes the process's one; whoever was first has chosen.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(timeout(env::var(TIMEOUT_VARIABLE).ok().as_deref()))
            .build()
            .map_err(|e| format!("otlp.endpoint: {e}"))?;
        Ok(Some(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            client,
            resource: resource(),
        }))
    }

    /// Where `signal` goes to.
    pub(super) fn url(&self, signal: &str) -> String {
        format!("{}/v1/{signal}", self.endpoint)
    }
}

/// What OTEL_RESOURCE_ATTRIBUTES says is part of it.
fn resource() -> Resource {
    let given = Resource::builder().build();
    let builder = Resource::builder()
        .with_service_name("outboxd")
        .with_attribute(KeyValue::new("service.version", VERSION));
    // Metrics of two relays would be one series otherwise.
    let builder = match given.get(&Key::from_static_str(INSTANCE)) {
        Some(_) => builder,
        None => builder.with_attribute(KeyValue::new(INSTANCE, random_id())),
    };
    builder.build()
}

fn random_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// In milliseconds, as the variable has it.
fn timeout(variable: Option<&str>) -> Duration {
    let milliseconds = variable.and_then(|text| text.trim().parse().ok());
    milliseconds.map_or(TIMEOUT, Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_is_an_instance_of_the_service() {
        let instance = || resource().get(&Key::from_static_str(INSTANCE));
        assert!(instance().is_some());
        assert_ne!(instance(), instance());
        let service = resource().get(&Key::from_static_str("service.name"));
        assert_eq!(service, Some("outboxd".into()));
    }

    #[test]
    fn the_timeout_is_in_milliseconds() {
        assert_eq!(timeout(Some("250")), Duration::from_millis(250));
        assert_eq!(timeout(Some("soon")), TIMEOUT);
        assert_eq!(timeout(None), TIMEOUT);
    }
}

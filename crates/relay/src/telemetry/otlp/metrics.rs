//! Metrics to a collector: at times what `/metrics` would show, so that nothing is counted twice.

use std::env;
use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, SystemTime};

use opentelemetry::Context;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use reqwest::blocking::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::collector::Collector;
use super::exposition::parse;
use super::outage::Outage;
use super::points::{self, Span};
use super::{LAST_EXPORT, VERSION, headers};
use crate::failure::chain;

/// Those of metrics alone come first, as OpenTelemetry defines them.
const HEADER_VARIABLES: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    "OTEL_EXPORTER_OTLP_HEADERS",
];
/// An answer says no more than how many points were refused, and why.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// A thread that exports.
pub struct MetricsExport {
    stop: Sender<()>,
    ended: Receiver<()>,
}

impl MetricsExport {
    /// Exports what `expose` shows every `interval`, and at the end.
    ///
    /// # Errors
    /// There can be no further thread.
    pub fn start(
        collector: &Collector,
        interval: Duration,
        expose: impl Fn() -> String + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let exporter = Exporter::to(collector);
        thread::Builder::new()
            .name("otlp-metrics".into())
            .spawn(move || {
                // As in the threads of the SDK: what is logged here is not exported.
                let _silenced = Context::enter_telemetry_suppressed_scope();
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    exporter.export(&expose(), None);
                }
                exporter.export(&expose(), Some(LAST_EXPORT));
                drop(end);
            })?;
        Ok(Self { stop, ended })
    }

    /// Exports once more. An export that is stuck is left behind.
    pub fn end(self) {
        drop(self.stop);
        if self.ended.recv_timeout(LAST_EXPORT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the last metrics were not exported");
        }
    }
}

struct Exporter {
    collector: Collector,
    url: String,
    headers: HeaderMap,
    resource: Resource,
    start: u64,
    outage: Outage,
}

impl Exporter {
    fn to(collector: &Collector) -> Self {
        let variable = HEADER_VARIABLES.iter().find_map(|name| env::var(name).ok());
        let mut headers = headers::parse(&variable.unwrap_or_default());
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        headers.insert(CONTENT_TYPE, protobuf);
        Self {
            collector: collector.clone(),
            url: collector.url("metrics"),
            headers,
            resource: (&collector.resource).into(),
            start: unix_nanos(),
            outage: Outage::of("metrics"),
        }
    }

    /// Whatever can't be exported now is part of the next: all counts from the start.
    fn export(&self, text: &str, within: Option<Duration>) {
        let request = self.request(text);
        let outcome = request.and_then(|request| self.post(request.encode_to_vec(), within));
        self.outage.note(&outcome);
    }

    fn request(&self, text: &str) -> Result<ExportMetricsServiceRequest, String> {
        let families = parse(text).map_err(|e| e.to_string())?;
        let span = Span {
            start: self.start,
            end: unix_nanos(),
        };
        let metrics = families.into_iter();
        let metrics = metrics.filter_map(|family| points::metric(family, span));
        let scope = InstrumentationScope {
            name: "outboxd".into(),
            version: VERSION.into(),
            ..InstrumentationScope::default()
        };
        let scope_metrics = ScopeMetrics {
            scope: Some(scope),
            metrics: metrics.collect(),
            ..ScopeMetrics::default()
        };
        let resource_metrics = ResourceMetrics {
            resource: Some(self.resource.clone()),
            scope_metrics: vec![scope_metrics],
            ..ResourceMetrics::default()
        };
        Ok(ExportMetricsServiceRequest {
            resource_metrics: vec![resource_metrics],
        })
    }

    fn post(&self, body: Vec<u8>, within: Option<Duration>) -> Result<(), String> {
        let mut request = self.collector.client.post(&self.url);
        if let Some(within) = within {
            request = request.timeout(within);
        }
        let answer = request.headers(self.headers.clone()).body(body).send();
        // The URL may hold a password.
        answer
            .map_err(|e| chain(&e.without_url()))
            .and_then(accepted)
    }
}

/// Whether all points were taken.
fn accepted(answer: Response) -> Result<(), String> {
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("the collector answers {status}"));
    }
    let mut body = Vec::new();
    let mut limited = answer.take(ANSWER_BYTES_MAX);
    limited.read_to_end(&mut body).map_err(|e| chain(&e))?;
    // Not every collector answers with what is defined; that it took the points is said by the status.
    let answer = ExportMetricsServiceResponse::decode(body.as_slice()).unwrap_or_default();
    match answer.partial_success {
        Some(partial) if partial.rejected_data_points > 0 => Err(format!(
            "the collector refuses {} points: {}",
            partial.rejected_data_points, partial.error_message
        )),
        Some(_) | None => Ok(()),
    }
}

fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

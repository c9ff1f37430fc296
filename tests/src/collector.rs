//! A collector of OpenTelemetry's signals: takes OTLP over HTTP (protobuf) and keeps what it got.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// A signal of what is tested takes some kilobytes.
const BODY_BYTES_MAX: usize = 16 << 20;

/// One span and the service that sent it.
#[derive(Debug, Clone)]
pub struct Received {
    /// `service.name` of its resource.
    pub service: String,
    /// The span.
    pub span: Span,
}

impl Received {
    /// An attribute that is a text.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        text_of(&self.span.attributes, name)
    }
}

/// One log line. Its service is the relay: nothing else logs to a collector.
#[derive(Debug, Clone)]
pub struct Line {
    /// Where in the program it comes from.
    pub target: String,
    /// The line.
    pub record: LogRecord,
}

impl Line {
    /// An attribute that is a text.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        text_of(&self.record.attributes, name)
    }

    /// What it says.
    pub fn message(&self) -> Option<&str> {
        text(self.record.body.as_ref())
    }
}

/// What has been received.
#[derive(Debug, Default)]
struct Kept {
    spans: Vec<Received>,
    /// The last ones of each service.
    metrics: Vec<(String, Vec<Metric>)>,
    lines: Vec<Line>,
}

/// A collector that listens until the process ends.
pub struct Collector {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
}

impl Collector {
    /// Starts to listen.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let all = Arc::<Mutex<Kept>>::default();
        let kept = Arc::clone(&all);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                // A client that breaks off is its own trouble.
                std::thread::spawn(move || serve(socket, &kept));
            }
        });
        Ok(Self { address, kept: all })
    }

    /// What to export to.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans that have been received.
    pub fn spans(&self) -> Vec<Received> {
        lock(&self.kept).spans.clone()
    }

    /// The metrics that `service` has sent last.
    pub fn metrics(&self, service: &str) -> Vec<Metric> {
        let kept = lock(&self.kept);
        let found = kept.metrics.iter().find(|(from, _)| from == service);
        found
            .map(|(_, metrics)| metrics.clone())
            .unwrap_or_default()
    }

    /// All log lines that have been received.
    pub fn lines(&self) -> Vec<Line> {
        lock(&self.kept).lines.clone()
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(socket: TcpStream, kept: &Mutex<Kept>) -> Result<()> {
    let mut answers = socket.try_clone()?;
    let mut requests = BufReader::new(socket);
    while let Some((path, body)) = request(&mut requests)? {
        match path.as_str() {
            "/v1/traces" => keep_spans(&body, kept)?,
            "/v1/metrics" => keep_metrics(&body, kept)?,
            "/v1/logs" => keep_lines(&body, kept)?,
            other => bail!("nothing of OTLP goes to {other}"),
        }
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
        answers.write_all(head.as_bytes())?;
    }
    Ok(())
}

/// Path and body of the next request of a connection; `None` at its end.
fn request(from: &mut impl BufRead) -> Result<Option<(String, Vec<u8>)>> {
    let (mut line, mut length, mut path) = (String::new(), 0, None);
    loop {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if path.is_none() {
            let rest = line.strip_prefix("POST ").context("not a POST")?;
            path = rest.split(' ').next().map(str::to_owned);
        }
        let lower = line.to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    ensure!(length <= BODY_BYTES_MAX, "{length} bytes");
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(path.map(|path| (path, body)))
}

fn keep_spans(body: &[u8], kept: &Mutex<Kept>) -> Result<()> {
    let request = ExportTraceServiceRequest::decode(body).context("not what OTLP exports")?;
    for resource_spans in request.resource_spans {
        let service = service_of(resource_spans.resource);
        let spans = resource_spans.scope_spans.into_iter();
        let spans = spans.flat_map(|scope| scope.spans).map(|span| Received {
            service: service.clone(),
            span,
        });
        lock(kept).spans.extend(spans);
    }
    Ok(())
}

fn keep_metrics(body: &[u8], kept: &Mutex<Kept>) -> Result<()> {
    let request = ExportMetricsServiceRequest::decode(body).context("not what OTLP exports")?;
    for resource_metrics in request.resource_metrics {
        let service = service_of(resource_metrics.resource);
        let metrics = resource_metrics.scope_metrics.into_iter();
        let metrics = metrics.flat_map(|scope| scope.metrics).collect();
        let mut kept = lock(kept);
        kept.metrics.retain(|(from, _)| *from != service);
        kept.metrics.push((service, metrics));
    }
    Ok(())
}

fn keep_lines(body: &[u8], kept: &Mutex<Kept>) -> Result<()> {
    let request = ExportLogsServiceRequest::decode(body).context("not what OTLP exports")?;
    let resources = request.resource_logs.into_iter();
    for scope in resources.flat_map(|resource_logs| resource_logs.scope_logs) {
        let target = scope.scope.unwrap_or_default().name;
        let lines = scope.log_records.into_iter().map(|record| Line {
            target: target.clone(),
            record,
        });
        lock(kept).lines.extend(lines);
    }
    Ok(())
}

fn service_of(resource: Option<Resource>) -> String {
    let attributes = resource.unwrap_or_default().attributes;
    let service = text_of(&attributes, "service.name");
    service.unwrap_or_default().to_owned()
}

fn text_of<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    text(found.value.as_ref())
}

fn text(value: Option<&AnyValue>) -> Option<&str> {
    match value?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

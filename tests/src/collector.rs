//! A collector of OpenTelemetry spans: takes OTLP over HTTP (protobuf) and keeps what it got.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// A span of what is tested takes less than a kilobyte.
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

/// A collector that listens until the process ends.
pub struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Received>>>,
}

impl Collector {
    /// Starts to listen.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let spans = Arc::<Mutex<Vec<Received>>>::default();
        let kept = Arc::clone(&spans);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                // A client that breaks off is its own trouble.
                std::thread::spawn(move || serve(socket, &kept));
            }
        });
        Ok(Self { address, spans })
    }

    /// What to export to.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that has been received.
    pub fn spans(&self) -> Vec<Received> {
        self.spans
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn serve(socket: TcpStream, kept: &Mutex<Vec<Received>>) -> Result<()> {
    let mut answers = socket.try_clone()?;
    let mut requests = BufReader::new(socket);
    while let Some(body) = request(&mut requests)? {
        let mut spans = spans_of(&body)?;
        kept.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .append(&mut spans);
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
        answers.write_all(head.as_bytes())?;
    }
    Ok(())
}

/// The body of the next request of a connection; `None` at its end.
fn request(from: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let (mut line, mut length, mut lines) = (String::new(), 0, 0);
    loop {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        lines += 1;
        if lines == 1 {
            ensure!(line.starts_with("POST /v1/traces "), "{line}");
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
    Ok(Some(body))
}

fn spans_of(body: &[u8]) -> Result<Vec<Received>> {
    let request = ExportTraceServiceRequest::decode(body).context("not what OTLP exports")?;
    let mut all = Vec::new();
    for resource_spans in request.resource_spans {
        let attributes = resource_spans.resource.unwrap_or_default().attributes;
        let service = text_of(&attributes, "service.name").unwrap_or_default();
        for scope in resource_spans.scope_spans {
            all.extend(scope.spans.into_iter().map(|span| Received {
                service: service.to_owned(),
                span,
            }));
        }
    }
    Ok(all)
}

fn text_of<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

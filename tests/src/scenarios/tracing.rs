//! One trace: from the service's insert through the relay to the consumer's handler. And metrics and log lines.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use inbox::{Event, Failure, Handler, Handlers, Transaction};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::collector::{Collector, Line, Received};
use crate::consumers::{self, Running};
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, UNROUTABLE};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "tracing",
    about: "service's insert, relay and consumer's handler are one trace in a collector, which gets all metrics and log lines too; one that is away or silent holds nothing up",
    group: Group::Proof,
    within: Duration::from_secs(200),
    run: |figures| Box::pin(run(figures)),
};

const ARRIVES_WITHIN: Duration = Duration::from_secs(60);
/// The last export may take 2 s.
const ENDS_WITHIN: Duration = Duration::from_secs(6);
/// What the exporter's client says of itself is among it.
const LEVEL: &str = "info,reqwest=trace,hyper_util=trace";
const CLIENT: &str = "reqwest::";
const MARKER: &str = "do-not-export-me";
const COMPLAINT: &str = "not exported for now";
const TYPE: &str = "transfers.settled";
/// W3C Trace Context, of a trace that is not sampled.
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

#[derive(Serialize, Deserialize)]
struct Settled {
    amount: i64,
}

impl outbox::EventType for Settled {
    const TYPE: &'static str = TYPE;
}

struct Post;

impl Handler<Settled> for Post {
    async fn handle(&self, event: Event<Settled>, tx: &Transaction<'_>) -> Result<(), Failure> {
        let sql = "INSERT INTO entries (event_id, amount) VALUES ($1, $2)";
        tx.execute(sql, &[&event.id(), &event.payload.amount])
            .await?;
        Ok(())
    }
}

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    consumers::prepare(&stage, "ledger").await?;
    let collector = Collector::start()?;
    let services = trace_services(&collector).await?;
    let endpoint = collector.endpoint();
    let level = [("OUTBOXD_LOG_LEVEL", LEVEL)];
    let env = [exporting(&endpoint).as_slice(), &level].concat();
    let relay = stage.relay_with(&env).await?;
    let handlers = Handlers::new().on(TYPE, Post);
    let consumer = Running::start(consumers::consumer(&stage, "ledger", &[TYPE], handlers)?)?;

    let settled = settle(&stage).await?;
    let bare = format!(
        "INSERT INTO outbox (event_type, payload, headers) VALUES \
         ('{TYPE}', '{{\"amount\": 2}}', NULL), \
         ('{TYPE}', '{{\"amount\": 3}}', '{{\"traceparent\": \"{UNSAMPLED}\"}}')"
    );
    stage.postgres.sql(DATABASE, &bare)?;
    let dead = dead(&stage).await?;
    wait::until("all is handled", ARRIVES_WITHIN, async || {
        Ok(stage.value("SELECT count(*) FROM entries")? == "3")
    })
    .await?;
    consumer.stop().await?;
    let (_, scrape) = relay.get("/metrics")?;
    let log = relay.log_path().to_owned();
    relay.stop().await?;
    let log = std::fs::read_to_string(log)?;
    let provider = services.clone();
    tokio::task::spawn_blocking(move || provider.force_flush()).await??;

    one_trace(&collector, &settled)?;
    dead_letter_is_an_error(&collector, &dead)?;
    let published: Vec<_> = of(&collector, "outboxd");
    ensure!(
        published.len() == 2,
        "spans for what is not sampled: {published:#?}"
    );
    figures.add("spans", collector.spans().len());
    figures.add("metrics", all_metrics(&collector, &scrape)?);
    figures.add("log lines", log_lines(&collector, &dead, &log)?);
    // Nobody listens there.
    let log = without_a_collector(&stage, "http://127.0.0.1:9").await?;
    for signal in ["traces", "metrics", "logs"] {
        let signal = format!("\"signal\":\"{signal}\"");
        let complaints = log.lines().filter(|line| line.contains(COMPLAINT));
        let complaints = complaints.filter(|line| line.contains(&signal));
        ensure!(complaints.count() == 1, "{signal} is not said once: {log}");
    }
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", silent.local_addr()?);
    without_a_collector(&stage, &endpoint).await.map(drop)
}

/// All that can be exported.
fn exporting(endpoint: &str) -> [(&str, &str); 4] {
    [
        ("OUTBOXD_OTLP_ENDPOINT", endpoint),
        ("OUTBOXD_OTLP_METRICS", "true"),
        ("OUTBOXD_OTLP_METRICS_INTERVAL", "1s"),
        ("OUTBOXD_OTLP_LOGS", "true"),
    ]
}

/// What this process traces, as services do: the insert and the handler.
async fn trace_services(collector: &Collector) -> Result<SdkTracerProvider> {
    let endpoint = format!("{}/v1/traces", collector.endpoint());
    // The exporter's client is made where no runtime is.
    // Whoever was first has chosen the TLS of its client.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let build = move || {
        SpanExporter::builder()
            .with_http()
            .with_endpoint(endpoint)
            .build()
    };
    let exporter = tokio::task::spawn_blocking(build).await??;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name("services").build())
        .build();
    let tracer = provider.tracer("services");
    tracing_subscriber::registry()
        .with(tracing_opentelemetry::layer().with_tracer(tracer))
        .try_init()?;
    Ok(provider)
}

/// A service's transaction in a span of its own; the event's id.
async fn settle(stage: &Stage) -> Result<String> {
    let mut client = stage.client().await?;
    let work = async {
        let tx = client.transaction().await?;
        let event = outbox::Event::of(&Settled { amount: 1 }).transfer_id("t-1");
        let id = outbox::emit(&tx, event).await?;
        tx.commit().await?;
        anyhow::Ok(id.to_string())
    };
    work.instrument(tracing::info_span!("settle")).await
}

/// An event of a sampled trace that can't be published; its id.
async fn dead(stage: &Stage) -> Result<String> {
    let sampled = UNSAMPLED.replace("b7ad6b7169203331-00", "b7ad6b7169203331-01");
    stage.value(&format!(
        "INSERT INTO outbox (event_type, payload, headers) \
         VALUES ('{UNROUTABLE}', '{{\"secret\": \"{MARKER}\"}}', '{{\"traceparent\": \"{sampled}\"}}') RETURNING id"
    ))
}

fn of(collector: &Collector, service: &str) -> Vec<Received> {
    let spans = collector.spans().into_iter();
    spans
        .filter(|received| received.service == service)
        .collect()
}

fn published(collector: &Collector, id: &str) -> Result<Received> {
    let mut found = of(collector, "outboxd").into_iter();
    let found = found.find(|received| received.attribute("messaging.message.id") == Some(id));
    found.with_context(|| format!("no span of event {id}"))
}

fn one_trace(collector: &Collector, id: &str) -> Result<()> {
    let services = of(collector, "services");
    let named = |name: &str| services.iter().find(|received| received.span.name == name);
    let service = &named("settle").context("the service has no span")?.span;
    let relay = published(collector, id)?;
    let handler = services.iter().find(|received| {
        received.span.name == "event" && received.attribute("eventId") == Some(id)
    });
    let handler = &handler.context("the handler has no span")?.span;
    for (who, span) in [("relay", &relay.span), ("handler", handler)] {
        ensure!(
            span.trace_id == service.trace_id,
            "{who}: another trace: {span:#?}"
        );
        ensure!(
            span.parent_span_id == service.span_id,
            "{who}: another parent: {span:#?}"
        );
    }
    let span = &relay.span;
    ensure!(span.name == format!("publish {TYPE}"), "{}", span.name);
    ensure!(
        span.start_time_unix_nano < span.end_time_unix_nano,
        "{span:#?}"
    );
    ensure!(
        handler.end_time_unix_nano > span.start_time_unix_nano,
        "handled before it was committed"
    );
    for (name, value) in [
        ("messaging.system", "kafka"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", TYPE),
        ("messaging.message.conversation_id", "t-1"),
    ] {
        ensure!(relay.attribute(name) == Some(value), "{name}: {relay:#?}");
    }
    Ok(())
}

fn dead_letter_is_an_error(collector: &Collector, id: &str) -> Result<()> {
    let dead = published(collector, id)?;
    ensure!(
        dead.attribute("error.type") == Some("mapping/topic-not-allowed"),
        "{dead:#?}"
    );
    ensure!(
        dead.span.status.is_some_and(|status| status.code == 2),
        "not an error"
    );
    Ok(())
}

/// What `/metrics` shows is in the last export, by the same name and as the same type; so many.
fn all_metrics(collector: &Collector, scrape: &str) -> Result<usize> {
    let exported = collector.metrics("outboxd");
    let exported: BTreeMap<_, _> = exported
        .iter()
        .map(|metric| (metric.name.as_str(), metric))
        .collect();
    let shown = shown(scrape);
    ensure!(shown.len() > 20, "only {shown:?}");
    for (name, kind) in &shown {
        let metric = exported.get(name.as_str());
        let metric = metric.with_context(|| format!("{name} is not exported"))?;
        let is_same = match metric.data.as_ref() {
            Some(Data::Sum(sum)) => *kind == "counter" && sum.is_monotonic,
            Some(Data::Gauge(_)) => *kind == "gauge",
            Some(Data::Histogram(_)) => *kind == "histogram",
            _ => false,
        };
        ensure!(is_same, "not a {kind}: {metric:#?}");
        ensure!(!metric.description.is_empty(), "no meaning: {metric:#?}");
    }
    let published = exported.get("outboxd_events_published_total");
    let published = published.context("no events are counted")?;
    ensure!(total(published) >= 3, "{published:#?}");
    Ok(shown.len())
}

/// The lines of the log have been exported, each once, up to the last; so many.
fn log_lines(collector: &Collector, dead: &str, log: &str) -> Result<usize> {
    let lines = collector.lines();
    let about = |line: &&Line| line.attribute("eventId") == Some(dead);
    let letter = lines.iter().find(about);
    let letter = letter.context("no line of the dead letter")?;
    ensure!(letter.message() == Some("dead letter"), "{letter:#?}");
    let (severity, text) = (
        letter.record.severity_number(),
        &letter.record.severity_text,
    );
    ensure!(
        severity == SeverityNumber::Warn && text == "WARN",
        "{letter:#?}"
    );
    let said = |what: &str| {
        lines
            .iter()
            .filter(move |l| l.message() == Some(what))
            .count()
    };
    ensure!(said("shutting down") == 1, "the last lines are missing");
    let shown = format!("{lines:?}");
    ensure!(!shown.contains(MARKER), "a payload is exported");
    // What exporting brings about is in the log, but not exported: there would be no end of it.
    ensure!(log.contains(CLIENT), "the exporter's client logs nothing");
    let client = |line: &&Line| format!("{line:?}").contains(CLIENT);
    let own = lines.iter().find(client);
    ensure!(own.is_none(), "the exporter exports itself: {own:#?}");
    Ok(lines.len())
}

/// Name and type of each metric that has a sample.
fn shown(scrape: &str) -> BTreeMap<String, &str> {
    let mut shown = BTreeMap::new();
    let mut declared = ("", "");
    for line in scrape.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            declared = rest.split_once(' ').unwrap_or_default();
        } else if !line.starts_with('#') {
            let (name, kind) = declared;
            let suffix = if kind == "counter" { "_total" } else { "" };
            shown.insert(format!("{name}{suffix}"), kind);
        }
    }
    shown
}

fn total(metric: &Metric) -> i64 {
    let Some(Data::Sum(sum)) = &metric.data else {
        return 0;
    };
    let points = sum.data_points.iter();
    points
        .map(|point| match point.value {
            Some(Value::AsInt(number)) => number,
            Some(Value::AsDouble(_)) | None => 0,
        })
        .sum()
}

/// Nobody answers there: events flow all the same, and the end comes soon. What is logged.
async fn without_a_collector(stage: &Stage, endpoint: &str) -> Result<String> {
    let sampled = [("OUTBOXD_OTLP_SAMPLE_RATIO", "1")];
    let env = [exporting(endpoint).as_slice(), &sampled].concat();
    let relay = stage.relay_with(&env).await?;
    stage.insert(5000)?;
    stage.caught_up(&relay).await?;
    let log = relay.log_path().to_owned();
    let took = relay.stop().await?;
    ensure!(took < ENDS_WITHIN, "{endpoint}: ended after {took:?}");
    Ok(std::fs::read_to_string(log)?)
}

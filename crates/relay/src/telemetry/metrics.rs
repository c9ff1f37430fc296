//! Prometheus metrics.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envelope::{Fate, Record, RecordBatch};
use pgoutput::Lsn;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::consumer_lag::ConsumerCollector;
use super::dead_letters::DeadLetterFamilies;
use super::labels::{CodeLabel, PipelineLabel};
use super::write_back::{WriteBackFamilies, WriteBackMetrics};
use super::{Role, State, Vitals};
use crate::config::Pipeline;
use crate::pipeline::Backlog;
use crate::source::catalog::SlotUse;

type FloatGauge = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabel {
    service: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TopicLabel {
    pipeline: String,
    topic: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    pipeline: String,
    state: String,
}

type HistogramFamily = Family<PipelineLabel, Histogram, fn() -> Histogram>;

fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 21))
}

fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 18))
}

fn waits() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 14))
}

/// Every metric of the process.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    families: Families,
}

#[derive(Clone)]
struct Families {
    backlog: Family<ServiceLabel, Gauge>,
    lag: Family<ServiceLabel, FloatGauge>,
    stale: Family<ServiceLabel, Gauge>,
    events: Family<TopicLabel, Counter>,
    bytes: Family<TopicLabel, Counter>,
    latency: HistogramFamily,
    window_events: HistogramFamily,
    window_seconds: HistogramFamily,
    in_flight: Family<PipelineLabel, Gauge>,
    in_flight_peak: Family<PipelineLabel, Gauge>,
    retries: Family<CodeLabel, Counter>,
    retry_wait: HistogramFamily,
    sessions: Family<PipelineLabel, Counter>,
    feed_missing: Family<PipelineLabel, Counter>,
    feed_left: Family<PipelineLabel, Gauge>,
    state: Family<StateLabel, Gauge>,
    slot_lag: Family<PipelineLabel, Gauge>,
    slot_retained: Family<PipelineLabel, Gauge>,
    slot_unconfirmed: Family<PipelineLabel, FloatGauge>,
    slot_age: Family<PipelineLabel, FloatGauge>,
    confirmed: Family<PipelineLabel, Gauge>,
    wal_end: Family<PipelineLabel, Gauge>,
    write_back: WriteBackFamilies,
    dead_letters: DeadLetterFamilies,
    consumers: ConsumerCollector,
}

impl Families {
    fn new() -> Self {
        Self {
            backlog: Family::default(),
            lag: Family::default(),
            stale: Family::default(),
            events: Family::default(),
            bytes: Family::default(),
            latency: Family::new_with_constructor(latency),
            window_events: Family::new_with_constructor(sizes),
            window_seconds: Family::new_with_constructor(latency),
            in_flight: Family::default(),
            in_flight_peak: Family::default(),
            retries: Family::default(),
            retry_wait: Family::new_with_constructor(waits),
            sessions: Family::default(),
            feed_missing: Family::default(),
            feed_left: Family::default(),
            state: Family::default(),
            slot_lag: Family::default(),
            slot_retained: Family::default(),
            slot_unconfirmed: Family::default(),
            slot_age: Family::default(),
            confirmed: Family::default(),
            wal_end: Family::default(),
            write_back: WriteBackFamilies::new(),
            dead_letters: DeadLetterFamilies::new(),
            consumers: ConsumerCollector::default(),
        }
    }

    fn register(&self, registry: &mut Registry) {
        self.write_back.register(registry);
        self.dead_letters.register(registry);
        registry.register_collector(Box::new(self.consumers.clone()));
        let r = registry;
        let (b, s) = (Unit::Bytes, Unit::Seconds);
        r.register(
            "event_outbox_backlog",
            "Committed events not yet durable in Kafka; 0 when caught up, an estimate between",
            self.backlog.clone(),
        );
        r.register_with_unit(
            "event_publish_lag",
            "Age of the oldest committed event not yet durable in Kafka; 0 when there is none",
            s.clone(),
            self.lag.clone(),
        );
        r.register(
            "event_outbox_stale",
            "1 while backlog and lag are not known: Postgres can't be asked, or nothing has come yet",
            self.stale.clone(),
        );
        r.register(
            "outboxd_events_published",
            "Events durable in Kafka",
            self.events.clone(),
        );
        r.register_with_unit(
            "outboxd_published",
            "Bytes of keys and values durable in Kafka",
            b.clone(),
            self.bytes.clone(),
        );
        r.register_with_unit(
            "outboxd_publish_latency",
            "From the commit in Postgres to the commit in Kafka, per event",
            s.clone(),
            self.latency.clone(),
        );
        r.register(
            "outboxd_window_events",
            "Events in a window",
            self.window_events.clone(),
        );
        r.register_with_unit(
            "outboxd_window_duration",
            "From handing a window to a producer to its commit",
            s.clone(),
            self.window_seconds.clone(),
        );
        r.register(
            "outboxd_windows_in_flight",
            "Windows in Kafka's hands",
            self.in_flight.clone(),
        );
        r.register(
            "outboxd_windows_in_flight_peak",
            "Most windows in Kafka's hands since the start",
            self.in_flight_peak.clone(),
        );
        r.register(
            "outboxd_retries",
            "Sessions that ended with a passing failure, by error code",
            self.retries.clone(),
        );
        r.register_with_unit(
            "outboxd_retry_wait",
            "Waits before a retry, with jitter",
            s.clone(),
            self.retry_wait.clone(),
        );
        r.register(
            "outboxd_sessions",
            "Sessions begun; each after the first may repeat events in at-least-once mode",
            self.sessions.clone(),
        );
        r.register(
            "outboxd_feed_rows_missing",
            "Rows of feeds that had vanished before they were published",
            self.feed_missing.clone(),
        );
        r.register(
            "outboxd_feed_rows_left",
            "Rows of a backfill, repair or replay that are still to be published, before the stream goes on",
            self.feed_left.clone(),
        );
        r.register(
            "outboxd_state",
            "1 for the state that the pipeline is in",
            self.state.clone(),
        );
        r.register_with_unit(
            "outboxd_slot_lag",
            "WAL written since the slot's confirmed LSN",
            b.clone(),
            self.slot_lag.clone(),
        );
        r.register_with_unit(
            "outboxd_slot_retained",
            "WAL that the server keeps for the slot",
            b,
            self.slot_retained.clone(),
        );
        r.register_with_unit(
            "outboxd_slot_unconfirmed",
            "How long WAL has been waiting for the slot to be confirmed up to it",
            s.clone(),
            self.slot_unconfirmed.clone(),
        );
        r.register_with_unit(
            "outboxd_slot_age",
            "Since the slot and the end of the WAL were last looked at",
            s,
            self.slot_age.clone(),
        );
        r.register(
            "outboxd_confirmed_lsn",
            "LSN confirmed to the server, as a number",
            self.confirmed.clone(),
        );
        r.register(
            "outboxd_wal_end_lsn",
            "End of the server's WAL at the last look, as a number",
            self.wal_end.clone(),
        );
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing measured yet.
    pub fn new() -> Self {
        let families = Families::new();
        let mut registry = Registry::default();
        families.register(&mut registry);
        let build: Family<Vec<(String, String)>, Gauge> = Family::default();
        build
            .get_or_create(&vec![("version".into(), env!("CARGO_PKG_VERSION").into())])
            .set(1);
        registry.register("outboxd_build", "Always 1; the version is a label", build);
        Self {
            registry: Arc::new(registry),
            families,
        }
    }

    /// The part of one pipeline.
    pub fn pipeline(&self, pipeline: &Pipeline) -> PipelineMetrics {
        let mut services: Vec<String> = pipeline.tables.iter().map(|t| t.service.clone()).collect();
        services.sort();
        services.dedup();
        PipelineMetrics {
            label: PipelineLabel {
                pipeline: pipeline.name.clone(),
            },
            services,
            families: self.families.clone(),
        }
    }

    /// The exposition text. What depends on the clock is brought up to date first.
    pub fn expose(&self, pipelines: &[(Arc<Vitals>, PipelineMetrics)]) -> String {
        for (vitals, metrics) in pipelines {
            metrics.refresh(vitals);
        }
        let telling = pipelines
            .iter()
            .filter(|(vitals, _)| vitals.role() != Role::Standby);
        let consumers = telling.flat_map(|(vitals, _)| vitals.consumer_lags().shown());
        self.families.consumers.show(consumers.collect());
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

/// The metrics of one pipeline.
#[derive(Clone)]
pub struct PipelineMetrics {
    label: PipelineLabel,
    services: Vec<String>,
    families: Families,
}

fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl PipelineMetrics {
    fn refresh(&self, vitals: &Vitals) {
        let current = vitals.state();
        for state in State::ALL {
            let label = StateLabel {
                pipeline: self.label.pipeline.clone(),
                state: state.name().to_owned(),
            };
            self.families
                .state
                .get_or_create(&label)
                .set(i64::from(state == current));
        }
        if let Some((age, unconfirmed)) = vitals.slot_seconds() {
            let families = &self.families;
            families.slot_age.get_or_create(&self.label).set(age);
            families
                .slot_unconfirmed
                .get_or_create(&self.label)
                .set(unconfirmed);
        }
        for service in &self.services {
            let label = ServiceLabel {
                service: service.clone(),
            };
            if vitals.role() == Role::Standby {
                self.families.stale.remove(&label);
            } else {
                let stale = i64::from(vitals.is_stale());
                self.families.stale.get_or_create(&label).set(stale);
            }
            if let Some(lag) = vitals.publish_lag_seconds() {
                self.families.lag.get_or_create(&label).set(lag);
            }
        }
        if vitals.publish_lag_seconds().is_none() {
            self.leave_to_another();
        }
    }

    /// Lag and backlog are another relay's to tell: this one would contradict it.
    pub fn leave_to_another(&self) {
        for service in &self.services {
            let label = ServiceLabel {
                service: service.clone(),
            };
            self.families.lag.remove(&label);
            self.families.backlog.remove(&label);
        }
    }

    /// Its write-back and retention.
    pub fn write_back(&self) -> WriteBackMetrics {
        self.families.write_back.of(&self.label.pipeline)
    }

    /// A session begins.
    pub fn session(&self) {
        self.families.sessions.get_or_create(&self.label).inc();
    }

    /// Rows of a feed had vanished before they were published.
    pub fn feed_missing(&self, rows: u64) {
        let missing = self.families.feed_missing.get_or_create(&self.label);
        missing.inc_by(rows);
    }

    /// Rows of a feed that are still to be published.
    pub fn feed_rows_left(&self, rows: u64) {
        let left = self.families.feed_left.get_or_create(&self.label);
        left.set(as_gauge(rows));
    }

    /// A passing failure.
    pub fn retried(&self, code: &'static str, wait: Duration) {
        let label = CodeLabel {
            pipeline: self.label.pipeline.clone(),
            code,
        };
        self.families.retries.get_or_create(&label).inc();
        self.families
            .retry_wait
            .get_or_create(&self.label)
            .observe(wait.as_secs_f64());
    }

    /// A window is on its way.
    pub fn window(&self, batch: &RecordBatch) {
        if !batch.is_empty() {
            self.families
                .window_events
                .get_or_create(&self.label)
                .observe(batch.len() as f64);
        }
    }

    /// Windows in flight.
    pub fn flight(&self, windows: usize) {
        let windows = as_gauge(windows as u64);
        self.families
            .in_flight
            .get_or_create(&self.label)
            .set(windows);
        let peak = self.families.in_flight_peak.get_or_create(&self.label);
        peak.set(peak.get().max(windows));
    }

    /// A window is durable.
    pub fn published(&self, batch: &RecordBatch, took: Duration) {
        if batch.is_empty() {
            return;
        }
        self.families
            .window_seconds
            .get_or_create(&self.label)
            .observe(took.as_secs_f64());
        let now_us = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros();
        let now_us = i64::try_from(now_us).unwrap_or(i64::MAX);
        let latency = self.families.latency.get_or_create(&self.label);
        let mut run = Run::default();
        self.families
            .dead_letters
            .published(&self.label.pipeline, batch);
        for record in batch.iter().filter(|record| record.fate != Fate::None) {
            if is_streamed(&record) {
                let age_us = now_us
                    .saturating_sub(record.commit_time.unix_micros())
                    .max(0);
                latency.observe(age_us as f64 / 1e6);
            }
            let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            if run.topic != record.topic {
                self.count(&run);
                run = Run {
                    topic: record.topic,
                    events: 0,
                    bytes: 0,
                };
            }
            run.events += 1;
            run.bytes += bytes as u64;
        }
        self.count(&run);
    }

    /// Keys that are parked.
    pub fn parked(&self, keys: usize) {
        self.families
            .dead_letters
            .parked(&self.label.pipeline, keys);
    }

    fn count(&self, run: &Run<'_>) {
        if run.events == 0 {
            return;
        }
        let label = TopicLabel {
            pipeline: self.label.pipeline.clone(),
            topic: run.topic.to_owned(),
        };
        self.families
            .events
            .get_or_create(&label)
            .inc_by(run.events);
        self.families.bytes.get_or_create(&label).inc_by(run.bytes);
    }

    /// The slot may be confirmed up to here.
    pub fn confirmed(&self, lsn: Lsn) {
        self.families
            .confirmed
            .get_or_create(&self.label)
            .set(as_gauge(lsn.as_u64()));
    }

    /// What the slot costs.
    pub fn slot(&self, slot: &SlotUse) {
        self.families
            .slot_lag
            .get_or_create(&self.label)
            .set(slot.lag_bytes);
        self.families
            .slot_retained
            .get_or_create(&self.label)
            .set(slot.retained_bytes);
        self.families
            .wal_end
            .get_or_create(&self.label)
            .set(as_gauge(slot.wal_end.as_u64()));
    }

    /// The backlog, summed over the tables of a service.
    pub fn backlog(&self, backlog: &Backlog) {
        for service in &self.services {
            let tables = backlog.per_table().filter(|(name, _)| name == service);
            let total: Option<u64> = tables.map(|(_, events)| events).sum();
            if let Some(total) = total {
                let label = ServiceLabel {
                    service: service.clone(),
                };
                self.families
                    .backlog
                    .get_or_create(&label)
                    .set(as_gauge(total));
            }
        }
    }
}

/// Neighbouring events of one topic.
#[derive(Default)]
struct Run<'a> {
    topic: &'a str,
    events: u64,
    bytes: u64,
}

/// The record is that of a row from the stream, and not one that is published beside it.
pub(crate) fn is_streamed(record: &Record<'_>) -> bool {
    record.xid != 0 && !matches!(record.fate, Fate::None | Fate::Revived)
}

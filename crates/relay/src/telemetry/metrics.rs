//! Prometheus metrics.

use std::sync::Arc;
use std::time::Duration;

use envelope::RecordBatch;
use pgoutput::Lsn;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::activity::Activity;
use super::consumer_lag::ConsumerCollector;
use super::dead_letters::DeadLetterFamilies;
use super::labels::{FloatGauge, PipelineLabel, as_gauge};
use super::publishing::PublishingFamilies;
use super::slot::SlotFamilies;
use super::standing::{ShownStop, StandingFamilies};
use super::table::{self, families};
use super::write_back::{WriteBackFamilies, WriteBackMetrics};
use super::{Role, Vitals};
use crate::config::{Pipeline, Sla};
use crate::pipeline::Backlog;
use crate::source::catalog::SlotUse;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabel {
    service: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

families! {
    struct ServiceFamilies {
        backlog: Family<ServiceLabel, Gauge> = Family::default(), table::BACKLOG;
        lag: Family<ServiceLabel, FloatGauge> = Family::default(), table::PUBLISH_LAG;
        stale: Family<ServiceLabel, Gauge> = Family::default(), table::STALE;
        sla_backlog: Family<ServiceLabel, Gauge> = Family::default(), table::SLA_BACKLOG;
        sla_lag: Family<ServiceLabel, FloatGauge> = Family::default(), table::SLA_PUBLISH_LAG;
    }
}

families! {
    struct FeedFamilies {
        missing: Family<PipelineLabel, Counter> = Family::default(), table::FEED_MISSING;
        left: Family<PipelineLabel, Gauge> = Family::default(), table::FEED_LEFT;
    }
}

/// Every metric of the process.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    families: Families,
}

#[derive(Clone)]
struct Families {
    services: ServiceFamilies,
    standing: StandingFamilies,
    publishing: PublishingFamilies,
    dead_letters: DeadLetterFamilies,
    feeds: FeedFamilies,
    write_back: WriteBackFamilies,
    slot: SlotFamilies,
    consumers: ConsumerCollector,
}

impl Families {
    fn new(registry: &mut Registry) -> Self {
        Self {
            services: ServiceFamilies::new(registry),
            standing: StandingFamilies::new(registry),
            publishing: PublishingFamilies::new(registry),
            dead_letters: DeadLetterFamilies::new(registry),
            feeds: FeedFamilies::new(registry),
            write_back: WriteBackFamilies::new(registry),
            slot: SlotFamilies::new(registry),
            consumers: ConsumerCollector::registered(registry),
        }
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
        let mut registry = Registry::default();
        let families = Families::new(&mut registry);
        let build: Family<VersionLabel, Gauge> = Family::default();
        let version = env!("CARGO_PKG_VERSION");
        build.get_or_create(&VersionLabel { version }).set(1);
        table::BUILD.register(&mut registry, build);
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
        let services: Vec<_> = services
            .into_iter()
            .map(|service| ServiceLabel { service })
            .collect();
        self.families.services.promise(&services, &pipeline.sla);
        PipelineMetrics {
            label: PipelineLabel {
                pipeline: pipeline.name.clone(),
            },
            services,
            shown_stop: ShownStop::default(),
            families: self.families.clone(),
            activity: Arc::default(),
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

impl ServiceFamilies {
    /// What alert rules compare with.
    fn promise(&self, services: &[ServiceLabel], sla: &Sla) {
        for service in services {
            let backlog = self.sla_backlog.get_or_create(service);
            backlog.set(as_gauge(sla.backlog));
            let lag = self.sla_lag.get_or_create(service);
            lag.set(sla.publish_lag.as_secs_f64());
        }
    }

    fn refresh(&self, services: &[ServiceLabel], vitals: &Vitals) {
        let lag = vitals.publish_lag_seconds();
        for service in services {
            if vitals.role() == Role::Standby {
                self.stale.remove(service);
            } else {
                let stale = i64::from(vitals.is_stale());
                self.stale.get_or_create(service).set(stale);
            }
            if let Some(lag) = lag {
                self.lag.get_or_create(service).set(lag);
            }
        }
        if lag.is_none() {
            self.leave_to_another(services);
        }
    }

    fn leave_to_another(&self, services: &[ServiceLabel]) {
        for service in services {
            self.lag.remove(service);
            self.backlog.remove(service);
        }
    }

    /// Summed over the tables of a service.
    fn backlog(&self, services: &[ServiceLabel], backlog: &Backlog) {
        for label in services {
            let of_service = |(name, _): &(&str, _)| *name == label.service;
            let tables = backlog.per_table().filter(of_service);
            let total: Option<u64> = tables.map(|(_, events)| events).sum();
            if let Some(total) = total {
                self.backlog.get_or_create(label).set(as_gauge(total));
            }
        }
    }
}

/// The metrics of one pipeline.
#[derive(Clone)]
pub struct PipelineMetrics {
    label: PipelineLabel,
    services: Vec<ServiceLabel>,
    shown_stop: ShownStop,
    families: Families,
    activity: Arc<Activity>,
}

impl PipelineMetrics {
    fn refresh(&self, vitals: &Vitals) {
        let families = &self.families;
        families
            .standing
            .refresh(&self.label, vitals, &self.shown_stop);
        if let Some((age, unconfirmed)) = vitals.slot_seconds() {
            families.slot.aged(&self.label, age, unconfirmed);
        }
        families.services.refresh(&self.services, vitals);
    }

    /// What the status page shows.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Lag and backlog are another relay's to tell: this one would contradict it.
    pub fn leave_to_another(&self) {
        self.activity.backlog(None);
        self.families.services.leave_to_another(&self.services);
    }

    /// Its write-back and retention.
    pub fn write_back(&self) -> WriteBackMetrics {
        self.families.write_back.of(&self.label.pipeline)
    }

    /// A session begins.
    pub fn session(&self) {
        self.families.standing.session(&self.label);
    }

    /// A passing failure.
    pub fn retried(&self, code: &'static str, wait: Duration) {
        self.families.standing.retried(&self.label, code, wait);
    }

    /// Rows of a feed had vanished before they were published.
    pub fn feed_missing(&self, rows: u64) {
        let missing = self.families.feeds.missing.get_or_create(&self.label);
        missing.inc_by(rows);
    }

    /// Rows of a feed that are still to be published.
    pub fn feed_rows_left(&self, rows: u64) {
        let left = self.families.feeds.left.get_or_create(&self.label);
        left.set(as_gauge(rows));
    }

    /// A window is on its way.
    pub fn window(&self, batch: &RecordBatch) {
        self.families.publishing.window(&self.label, batch);
    }

    /// Windows in flight.
    pub fn flight(&self, windows: usize) {
        self.activity.flight(windows as u64);
        self.families.publishing.flight(&self.label, windows);
    }

    /// A window is durable.
    pub fn published(&self, batch: &RecordBatch, took: Duration) {
        if batch.is_empty() {
            return;
        }
        let families = &self.families;
        let window = families.publishing.published(&self.label, batch, took);
        self.activity.published(&window);
        families.dead_letters.published(&self.label.pipeline, batch);
    }

    /// Keys that are parked.
    pub fn parked(&self, keys: usize) {
        self.activity.parked(keys as u64);
        self.families
            .dead_letters
            .parked(&self.label.pipeline, keys);
    }

    /// The slot may be confirmed up to here.
    pub fn confirmed(&self, lsn: Lsn) {
        self.families.slot.confirmed(&self.label, lsn);
    }

    /// What the slot costs.
    pub fn slot(&self, slot: &SlotUse) {
        self.families.slot.looked(&self.label, slot);
    }

    /// The backlog.
    pub fn backlog(&self, backlog: &Backlog) {
        let known = backlog.per_table().filter_map(|(_, events)| events);
        self.activity.backlog(known.reduce(|a, b| a + b));
        self.families.services.backlog(&self.services, backlog);
    }
}

//! The table of all metrics: registration, the reference page, alert rules and dashboard go by it.
//!
//! A new metric is one entry in [`entries`], and the family that is registered under it.

mod entries;

use prometheus_client::registry::{Metric as Exposable, Registry, Unit};

pub use entries::METRICS;
pub(super) use entries::*;

/// What kind of metric it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up only, and begins at 0 with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

impl Kind {
    /// As in the exposition's `# TYPE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Who exposes it, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposed {
    /// By a relay that has published an event, all the time.
    Always,
    /// By a relay, once this holds.
    Once(&'static str),
    /// By services that read with the consumer library.
    ByConsumers,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// As in a query; of a histogram without `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its labels, in the order in which they are exposed.
    pub labels: &'static [&'static str],
    /// What it counts in.
    pub unit: &'static str,
    /// What it says: the help text, too.
    pub meaning: &'static str,
    /// Who exposes it, and when.
    pub exposed: Exposed,
    /// The alerts of `docs/alerts/outboxd.rules.yml` that look at it.
    pub alerts: &'static [&'static str],
}

impl Metric {
    /// The same, exposed only once `condition` holds.
    const fn once(mut self, condition: &'static str) -> Self {
        self.exposed = Exposed::Once(condition);
        self
    }

    /// The same, looked at by these alerts.
    const fn alerts(mut self, alerts: &'static [&'static str]) -> Self {
        self.alerts = alerts;
        self
    }

    /// The same, exposed by consumers.
    const fn by_consumers(mut self) -> Self {
        self.exposed = Exposed::ByConsumers;
        self
    }

    /// Registers what counts it. The encoder adds the unit and a counter's `_total` itself.
    pub(super) fn register(&self, registry: &mut Registry, family: impl Exposable) {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        let units = [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes)];
        for (suffix, unit) in units {
            if let Some(name) = name.strip_suffix(suffix) {
                registry.register_with_unit(name, self.meaning, unit, family);
                return;
            }
        }
        registry.register(name, self.meaning, family);
    }
}

/// A struct of families, each with how it is made and the metric that it is registered as.
macro_rules! families {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $($field:ident: $family:ty = $made:expr, $metric:expr;)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone)]
        $visibility struct $name {
            $($field: $family,)*
        }

        impl $name {
            /// Nothing counted yet.
            pub fn new(registry: &mut prometheus_client::registry::Registry) -> Self {
                let families = Self {
                    $($field: $made,)*
                };
                $($metric.register(registry, families.$field.clone());)*
                families
            }
        }
    };
}

pub(super) use families;

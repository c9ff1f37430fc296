//! Which metrics a query names, and what the product's table says of them.

use std::collections::BTreeSet;

use outboxd::telemetry::{Exposed, Kind, METRICS, Metric};

/// What the names of the product's metrics begin with.
const PREFIXES: [&str; 2] = ["outboxd_", "event_"];

/// The product's metrics that a query names, as they are exposed.
pub fn metrics_of(query: &str) -> BTreeSet<&str> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words
        .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
        .collect()
}

/// The entry of an exposed name; a histogram is exposed as three.
pub fn entry(exposed: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| match metric.kind {
        Kind::Counter | Kind::Gauge => metric.name == exposed,
        Kind::Histogram => exposed
            .strip_prefix(metric.name)
            .is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest)),
    })
}

/// A relay that has published answers it, whatever else has happened.
pub fn is_always_answered(query: &str) -> bool {
    let entries = metrics_of(query).into_iter().map(entry);
    entries
        .into_iter()
        .all(|entry| entry.is_some_and(|metric| metric.exposed == Exposed::Always))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_among_functions_labels_and_numbers() {
        let query = "sum by (job) (rate(outboxd_published_bytes_total{job=\"outboxd\"}[5m])) / \
                     event_outbox_backlog > 1e3";
        let expected = ["event_outbox_backlog", "outboxd_published_bytes_total"];
        assert_eq!(metrics_of(query), BTreeSet::from(expected));
        assert!(is_always_answered(query));
        assert!(!is_always_answered("outboxd_stopped == 1"));
        assert!(!is_always_answered("outboxd_unheard_of"));
    }

    #[test]
    fn a_histogram_is_exposed_as_three() {
        assert!(entry("outboxd_window_events_bucket").is_some());
        assert!(entry("outboxd_window_events").is_none());
        assert!(entry("event_outbox_backlog_sum").is_none());
    }
}

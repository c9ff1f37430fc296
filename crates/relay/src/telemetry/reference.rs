//! The page of all metrics, out of their table.

use std::fmt::Write as _;

use super::table::{Exposed, METRICS, Metric};

/// `docs/metrics.md`.
pub fn reference() -> String {
    let mut page = include_str!("reference_intro.md").to_owned();
    let (consumers, relay): (Vec<&Metric>, Vec<&Metric>) = METRICS
        .iter()
        .partition(|metric| metric.exposed == Exposed::ByConsumers);
    section(&mut page, "The relay's", &relay);
    section(&mut page, "The consumer library's", &consumers);
    page
}

fn section(page: &mut String, title: &str, metrics: &[&Metric]) {
    // Writing to a string can't fail.
    let _ = writeln!(page, "\n## {title}\n");
    page.push_str(
        "| metric | type | unit | meaning | exposed | alerts |\n|---|---|---|---|---|---|\n",
    );
    for metric in metrics {
        let _ = writeln!(
            page,
            "| `{}{{{}}}` | {} | {} | {} | {} | {} |",
            metric.name,
            metric.labels.join(","),
            metric.kind.name(),
            metric.unit,
            metric.meaning,
            exposed(metric),
            alerts(metric),
        );
    }
}

fn exposed(metric: &Metric) -> String {
    match metric.exposed {
        Exposed::Always | Exposed::ByConsumers => "always".to_owned(),
        Exposed::Once(condition) => format!("once {condition}"),
    }
}

fn alerts(metric: &Metric) -> String {
    match metric.alerts {
        [] => "–".to_owned(),
        alerts => {
            let quoted: Vec<_> = alerts.iter().map(|alert| format!("`{alert}`")).collect();
            quoted.join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::check_document;
    use crate::telemetry::Metrics;

    #[test]
    fn the_page_of_metrics_is_up_to_date() {
        check_document("metrics.md", &reference());
    }

    #[test]
    fn names_say_what_they_are_and_occur_once() {
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len(), "a name occurs twice");
        for metric in METRICS {
            let name = metric.name;
            let is_total = name.ends_with("_total");
            assert_eq!(is_total, metric.kind.name() == "counter", "{name}");
            let base = name.trim_end_matches("_total");
            let base_is = |unit: &str| base.ends_with(&format!("_{unit}"));
            for unit in ["seconds", "bytes"] {
                assert_eq!(base_is(unit), metric.unit == unit, "{name}");
            }
            assert!(!metric.meaning.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn the_exposition_says_what_the_table_says() {
        let text = Metrics::new().expose(&[]);
        let build = "# HELP outboxd_build Always 1; the version is a label.";
        assert!(text.contains(build), "{text}");
    }
}

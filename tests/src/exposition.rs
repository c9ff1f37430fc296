//! What is exposed on `/metrics`, against the product's table of metrics.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use outboxd::telemetry::{Exposed, METRICS, Metric};

/// A family in the exposition text.
#[derive(Debug, Default)]
struct Family<'a> {
    kind: &'a str,
    help: &'a str,
    labels: BTreeSet<&'a str>,
}

/// Who exposes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposer {
    /// A relay that has published events.
    Relay,
    /// A service with the consumer library.
    Consumer,
}

/// Every family is in the table, with its type, labels and help, and none is missing that is always there.
pub fn check(text: &str, exposer: Exposer) -> Result<()> {
    let families = parse(text)?;
    for (name, family) in &families {
        let entry = METRICS.iter().find(|metric| base(metric) == *name);
        let metric = entry.with_context(|| format!("{name} is not in the table of metrics"))?;
        let is_theirs = match exposer {
            Exposer::Relay => metric.exposed != Exposed::ByConsumers,
            Exposer::Consumer => name.starts_with("event_consumer_"),
        };
        ensure!(
            is_theirs,
            "{name} is exposed by another than the table says"
        );
        let kind = metric.kind.name();
        ensure!(family.kind == kind, "{name} is a {}", family.kind);
        let labels: BTreeSet<&str> = metric.labels.iter().copied().collect();
        ensure!(
            family.labels == labels,
            "{name} has labels {:?}",
            family.labels
        );
        let help = family.help.trim_end_matches('.');
        ensure!(
            exposer == Exposer::Consumer || help == metric.meaning,
            "{name} says {help:?}"
        );
    }
    for metric in METRICS.iter().filter(|_| exposer == Exposer::Relay) {
        match metric.exposed {
            Exposed::Always => ensure!(
                families.contains_key(base(metric)),
                "{} is not exposed",
                metric.name
            ),
            Exposed::Once(_) | Exposed::ByConsumers => {}
        }
    }
    Ok(())
}

/// The name of the family: a counter's samples alone end with `_total`.
fn base(metric: &Metric) -> &'static str {
    metric.name.strip_suffix("_total").unwrap_or(metric.name)
}

fn parse(text: &str) -> Result<BTreeMap<&str, Family<'_>>> {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    let mut current = "";
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut parts = comment.splitn(3, ' ');
            let (what, name) = (parts.next(), parts.next().context("no name")?);
            let family = families.entry(name).or_default();
            let rest = parts.next().unwrap_or_default();
            match what {
                Some("HELP") => family.help = rest,
                Some("TYPE") => family.kind = rest,
                _ => {}
            }
            current = name;
        } else {
            ensure!(line.starts_with(current), "{line} stands below {current}");
            let family = families.get_mut(current).context("no family")?;
            family.labels.extend(labels(line));
        }
    }
    Ok(families)
}

/// Names of a sample's labels, without those that make up a histogram.
fn labels(sample: &str) -> impl Iterator<Item = &str> {
    let inside = sample
        .split_once('{')
        .and_then(|(_, rest)| rest.rsplit_once('}'));
    // What is in quotes has the even places.
    let outside = inside
        .map_or("", |(labels, _)| labels)
        .split('"')
        .step_by(2);
    let names = outside.map(|name| name.trim_start_matches(',').trim_end_matches('='));
    names.filter(|name| !name.is_empty() && *name != "le")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP outboxd_parked_keys x.\n# TYPE outboxd_parked_keys gauge\n\
                        outboxd_parked_keys{pipeline=\"p\"} 1\n# EOF\n";

    #[test]
    fn what_is_exposed_is_read() -> Result<()> {
        let families = parse(TEXT)?;
        let family = &families["outboxd_parked_keys"];
        assert_eq!((family.kind, family.help), ("gauge", "x."));
        assert_eq!(family.labels, BTreeSet::from(["pipeline"]));
        let sample = "x_bucket{a=\"1,b=\",le=\"+Inf\",c=\"\"} 3";
        assert_eq!(labels(sample).collect::<Vec<_>>(), ["a", "c"]);
        Ok(())
    }

    #[test]
    fn what_the_table_does_not_say_is_refused() {
        let says = |text: &str, expected: &str| {
            let refused = check(text, Exposer::Relay).err().map(|e| e.to_string());
            let refused = refused.unwrap_or_default();
            assert!(refused.contains(expected), "{refused}");
        };
        says(TEXT, "says \"x\"");
        says(&TEXT.replace("gauge", "counter"), "is a counter");
        says(&TEXT.replace("{pipeline=\"p\"}", ""), "has labels {}");
        says(&TEXT.replace("parked", "unheard"), "not in the table");
        says("# EOF\n", "is not exposed");
    }
}

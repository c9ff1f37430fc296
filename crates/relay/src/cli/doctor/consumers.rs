//! The consumer groups whose lag is exported.

use std::collections::BTreeMap;

use envelope::TopicPattern;

use crate::cli::cluster::{Cluster, Topic};
use crate::cli::doctor::report::Check;
use crate::config::{ConsumerSpec, Pipeline};
use crate::consumer_lag;
use crate::failure::Failure;

const NAME: &str = "consumer-group";

/// Asks of each group what the relay asks, with its credentials. Events flow all the same, so that what is
/// wrong is a warning.
pub(super) async fn check(cluster: &Cluster, pipeline: &Pipeline) -> Vec<Check> {
    if pipeline.consumers.is_empty() {
        return Vec::new();
    }
    let asking = pipeline.clone();
    let asked = tokio::task::spawn_blocking(move || consumer_lag::ask_once(&asking)).await;
    let asked =
        asked.unwrap_or_else(|e| Err(Failure::caused("internal", "asking about consumers", &e)));
    match asked {
        Ok(answers) => {
            let groups = pipeline.consumers.iter().zip(answers);
            groups
                .map(|(spec, answer)| check_group(spec, answer, &cluster.topics))
                .collect()
        }
        Err(failure) => vec![Check::fail(NAME, failure).softened()],
    }
}

/// `answer` has the topics that the group reads.
fn check_group(
    spec: &ConsumerSpec,
    answer: Result<Vec<String>, Failure>,
    topics: &BTreeMap<String, Topic>,
) -> Check {
    let read = match answer {
        Ok(read) => read.join(", "),
        Err(failure) => return warning(spec, failure),
    };
    let fits_none = |pattern: &&TopicPattern| !topics.keys().any(|name| pattern.matches(name));
    let missing = spec.topics.iter().filter(fits_none);
    let missing: Vec<_> = missing.map(ToString::to_string).collect();
    if missing.is_empty() {
        return Check::ok(NAME, format!("{} reads {read}", spec.group));
    }
    let message = format!("no topic that may be seen fits {}", missing.join(", "));
    warning(spec, Failure::new("consumer-topic-missing", message))
}

fn warning(spec: &ConsumerSpec, failure: Failure) -> Check {
    let message = format!("{}: {}", spec.group, failure.message);
    Check::fail(NAME, Failure { message, ..failure }).softened()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::Verdict;
    use crate::config::OffsetReset;

    fn check(patterns: &[&str], answer: Result<Vec<String>, Failure>) -> Check {
        let patterns = patterns.iter().filter_map(|pattern| pattern.parse().ok());
        let spec = ConsumerSpec {
            group: "ledger".into(),
            service: "ledger".into(),
            topics: patterns.collect(),
            offset_reset: OffsetReset::Earliest,
        };
        let topics = [("transfers.settled".to_owned(), Topic::default())].into();
        check_group(&spec, answer, &topics)
    }

    #[test]
    fn a_group_that_can_be_asked_for_passes() {
        let read = || Ok(vec!["transfers.settled".to_owned()]);
        for patterns in [&[][..], &["transfers.*"], &["transfers.settled"]] {
            let check = check(patterns, read());
            assert_eq!(check.verdict, Verdict::Ok, "{check:?}");
            assert_eq!(check.detail, "ledger reads transfers.settled");
        }
    }

    #[test]
    fn what_is_wrong_with_a_group_is_a_warning_with_its_remedy() {
        let read = Ok(vec!["transfers.settled".to_owned()]);
        let missing = check(&["transfers.*", "recon"], read);
        let unknown = Failure::new("consumer-group-unknown", "it has committed no offset");
        for (check, code, part) in [
            (missing, "consumer-topic-missing", "fits recon"),
            (
                check(&[], Err(unknown)),
                "consumer-group-unknown",
                "ledger: ",
            ),
        ] {
            assert_eq!((check.verdict, check.code), (Verdict::Warn, Some(code)));
            assert!(
                check.detail.contains(part) && check.fix.is_some(),
                "{check:?}"
            );
        }
    }
}

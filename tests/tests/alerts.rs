//! Alert rules, their unit tests and the dashboard, against the product's tables. The scenario `alerts` runs
//! them on a real Prometheus.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use outboxd::failure;
use outboxd::telemetry::METRICS;
use scenarios::{dashboard, promql};
use serde::Deserialize;

const RULES: &str = include_str!("../../docs/alerts/outboxd.rules.yml");
const PAGE: &str = include_str!("../../docs/operations.md");
const UNIT_TESTS: &str = include_str!("../alerts/outboxd.test.yml");
/// Where the rules' links lead to: the same files as in this folder.
const BASE: &str = "https://github.com/outboxd/outboxd/blob/main/";

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: String,
    expr: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

fn rules() -> Vec<Rule> {
    let rules: Rules = serde_saphyr::from_str(RULES).unwrap();
    let rules: Vec<Rule> = rules.groups.into_iter().flat_map(|g| g.rules).collect();
    assert!(!rules.is_empty());
    rules
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

#[test]
fn promtool_finds_each_alert_firing_at_its_time_and_not_before() {
    let file = root().join("tests/alerts/outboxd.test.yml");
    let output = Command::new("promtool")
        .args(["test", "rules"])
        .arg(file)
        .output();
    let output = output.expect("promtool could not be started: run make deps");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
}

#[test]
fn every_alert_has_a_unit_test_in_which_it_fires_and_one_in_which_it_does_not() {
    for Rule { alert, .. } in rules() {
        let fires = format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\", ");
        let fires_by_name = format!("'{{alertname=\"{alert}\", ");
        assert!(
            UNIT_TESTS.contains(&fires) || UNIT_TESTS.contains(&fires_by_name),
            "no unit test of {alert}"
        );
    }
    assert!(UNIT_TESTS.contains("- expr: ALERTS\n        eval_time: 35m\n        exp_samples: []"));
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() {
    for rule in rules() {
        let alert = &rule.alert;
        let severity = rule.labels.get("severity").map(String::as_str);
        assert!(
            matches!(severity, Some("critical" | "warning")),
            "{alert}: {severity:?}"
        );
        for annotation in ["summary", "description", "runbook_url"] {
            let text = rule.annotations.get(annotation);
            assert!(text.is_some_and(|t| !t.is_empty()), "{alert}: {annotation}");
        }
        let listed = PAGE.contains(&format!("`{alert}`"));
        assert!(listed, "{alert} is not in docs/operations.md");
    }
}

#[test]
fn every_alert_links_to_a_place_that_exists() {
    for rule in rules() {
        let url = &rule.annotations["runbook_url"];
        let place = url.strip_prefix(BASE).unwrap_or_else(|| panic!("{url}"));
        let (path, anchor) = place.split_once('#').unwrap_or((place, ""));
        let page = fs::read_to_string(root().join(path));
        let page = page.unwrap_or_else(|e| panic!("{}: {path}: {e}", rule.alert));
        assert!(
            anchor.is_empty() || anchors(&page).contains(anchor),
            "{}: no heading {anchor} in {path}",
            rule.alert
        );
    }
}

/// Of a page's headings, as code hosts make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn the_table_of_metrics_and_the_rules_name_each_other() {
    let mut by_rules: BTreeSet<(&str, String)> = BTreeSet::new();
    let rules = rules();
    for rule in &rules {
        for name in promql::metrics_of(&rule.expr) {
            let metric = promql::entry(name).unwrap_or_else(|| panic!("{name} is no metric"));
            by_rules.insert((metric.name, rule.alert.clone()));
        }
    }
    let by_table: BTreeSet<(&str, String)> = METRICS
        .iter()
        .flat_map(|metric| {
            let alerts = metric.alerts.iter();
            alerts.map(|alert| (metric.name, (*alert).to_owned()))
        })
        .collect();
    assert_eq!(by_rules, by_table);
}

#[test]
fn codes_in_the_rules_are_codes_of_failures() {
    let matchers = RULES.split("code=~\"").chain(RULES.split("code!~\""));
    let codes: BTreeSet<&str> = matchers
        .filter(|text| text.starts_with("slot-"))
        .flat_map(|text| text.split('"').next().unwrap_or_default().split('|'))
        .collect();
    assert!(codes.len() > 2, "{codes:?}");
    for code in codes {
        assert!(failure::find(code).is_some(), "{code}");
    }
}

#[test]
fn the_dashboard_names_metrics_of_the_table_and_explains_every_panel() {
    let mut ids = BTreeSet::new();
    let mut shown = BTreeSet::new();
    for panel in dashboard::panels().unwrap() {
        assert!(ids.insert(panel.id), "panel {} occurs twice", panel.id);
        assert!(!panel.description.is_empty(), "{}", panel.title);
        for query in &panel.queries {
            let names = promql::metrics_of(query);
            assert!(!names.is_empty(), "{query}");
            for name in names {
                let entry = promql::entry(name);
                shown.insert(entry.unwrap_or_else(|| panic!("{name}: {query}")).name);
            }
        }
    }
    let unseen: Vec<_> = METRICS.iter().filter(|m| !shown.contains(m.name)).collect();
    assert!(unseen.is_empty(), "not on the dashboard: {unseen:?}");
}

#[test]
fn every_query_of_the_dashboard_is_valid() {
    // A rule file is the one place where promtool reads a query without a server.
    let queries = dashboard::queries().unwrap();
    let rules: String = queries
        .iter()
        .enumerate()
        .map(|(number, query)| {
            let query = query.replace("$__rate_interval", "1m").replace('\'', "''");
            format!("  - record: panel:{number}\n    expr: '{query}'\n")
        })
        .collect();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard.rules.yml");
    fs::write(
        &file,
        format!("groups:\n- name: dashboard\n  rules:\n{rules}"),
    )
    .unwrap();
    let output = Command::new("promtool")
        .args(["check", "rules"])
        .arg(file)
        .output();
    let output = output.expect("promtool could not be started: run make deps");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

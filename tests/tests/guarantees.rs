//! Every test that docs/guarantees.md names exists, and every kind of fault is named there.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use scenarios::chaos::Fault;
use scenarios::scenario::{self, Group};
use scenarios::scenarios::ALL;

const PAGE: &str = include_str!("../../docs/guarantees.md");
/// Measure, and are no proof of a promise about delivery.
const MEASURE: [&str; 4] = [
    "backlog",
    "latency",
    "write-back-cost",
    "consumer-throughput",
];
/// Of the product, but not of its delivery.
const ELSEWHERE: [&str; 10] = [
    "smoke",
    "logs",
    "tls",
    "tuning",
    "alerts",
    "status-page",
    "runbooks-flow",
    "runbooks-letters",
    "runbooks-slot",
    "runbooks-change",
];

/// `KIND:NAME` in backticks.
fn references(kind: &str) -> Vec<&'static str> {
    let quoted = PAGE.split('`').skip(1).step_by(2);
    let names = quoted.filter_map(|text| text.strip_prefix(kind)?.strip_prefix(':'));
    names
        .filter(|name| name.chars().any(char::is_lowercase))
        .collect()
}

/// All tests in the sources below a folder.
fn tests_in(folder: &Path, found: &mut HashSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            for pair in lines.windows(2).filter(|pair| is_test(pair[0])) {
                let item = pair[1].strip_prefix("async ").unwrap_or(pair[1]);
                let name = item
                    .strip_prefix("fn ")
                    .and_then(|rest| rest.split('(').next());
                found.extend(name.map(str::to_owned));
            }
        }
    }
}

fn is_test(attribute: &str) -> bool {
    attribute == "#[test]" || attribute.starts_with("#[tokio::test")
}

fn missing(kind: &str, folders: &[&str]) -> Vec<&'static str> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut known = HashSet::new();
    for folder in folders {
        tests_in(&root.join(folder), &mut known);
    }
    let named = references(kind);
    assert!(!named.is_empty(), "no {kind} is named");
    named
        .into_iter()
        .filter(|name| !known.contains(*name))
        .collect()
}

#[test]
fn every_test_named_exists() {
    let none: Vec<&str> = Vec::new();
    assert_eq!(missing("sim", &["crates/sim"]), none);
    assert_eq!(missing("model", &["crates/model/tests"]), none);
    let folders = [
        "crates/delivery",
        "crates/envelope",
        "crates/event",
        "crates/inbox",
        "crates/pgoutput",
        "crates/producer",
        "crates/relay",
        "tests/fuzz/tests",
        "tests/tests/write_back",
    ];
    assert_eq!(missing("test", &folders), none);
}

#[test]
fn every_scenario_named_exists_and_every_one_is_named() {
    let named: HashSet<_> = references("scenario").into_iter().collect();
    for name in &named {
        assert!(scenario::find(name).is_some(), "no scenario {name}");
    }
    for scenario in ALL {
        let name = scenario.name;
        let beside = MEASURE.contains(&name) || ELSEWHERE.contains(&name);
        assert!(beside || named.contains(name), "{name} is not named");
    }
}

#[test]
fn what_make_test_leaves_out_is_known() {
    let left_out = ALL.iter().filter(|scenario| scenario.group == Group::Alone);
    let left_out: Vec<_> = left_out.map(|scenario| scenario.name).collect();
    let known = [
        "takeover",
        "no-yield",
        "live-while-draining",
        "many-pipelines",
        "poison",
        "refused",
        "dlq",
        "latency",
        "large-transaction",
        "backlog",
        "restored-busy",
        "write-back-cost",
        "consumer-throughput",
        "ledger",
    ];
    assert_eq!(left_out, known);
    // The page says so, too.
    let row = PAGE
        .lines()
        .find(|line| line.starts_with("| `scenario:NAME`"));
    let said = row.and_then(|row| row.split_once("but for")).unwrap().1;
    let said: HashSet<_> = said.split('`').skip(1).step_by(2).collect();
    assert_eq!(said, HashSet::from(known));
}

#[test]
fn every_kind_of_chaos_is_named() {
    let named: HashSet<_> = references("chaos").into_iter().collect();
    let kinds = Fault::all(1).into_iter().chain(Fault::all(3));
    let kinds: HashSet<_> = kinds.map(Fault::name).collect();
    assert_eq!(named, kinds);
}

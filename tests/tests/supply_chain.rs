//! The dependencies are what .ci/deny.toml says that they may be.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use scenarios::supply::{Graph, is_allowed};
use serde::Deserialize;

const RULES: &str = include_str!("../../.ci/deny.toml");

#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
    sources: Sources,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: Option<String>,
    #[serde(default)]
    deny_multiple_versions: bool,
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn licences_sources_and_bans_are_kept() {
    let rules: Rules = toml::from_str(RULES).unwrap();
    let graph = Graph::read(workspace()).unwrap();
    let mut complaints = BTreeSet::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in graph.packages() {
        versions
            .entry(&package.name)
            .or_default()
            .insert(&package.version);
        let what = format!("{} {}", package.name, package.version);
        let licence = package.license.as_deref().unwrap_or("none");
        if !is_allowed(licence, &rules.licenses.allow) {
            complaints.insert(format!("{what}: licence {licence}"));
        }
        let registry = package
            .source
            .as_deref()
            .map(|s| s.trim_start_matches("registry+"));
        if registry.is_some_and(|r| !rules.sources.allow_registry.iter().any(|a| a == r)) {
            complaints.insert(format!("{what}: source {registry:?}"));
        }
    }
    for Ban {
        name,
        reason,
        deny_multiple_versions,
    } in &rules.bans.deny
    {
        let found = versions.get(name.as_str());
        match (deny_multiple_versions, found) {
            (false, Some(found)) => {
                complaints.insert(format!(
                    "{name} {found:?}: {}",
                    reason.clone().unwrap_or_default()
                ));
            }
            (true, Some(found)) if found.len() > 1 => {
                complaints.insert(format!("{name}: more than one version: {found:?}"));
            }
            // A rule about what is not there any more would hide a wrong name.
            (true, None) => {
                complaints.insert(format!("{name}: is not a dependency"));
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("MIT AND ISC", true),
        ("(GPL-3.0 OR MIT) AND ISC", true),
        ("(GPL-3.0 OR MIT) AND BSL-1.0", false),
        ("GPL-3.0 OR MIT AND ISC", true),
        ("GPL-3.0 AND MIT OR ISC", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("MIT ISC", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
    }
}

//! What the workspace is built from, as cargo tells.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// A package of the dependency graph.
#[derive(Debug, Clone, Deserialize)]
pub struct Package {
    /// Unique in the graph.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// An SPDX expression.
    pub license: Option<String>,
    /// Where it comes from; `None` for those of the workspace.
    pub source: Option<String>,
    /// What it is.
    pub description: Option<String>,
    /// Where its own sources are.
    pub repository: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    kind: Option<String>,
}

/// All packages on Linux, and which needs which to be built.
pub struct Graph {
    packages: BTreeMap<String, Package>,
    /// Those that are needed for a build: not the ones of tests.
    needs: BTreeMap<String, Vec<String>>,
}

impl Graph {
    /// Asks cargo, without the network: what is built is there.
    pub fn read(workspace: &Path) -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let output = Command::new(cargo)
            .current_dir(workspace)
            .args(["metadata", "--format-version", "1", "--locked", "--offline"])
            .args(["--filter-platform", &platform])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cargo metadata: {said}");
        let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
        let builds = |edge: &&Edge| {
            edge.dep_kinds
                .iter()
                .any(|k| k.kind.as_deref() != Some("dev"))
        };
        let needs = metadata.resolve.nodes.into_iter().map(|node| {
            let needed = node.deps.iter().filter(builds);
            (node.id, needed.map(|edge| edge.pkg.clone()).collect())
        });
        let packages = metadata.packages.into_iter();
        Ok(Self {
            needs: needs.collect(),
            packages: packages.map(|p| (p.id.clone(), p)).collect(),
        })
    }

    /// Every package.
    pub fn packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.values()
    }

    /// A package of the workspace, and all that it is built from.
    pub fn closure(&self, name: &str) -> Result<Vec<&Package>> {
        let root = self
            .packages()
            .find(|p| p.name == name && p.source.is_none());
        let mut open = vec![&root.context("no such package")?.id];
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(self.needs.get(id).into_iter().flatten());
            }
        }
        Ok(seen
            .into_iter()
            .filter_map(|id| self.packages.get(id))
            .collect())
    }

    /// What a package is built from directly.
    pub fn needs(&self, package: &Package) -> impl Iterator<Item = &Package> {
        let needed = self.needs.get(&package.id).into_iter().flatten();
        needed.filter_map(|id| self.packages.get(id))
    }
}

/// Whether an SPDX expression holds with the licences that are allowed. `AND` binds closer than `OR`;
/// the slash of old manifests means `OR`.
pub fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let holds = either(&mut words, allowed);
    holds && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut holds = both(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        holds |= both(words, allowed);
    }
    holds
}

fn both(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut holds = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        holds &= one(words, allowed);
    }
    holds
}

fn one(words: &mut Words<'_>, allowed: &[String]) -> bool {
    match words.next() {
        Some("(") => either(words, allowed) && words.next() == Some(")"),
        Some(name) => {
            let mut licence = name.to_owned();
            if words.next_if_eq(&"WITH").is_some() {
                licence = format!("{licence} WITH {}", words.next().unwrap_or_default());
            }
            allowed.contains(&licence)
        }
        None => false,
    }
}

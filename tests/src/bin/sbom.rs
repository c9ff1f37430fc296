//! Prints a bill of materials of the binary `outboxd`: CycloneDX 1.5, all crates that it is built from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use scenarios::supply::{Graph, Package};
use serde::Deserialize;
use serde_json::{Value, json};

const PRODUCT: &str = "outboxd";

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// SHA-256 of each crate as the registry has it, by name and version.
type Checksums = BTreeMap<(String, String), String>;

fn main() -> Result<()> {
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let lock: Lock = toml::from_str(&fs::read_to_string(workspace.join("Cargo.lock"))?)?;
    let locked = lock.package.into_iter();
    let checksums: Checksums = locked
        .filter_map(|p| Some(((p.name, p.version), p.checksum?)))
        .collect();
    let graph = Graph::read(workspace)?;
    println!("{:#}", document(&graph, &checksums)?);
    Ok(())
}

fn document(graph: &Graph, checksums: &Checksums) -> Result<Value> {
    let all = graph.closure(PRODUCT)?;
    let product = all.iter().find(|p| p.name == PRODUCT);
    let product = product.context("the product is missing")?;
    let parts = all.iter().filter(|p| p.id != product.id);
    let dependencies = all.iter().map(|package| {
        let needs: Vec<String> = graph.needs(package).map(purl).collect();
        json!({ "ref": purl(package), "dependsOn": needs })
    });
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": component(product, "application", checksums) },
        "components": parts.map(|p| component(p, "library", checksums)).collect::<Vec<_>>(),
        "dependencies": dependencies.collect::<Vec<_>>(),
    }))
}

fn purl(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}

fn component(package: &Package, kind: &str, checksums: &Checksums) -> Value {
    let mut component = json!({
        "type": kind,
        "bom-ref": purl(package),
        "name": package.name,
        "version": package.version,
        "purl": purl(package),
    });
    if let Some(licence) = &package.license {
        let expression = licence.replace('/', " OR ");
        component["licenses"] = json!([{ "expression": expression }]);
    }
    if let Some(description) = &package.description {
        component["description"] = json!(description.trim());
    }
    if let Some(repository) = &package.repository {
        component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    let key = (package.name.clone(), package.version.clone());
    if let Some(checksum) = checksums.get(&key) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

//! The queries of the Grafana dashboard.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const DASHBOARD: &str = include_str!("../../docs/grafana/outboxd.json");
/// Its variables that stand in queries.
const VARIABLES: [&str; 2] = ["$job", "$pipeline"];

/// A panel that is no mere headline.
#[derive(Debug)]
pub struct Panel {
    /// Its place in the file's numbering.
    pub id: u64,
    /// What stands above it.
    pub title: String,
    /// What it says to whoever reads it at night.
    pub description: String,
    /// Its queries.
    pub queries: Vec<String>,
}

/// All panels, those of rows included.
pub fn panels() -> Result<Vec<Panel>> {
    let dashboard: Value = serde_json::from_str(DASHBOARD)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let charts = panels.iter().filter(|panel| panel["type"] != "row");
    charts.map(panel).collect()
}

fn panel(panel: &Value) -> Result<Panel> {
    let text = |key: &str| -> Result<String> {
        let text = panel[key]
            .as_str()
            .with_context(|| format!("no {key}: {panel}"))?;
        Ok(text.to_owned())
    };
    let targets = panel["targets"].as_array().context("no targets")?;
    let query = |target: &Value| target["expr"].as_str().map(str::to_owned);
    let queries: Option<Vec<String>> = targets.iter().map(query).collect();
    let queries = queries.context("a target without query")?;
    ensure!(!queries.is_empty(), "{panel}");
    Ok(Panel {
        id: panel["id"].as_u64().context("no id")?,
        title: text("title")?,
        description: text("description")?,
        queries,
    })
}

/// The queries of all panels.
pub fn queries() -> Result<Vec<String>> {
    Ok(panels()?
        .into_iter()
        .flat_map(|panel| panel.queries)
        .collect())
}

/// A query as Grafana asks it with "All" in each variable.
pub fn with_all(query: &str) -> String {
    VARIABLES
        .iter()
        .fold(query.to_owned(), |query, name| query.replace(name, ".*"))
}

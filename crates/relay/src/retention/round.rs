//! One round through all tables of a pipeline.

use std::time::Duration;

use delivery::Checkpoint;
use serde::Serialize;
use tokio_postgres::Client;

use super::rows::Doomed;
use super::{partitions, proof, table};
use crate::config::Pipeline;
use crate::failure::Failure;
use crate::feed::{table_name, whole};
use crate::writeback::error::classify;

/// How far a round goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Says what would be removed.
    Count,
    /// Removes it.
    Remove,
}

/// What a round is to do.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// Rows that are older go.
    pub period: Duration,
    /// How far it goes.
    pub extent: Extent,
    /// A person says that rows from before the slot's stream are published, or not needed.
    pub accepts_earlier_rows: bool,
}

/// How far a round has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The table at hand.
    pub table: &'a str,
    /// Pages of it that have been looked at.
    pub pages: i64,
    /// Its pages.
    pub pages_total: i64,
    /// Rows removed or counted so far, of all tables.
    pub removed: u64,
}

/// What a round did to one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// Schema and name.
    pub table: String,
    /// Rows removed one by one.
    pub rows: u64,
    /// Partitions dropped with all their rows.
    pub partitions: Vec<String>,
    /// Partitions that are old enough, but hold rows that are not known to be published.
    pub kept: Vec<KeptPartition>,
}

/// A partition that is not dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptPartition {
    /// Schema and name.
    pub partition: String,
    /// Its rows that are not known to be published.
    pub rows: i64,
}

/// Removes or counts the published rows that are older than a period, by the server's clock.
/// `recorded` reads the newest checkpoint, where it is needed.
///
/// # Errors
/// A table without time column or proof, a privilege that is missing, or what Postgres says.
pub async fn run(
    client: &Client,
    pipeline: &Pipeline,
    order: Order,
    recorded: impl Future<Output = Result<Option<Checkpoint>, Failure>>,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Vec<TableReport>, Failure> {
    let extent = order.extent;
    let cutoff = cutoff(client, order.period).await?;
    let streamed = match whole::matters(pipeline) {
        true => Some(proof::streamed(client, pipeline, recorded).await?),
        false => None,
    };
    let mut reports = Vec::with_capacity(pipeline.tables.len());
    let mut before = 0;
    for (_, spec, state) in pipeline.outboxes() {
        let aged = table::look(client, spec).await?;
        let name = table_name(spec);
        let proof = proof::of(&name, state, streamed.as_ref(), order)?;
        let mut report = TableReport {
            table: name,
            rows: 0,
            partitions: Vec::new(),
            kept: Vec::new(),
        };
        if aged.is_partitioned {
            let outcome = partitions::go_through(client, &aged, &cutoff, &proof, extent).await?;
            (report.partitions, report.kept) = (outcome.dropped, outcome.kept);
        } else {
            let condition = format!("({proof}) AND {} < {cutoff}", aged.time);
            let doomed = Doomed {
                table: &aged.name,
                oid: aged.oid,
                condition: &condition,
                state,
            };
            let shown = report.table.clone();
            let told = |pages, pages_total, rows| {
                progress(Progress {
                    table: &shown,
                    pages,
                    pages_total,
                    removed: before + rows,
                });
            };
            report.rows = doomed
                .go_through(client, extent, &pipeline.retention, told)
                .await?;
        }
        before += report.rows;
        reports.push(report);
    }
    Ok(reports)
}

/// The newest time that is too old, as SQL.
async fn cutoff(client: &Client, period: Duration) -> Result<String, Failure> {
    let sql = "SELECT quote_literal((now() - make_interval(secs => $1))::text) || '::timestamptz'";
    let row = client.query_one(sql, &[&period.as_secs_f64()]).await;
    Ok(row.map_err(|e| classify("reading the clock", &e))?.get(0))
}

//! Audit: tables and topics are compared, event by event, and what does not agree is listed.
//!
//! ```text
//!  rows of the time ──► what the mapping makes of them ─┐
//!                                                       ├─► entries on disk, in buckets ─► cases ─► findings
//!  records, dead letters ──► what they consist of ──────┘      by the event's digest
//! ```
//!
//! Rows and records meet by type and id. Neither is held: what is compared are digests, and of all
//! entries only one bucket is in memory.

mod case;
mod comparison;
mod content;
mod entry;
mod keeping;
mod records;
mod report;
mod rows;
mod spill;

use std::collections::HashMap;
use std::time::Duration;

use pgoutput::Lsn;

use self::case::{Facts, Letters, Table};
use self::comparison::Comparison;
use self::rows::Period;
use self::spill::Spill;
use crate::config::Pipeline;
use crate::failure::Failure;
use crate::feed::{self, Connection, table_name};
use crate::requests;
use crate::sql::rfc3339;
use crate::topics::MARGIN_MS;

pub use keeping::Keeping;
pub use report::{Counts, Finding, Kind, PassedOver, Place, RecordCount, Report, TableCount};

/// What to look at.
#[derive(Debug, Clone)]
pub struct Ways {
    /// Rows of events since then.
    pub since: String,
    /// Rows of events before that; `None`: up to now.
    pub until: Option<String>,
    /// Rows that are older may have been removed, beside what retention is configured for.
    pub pruned_after: Option<Duration>,
    /// Who publishes to the topics.
    pub publishers: Publishers,
    /// What topics keep, as far as that is known.
    pub keeping: HashMap<String, Keeping>,
    /// How long the relay may take to come past the rows.
    pub patience: Duration,
}

/// Who publishes to the topics of a pipeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Publishers {
    /// This pipeline alone: an event without a row is a finding.
    #[default]
    Ours,
    /// Others as well: an event without a row may be theirs.
    Others,
}

/// How far an audit has got.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// Rows of a table were read.
    Rows(&'a str, u64),
    /// The relay is waited for.
    Waiting,
    /// Records were read.
    Records(u64),
    /// Dead letters are read.
    DeadLetters,
    /// Events were compared, of so many entries.
    Compared(u64, u64),
}

/// Compares tables and topics. Nothing is changed.
pub async fn run(
    pipeline: &Pipeline,
    ways: &Ways,
    mut tell: impl FnMut(Step<'_>),
) -> Result<Report, Failure> {
    let connection = Connection::open(&pipeline.postgres).await?;
    let clock = Clock::read(&connection, ways).await?;
    let mut spill = Spill::new()?;
    let mut report = Report {
        pipeline: pipeline.name.clone(),
        since: clock.period.since.clone(),
        until: clock.period.until.clone(),
        ..Report::default()
    };
    let slot = pipeline.slot_name();
    let asked_before = requests::ids(&connection, &slot).await?;
    // What is committed before the snapshot lies before this point of the WAL.
    connection
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    report.tables = read_rows(pipeline, &connection, &clock, &mut spill, &mut tell).await?;
    connection.execute("COMMIT").await?;
    tell(Step::Waiting);
    report.settled = await_relay(&connection, pipeline, ways.patience).await?;

    let from_ms = clock.since_ms.saturating_sub(MARGIN_MS);
    let told = |records| tell(Step::Records(records));
    report.records = records::read_events(pipeline, from_ms, &mut spill, told).await?;
    tell(Step::DeadLetters);
    let letters = {
        let pipeline = pipeline.clone();
        tokio::task::spawn_blocking(move || {
            let count = records::read_letters(&pipeline, &mut spill)?;
            Ok::<_, Failure>((spill, count))
        })
    };
    let letters = letters.await;
    let (spill, count) =
        letters.map_err(|e| Failure::caused("internal", "reading dead letters", &e))??;
    report.records.dead_letters = count;
    let requests = requests::ids(&connection, &slot).await?;
    let Period { since, until } = &clock.period;
    report.requests = requests::between(&connection, &slot, since, until).await?;
    let is_quiet = report.settled && requests.len() == asked_before.len();
    let facts = Facts {
        settled: report.settled,
        letters: match is_quiet {
            true => Letters::AtRest,
            false => Letters::Moving,
        },
        requests,
        ..facts(pipeline, ways, &clock)
    };
    let mut comparison = Comparison::begin(pipeline, connection, facts, clock, report).await?;
    comparison.compare(spill, tell).await?;
    comparison.look_again(ways.patience).await?;
    Ok(comparison.end())
}

/// The times that were given, by the database's reckoning.
struct Clock {
    period: Period,
    since_ms: i64,
    until_ms: i64,
    now_ms: i64,
}

impl Clock {
    async fn read(connection: &Connection, ways: &Ways) -> Result<Self, Failure> {
        let (since, until) = (rfc3339("since"), rfc3339("until"));
        let sql = format!(
            "WITH given AS (SELECT $1::text::timestamptz AS since, \
               coalesce($2::text::timestamptz, now()) AS until) \
             SELECT {since}, {until}, floor(extract(epoch FROM since) * 1000)::bigint, \
               ceil(extract(epoch FROM until) * 1000)::bigint, \
               floor(extract(epoch FROM now()) * 1000)::bigint FROM given"
        );
        let rows = connection.rows(&sql, &[&ways.since, &ways.until]).await?;
        let row = rows.first();
        let row = row.ok_or_else(|| Failure::new("internal", "the clock can't be read"))?;
        Ok(Self {
            period: Period {
                since: row.get(0),
                until: row.get(1),
            },
            since_ms: row.get(2),
            until_ms: row.get(3),
            now_ms: row.get(4),
        })
    }
}

async fn read_rows(
    pipeline: &Pipeline,
    connection: &Connection,
    clock: &Clock,
    spill: &mut Spill,
    tell: &mut impl FnMut(Step<'_>),
) -> Result<Vec<TableCount>, Failure> {
    let mut counts = Vec::with_capacity(pipeline.tables.len());
    for outbox in pipeline.outboxes() {
        let name = table_name(outbox.1);
        let told = |rows| tell(Step::Rows(&name, rows));
        let count = rows::read(pipeline, connection, outbox, &clock.period, spill, told).await?;
        counts.push(count);
    }
    Ok(counts)
}

/// Whether the relay is past everything that is committed now: states are written by then, too.
async fn await_relay(
    connection: &Connection,
    pipeline: &Pipeline,
    patience: Duration,
) -> Result<bool, Failure> {
    let rows = connection
        .rows("SELECT pg_current_wal_insert_lsn()::text", &[])
        .await?;
    let text: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
    let end: Lsn = text
        .parse()
        .map_err(|e| Failure::caused("protocol", "reading an LSN", &e))?;
    let slot = pipeline.slot_name();
    match connection.slot(&slot).await? {
        Some(_) => feed::confirmed(connection, &slot, end, patience).await,
        None => Ok(false),
    }
}

fn facts(pipeline: &Pipeline, ways: &Ways, clock: &Clock) -> Facts {
    let policies = pipeline.table_policies();
    let tables = pipeline.tables.iter().zip(policies);
    let tables = tables.map(|(spec, policy)| Table {
        name: table_name(spec),
        dead_letter_topic: policy.dead_letter_topic,
        write_back: policy.write_back,
    });
    let ages = [pipeline.retention.period, ways.pruned_after];
    let shortest = ages.into_iter().flatten().min();
    let millis = |age: Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    Facts {
        tables: tables.collect(),
        keeping: ways.keeping.clone(),
        now_ms: clock.now_ms,
        publishers: ways.publishers,
        pruned_before_ms: shortest.map(|age| clock.now_ms.saturating_sub(millis(age))),
        ..Facts::default()
    }
}

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
mod content;
pub(crate) mod control;
mod entry;
mod keeping;
mod records;
mod report;
mod rows;
mod spill;

use std::collections::HashMap;
use std::time::Duration;

use pgoutput::Lsn;

use self::case::{Case, Facts, Judged, Table};
use self::entry::{Entry, State};
use self::rows::Period;
use self::spill::Spill;
use crate::config::Pipeline;
use crate::failure::Failure;
use crate::feed::{self, Connection, literal, shape::Shape, table_name};

pub use keeping::Keeping;
pub use report::{
    Counts, Finding, Kind, PassedOver, Place, RecordCount, Report, Request, TableCount,
};

/// Clocks of database and brokers, and transactions that take long, may be this far apart.
const MARGIN_MS: i64 = 3_600_000;
/// Ids that are looked up together.
const LOOKED_UP: usize = 1_000;

/// What to look at.
#[derive(Debug, Clone)]
pub struct Ways {
    /// Rows of events since then.
    pub since: String,
    /// Rows of events before that; `None`: up to now.
    pub until: Option<String>,
    /// Rows that are older may have been removed, beside what retention is configured for.
    pub pruned_after: Option<Duration>,
    /// What topics keep, as far as that is known.
    pub keeping: HashMap<String, Keeping>,
    /// How long the relay may take to come past the rows.
    pub patience: Duration,
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
    // What is committed before the snapshot lies before this point of the WAL.
    connection
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    report.tables = read_rows(pipeline, &connection, &clock, &mut spill, &mut tell).await?;
    connection.execute("COMMIT").await?;
    tell(Step::Waiting);
    report.settled = await_relay(&connection, pipeline, ways.patience).await?;

    let slot = pipeline.slot_name();
    let has_control = feed::present(&connection).await?;
    let requests = match has_control {
        true => control::ids(&connection, &slot).await?,
        false => Default::default(),
    };
    let from_ms = clock.since_ms.saturating_sub(MARGIN_MS);
    let told = |records| tell(Step::Records(records));
    report.records =
        records::read_events(pipeline, from_ms, requests.clone(), &mut spill, told).await?;
    tell(Step::DeadLetters);
    let letters = {
        let pipeline = pipeline.clone();
        tokio::task::spawn_blocking(move || {
            let count = records::read_letters(&pipeline, &requests, &mut spill)?;
            Ok::<_, Failure>((spill, count))
        })
    };
    let letters = letters.await;
    let (spill, count) =
        letters.map_err(|e| Failure::caused("internal", "reading dead letters", &e))??;
    report.records.dead_letters = count;
    if has_control {
        report.requests = control::of_period(&connection, &slot, &clock.period).await?;
    }
    let facts = facts(pipeline, ways, &clock, report.settled);
    let mut comparison = Comparison {
        pipeline,
        connection,
        shapes: Vec::new(),
        facts,
        clock,
        report,
        doubtful: Vec::new(),
    };
    comparison.compare(spill, tell).await?;
    comparison.look_again(ways.patience).await?;
    comparison.note();
    Ok(comparison.report)
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
        let sql = "WITH given AS (SELECT $1::text::timestamptz AS since, \
                     coalesce($2::text::timestamptz, now()) AS until) \
                   SELECT to_char(since, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
                     to_char(until, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
                     floor(extract(epoch FROM since) * 1000)::bigint, \
                     ceil(extract(epoch FROM until) * 1000)::bigint, \
                     floor(extract(epoch FROM now()) * 1000)::bigint FROM given";
        let rows = connection.rows(sql, &[&ways.since, &ways.until]).await?;
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

fn facts(pipeline: &Pipeline, ways: &Ways, clock: &Clock, settled: bool) -> Facts {
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
        settled,
        pruned_before_ms: shortest.map(|age| clock.now_ms.saturating_sub(millis(age))),
    }
}

struct Comparison<'a> {
    pipeline: &'a Pipeline,
    connection: Connection,
    shapes: Vec<Shape>,
    facts: Facts,
    clock: Clock,
    report: Report,
    /// Findings of rows whose state may have been written since, with what it should be.
    doubtful: Vec<(State, Finding)>,
}

impl Comparison<'_> {
    async fn compare(
        &mut self,
        mut spill: Spill,
        mut tell: impl FnMut(Step<'_>),
    ) -> Result<(), Failure> {
        for (_, spec, state) in self.pipeline.outboxes() {
            self.shapes
                .push(Shape::read(&self.connection, spec, state).await?);
        }
        let rows: u64 = self.report.tables.iter().map(|table| table.rows).sum();
        let all = rows + self.report.records.events + self.report.records.dead_letters;
        let mut compared = 0;
        while let Some(entries) = spill.next()? {
            compared += entries.len() as u64;
            let mut cases: HashMap<u128, Case> = HashMap::new();
            for (digest, entry) in entries {
                let case = cases.entry(digest).or_default();
                match entry {
                    Entry::Row(row) => case.rows.push(row),
                    Entry::Sighting(sighting) => case.sightings.push(sighting),
                }
            }
            let (with_row, without): (Vec<_>, Vec<_>) =
                cases.into_values().partition(|case| !case.rows.is_empty());
            for case in with_row {
                let judged = case.judge(&self.facts);
                self.take(judged);
            }
            self.judge_strangers(without).await?;
            tell(Step::Compared(compared, all));
        }
        Ok(())
    }

    /// Events that no row of the time is of. Most are of rows of another time.
    async fn judge_strangers(&mut self, mut cases: Vec<Case>) -> Result<(), Failure> {
        let (since, until) = (self.clock.since_ms, self.clock.until_ms);
        cases.retain(|case| {
            let first = case.sightings.iter().map(|sighting| sighting.at_ms).min();
            first.is_some_and(|at| at >= since && at < until)
        });
        for chunk in cases.chunks(LOOKED_UP) {
            let id = |case: &Case| case.sightings.first().map(|s| s.id.clone());
            let mut absent: Vec<String> = chunk.iter().filter_map(id).collect();
            for shape in &self.shapes {
                absent = shape.absent(&self.connection, &absent).await?;
            }
            let absent: std::collections::HashSet<String> = absent.into_iter().collect();
            for case in chunk {
                if id(case).is_some_and(|id| absent.contains(&id)) {
                    let judged = case.judge(&self.facts);
                    self.take(judged);
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, judged: Judged) {
        for finding in judged.findings {
            self.report.add(finding);
        }
        let (sum, more) = (&mut self.report.passed_over, judged.passed_over);
        sum.waiting += more.waiting;
        sum.expired += more.expired;
        sum.pruned += more.pruned;
        sum.replayed += more.replayed;
        match judged.doubtful {
            Some((_, finding)) if self.doubtful.len() as u64 >= report::NAMED => {
                self.report.add(finding);
            }
            doubtful => self.doubtful.extend(doubtful),
        }
    }

    /// States may have been written since the rows were read: only what still contradicts the topics,
    /// once the relay is past everything, is a finding.
    async fn look_again(&mut self, patience: Duration) -> Result<(), Failure> {
        let doubtful = std::mem::take(&mut self.doubtful);
        if doubtful.is_empty() {
            return Ok(());
        }
        let settled = await_relay(&self.connection, self.pipeline, patience).await?;
        for (expected, finding) in doubtful {
            let now = self.state_of(&finding).await?;
            let is_written = now.is_none_or(|state| state == expected);
            let may_be_written = !settled && now == Some(State::Pending);
            match (is_written, may_be_written) {
                (true, _) => {}
                (false, true) => self.report.passed_over.waiting += 1,
                (false, false) => self.report.add(finding),
            }
        }
        Ok(())
    }

    /// `None` if the row is gone.
    async fn state_of(&self, finding: &Finding) -> Result<Option<State>, Failure> {
        let named = |spec| finding.table.as_deref() == Some(table_name(spec).as_str());
        let index = self.pipeline.tables.iter().position(named);
        let Some(shape) = index.and_then(|index| self.shapes.get(index)) else {
            return Ok(None);
        };
        let (Some(state), table) = (&shape.state, &shape.table) else {
            return Ok(None);
        };
        let (id, kind, given) = (&shape.id, &shape.id_type, literal(&finding.event_id));
        let sql =
            format!("SELECT t.{state}::text FROM {table} t WHERE t.{id} = {given}::text::{kind}");
        let rows = self.connection.rows(&sql, &[]).await?;
        Ok(rows.first().map(|row| State::read(row.get(0))))
    }

    /// What must be known to read the report.
    fn note(&mut self) {
        let mut notes = Vec::new();
        if !self.report.settled {
            notes.push(
                "the relay was not known to be past all of these rows: PENDING ones that are in no \
                 topic count as waiting, not as missing"
                    .to_owned(),
            );
        }
        for table in self.report.tables.iter().filter(|table| table.untold > 0) {
            let (rows, name) = (table.untold, &table.table);
            notes.push(format!(
                "{name}: {rows} rows without a time or an id were not compared"
            ));
        }
        let undated = self
            .shapes
            .iter()
            .filter(|shape| shape.occurred_at.is_none());
        for shape in undated {
            let name = format!("{}.{}", shape.relation.namespace, shape.relation.name);
            notes.push(format!(
                "{name} has no time of events: all of its rows were compared with records of the time"
            ));
        }
        let lossy = self
            .facts
            .keeping
            .iter()
            .filter(|(_, keeping)| keeping.is_lossy());
        let mut lossy: Vec<_> = lossy.map(|(topic, _)| topic.as_str()).collect();
        lossy.sort_unstable();
        if !lossy.is_empty() {
            notes.push(format!(
                "compacted or limited in size, so that nothing can be missing there: {}",
                lossy.join(", ")
            ));
        }
        self.report.notes = notes;
    }
}

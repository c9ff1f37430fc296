//! From entries to findings.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::case::{Case, Facts, Judged};
use super::entry::{Entry, State};
use super::report::{Finding, NAMED, Report};
use super::spill::Spill;
use super::{Clock, Step, await_relay};
use crate::config::Pipeline;
use crate::failure::Failure;
use crate::feed::shape::Shape;
use crate::feed::{Connection, literal, table_name};

/// Ids that are looked up together.
const LOOKED_UP: usize = 1_000;

/// Where cases become findings.
pub(super) struct Comparison<'a> {
    pipeline: &'a Pipeline,
    connection: Connection,
    shapes: Vec<Shape>,
    facts: Facts,
    clock: Clock,
    report: Report,
    /// Findings of rows whose state may have been written since, with what it should be.
    doubtful: Vec<(State, Finding)>,
}

impl<'a> Comparison<'a> {
    /// Without findings yet.
    pub async fn begin(
        pipeline: &'a Pipeline,
        connection: Connection,
        facts: Facts,
        clock: Clock,
        report: Report,
    ) -> Result<Self, Failure> {
        let mut shapes = Vec::with_capacity(pipeline.tables.len());
        for (_, spec, state) in pipeline.outboxes() {
            shapes.push(Shape::read(&connection, spec, state).await?);
        }
        Ok(Self {
            pipeline,
            connection,
            shapes,
            facts,
            clock,
            report,
            doubtful: Vec::new(),
        })
    }

    /// Judges everything that was noted.
    pub async fn compare(
        &mut self,
        mut spill: Spill,
        mut tell: impl FnMut(Step<'_>),
    ) -> Result<(), Failure> {
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
                    Entry::Sighting(mut sighting) => {
                        sighting.require_request(&self.facts.requests);
                        case.sightings.push(sighting);
                    }
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
            let absent: HashSet<String> = absent.into_iter().collect();
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
        sum.of_others += more.of_others;
        sum.replayed += more.replayed;
        match judged.doubtful {
            Some((_, finding)) if self.doubtful.len() as u64 >= NAMED => {
                self.report.add(finding);
            }
            doubtful => self.doubtful.extend(doubtful),
        }
    }

    /// States may have been written since the rows were read: only what still contradicts the topics,
    /// once the relay is past everything, is a finding.
    pub async fn look_again(&mut self, patience: Duration) -> Result<(), Failure> {
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

    /// The report, with what must be known to read it.
    pub fn end(mut self) -> Report {
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
        self.report
    }
}

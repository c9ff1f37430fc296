//! Comparing tables and topics.

use std::collections::BTreeSet;

use delivery::{Mark, Marks, Outcome};
use pgoutput::Lsn;
use serde::Serialize;

use super::Step;
use super::diagnosis::Diagnosis;
use super::proof::{Proof, Status, digest};
use super::seen::{self, Seen};
use super::suspects::Suspects;
use crate::config::{Pipeline, WriteBack};
use crate::failure::Failure;
use crate::feed::gather::Gathering;
use crate::feed::{self, Connection};
use crate::topics::{MARGIN_MS, Open, Scope, Topics};
use crate::writeback::{Correction, Server};

/// Rows and events that are named at most.
const NAMED: usize = 10_000;
/// Requests that are named at most.
const REQUESTS: i64 = 1_000;

/// How often publishing it was tried, and why it failed, stands there.
const IN_DEAD_LETTERS: Outcome<'_> = Outcome::Failed {
    attempts: 1,
    error: "found in the dead-letter topic by a repair: see outboxd dlq show",
};

/// How to go about it.
#[derive(Debug, Clone, Default)]
pub struct Ways {
    /// Go on though slot and checkpoint agree.
    pub anyway: bool,
    /// Look at rows, and at records of topics, from this time on.
    pub since: Option<String>,
    /// Read only these topics.
    pub topics: Vec<String>,
    /// Name the rows.
    pub list: bool,
    /// Look for events without a row from this position on.
    pub phantoms_from: Option<Lsn>,
}

/// What would be done.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// Why.
    #[serde(flatten)]
    pub diagnosis: Diagnosis,
    /// When the last transaction that was published was committed.
    pub published_until: Option<String>,
    /// Who reads from the slot.
    pub holder: Option<String>,
    /// Whether the database has schema `outboxd`.
    pub has_schema: bool,
    /// Rows left of a feed that was under way.
    pub carried: u64,
    /// What is found in each table.
    pub tables: Vec<TableReport>,
    /// Events whose rows this server does not have; `None` if there is no reason to look for them.
    pub phantoms: Option<Phantoms>,
    /// Requests of operators that may not have been carried out.
    pub requests: Vec<String>,
}

/// What is found in a table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TableReport {
    /// Schema and name.
    pub table: String,
    /// Which rows were looked at.
    pub chosen_by: String,
    /// How many there are.
    pub suspects: u64,
    /// Of these, how many are in the topics.
    pub published: u64,
    /// Of these, how many are in dead-letter topics.
    pub dead_lettered: u64,
    /// Of these, how many the unfinished feed has.
    pub carried: u64,
    /// The rest: to be published.
    pub unpublished: u64,
    /// The first of them in their order.
    pub first: Option<RowName>,
    /// The last of them.
    pub last: Option<RowName>,
    /// All of them, as far as they were asked for.
    pub rows: Vec<RowName>,
    /// What can't be known.
    pub doubt: Option<String>,
}

/// A row.
#[derive(Debug, Clone, Serialize)]
pub struct RowName {
    /// Its id.
    pub id: String,
    /// The event's type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The time of the event.
    pub at: Option<String>,
}

/// Events without rows.
#[derive(Debug, Default, Serialize)]
pub struct Phantoms {
    /// How many there are.
    pub count: u64,
    /// They are named up to a number.
    pub events: Vec<Phantom>,
}

/// An event without a row.
#[derive(Debug, Serialize)]
pub struct Phantom {
    /// Its id.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Where it stands.
    pub topic: String,
    /// Where its change stood in the stream.
    pub position: String,
}

/// Tables and what the topics say of them.
pub(super) struct Survey<'a> {
    pipeline: &'a Pipeline,
    ways: &'a Ways,
    diagnosis: Diagnosis,
    published_until: Option<String>,
    tables: Vec<Suspects>,
    proof: Proof,
    /// Rows of a feed that was under way.
    carried: std::collections::HashSet<u128>,
    phantoms: Option<Phantoms>,
    requests: Vec<Unanswered>,
}

impl<'a> Survey<'a> {
    /// Looks at the tables, in the transaction of the connection.
    pub async fn take(
        pipeline: &'a Pipeline,
        connection: &Connection,
        diagnosis: Diagnosis,
        ways: &'a Ways,
        has_schema: bool,
    ) -> Result<Self, Failure> {
        let reach = diagnosis.reach.as_ref();
        let commit_time = reach.and_then(|reach| reach.commit_time_us);
        let (published_until, margin) = times(connection, commit_time).await?;
        let since = ways.since.clone().or(margin);
        let mut survey = Self {
            pipeline,
            ways,
            tables: Suspects::of(pipeline, connection, since.as_deref()).await?,
            phantoms: diagnosis.phantoms_from.map(|_| Phantoms::default()),
            diagnosis,
            published_until,
            proof: Proof::default(),
            carried: std::collections::HashSet::new(),
            requests: Vec::new(),
        };
        for table in &survey.tables {
            table.load(connection, &mut survey.proof).await?;
        }
        if has_schema {
            survey.load_feed(connection).await?;
            survey.requests = unanswered(connection, &pipeline.slot_name()).await?;
        }
        Ok(survey)
    }

    async fn load_feed(&mut self, connection: &Connection) -> Result<(), Failure> {
        let Some(feed) = self.diagnosis.unfinished() else {
            return Ok(());
        };
        let request = feed::literal(&feed.request);
        let done = feed.fed.done;
        let sql = format!(
            "SELECT table_name, row_id FROM outboxd.feed_rows \
             WHERE request_id = {request} AND ordinal > {done}"
        );
        let mut rows = connection.stream(&sql).await?;
        while let Some(row) = rows.next().await? {
            let (table, id) = (row.get(0).unwrap_or(""), row.get(1).unwrap_or(""));
            self.carried.insert(digest(table, id));
        }
        Ok(())
    }

    /// Looks for the suspects in the topics, and for events without rows. Once older relays are
    /// fenced, what they left open is waited for.
    pub async fn read_topics(
        &mut self,
        connection: &Connection,
        open: Open,
        tell: &impl Fn(Step),
    ) -> Result<(), Failure> {
        if self.proof.is_empty() && self.phantoms.is_none() {
            return Ok(());
        }
        let scope = Scope {
            topics: Topics::named_or_all(&self.ways.topics),
            from_ms: self.from(connection).await?,
            until_ms: None,
            open,
        };
        let mut batches = seen::read(self.pipeline, scope);
        let mut looked_at = 0;
        while let Some(batch) = batches.recv().await {
            let batch = batch?;
            looked_at += batch.looked_at;
            self.compare(connection, batch.found).await?;
            tell(Step::Records(looked_at));
        }
        Ok(())
    }

    /// Records bear the time of their commit, of which a row tells nothing: its own time is whatever the
    /// service has written. So only a person can say from when on the topics need be read.
    async fn from(&self, connection: &Connection) -> Result<Option<i64>, Failure> {
        let Some(since) = &self.ways.since else {
            return Ok(None);
        };
        let sql = "SELECT (extract(epoch FROM $1::text::timestamptz) * 1000)::bigint";
        let rows = connection.rows(sql, &[since]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    async fn compare(&mut self, connection: &Connection, batch: Vec<Seen>) -> Result<(), Failure> {
        let mut strangers = Vec::new();
        for seen in batch {
            let known = self
                .proof
                .found(&seen.event_type, &seen.event_id, seen.is_dead_letter);
            if !known && self.may_be_phantom(&seen) {
                strangers.push(seen);
            }
        }
        if strangers.is_empty() {
            return Ok(());
        }
        let mut absent: Vec<String> = strangers.iter().map(|s| s.event_id.clone()).collect();
        for table in &self.tables {
            absent = table.shape.absent(connection, &absent).await?;
        }
        let absent: std::collections::HashSet<String> = absent.into_iter().collect();
        if let Some(phantoms) = &mut self.phantoms {
            let lost = strangers.iter().filter(|s| absent.contains(&s.event_id));
            lost.for_each(|seen| phantoms.add(seen));
        }
        Ok(())
    }

    fn may_be_phantom(&self, seen: &Seen) -> bool {
        match (self.diagnosis.phantoms_from, seen.position) {
            (Some(from), Some(position)) => position.commit_lsn.0 >= from,
            (Some(_) | None, _) => false,
        }
    }

    /// Counts what is unpublished.
    pub async fn plan(self, connection: &Connection, list: bool) -> Result<Plan, Failure> {
        let named = if list { NAMED } else { 0 };
        let (reports, _) = self.count(connection, None, named).await?;
        Ok(self.into_plan(reports))
    }

    /// Deletes the rows of requests that have to be made again.
    pub async fn discard_unanswered(&self, connection: &Connection) -> Result<(), Failure> {
        for request in &self.requests {
            feed::discard(connection, &request.id).await?;
        }
        Ok(())
    }

    /// Writes down what is unpublished, behind what is left of an unfinished feed.
    pub async fn gather(
        &self,
        connection: &Connection,
        request: &str,
    ) -> Result<(Vec<TableReport>, u64), Failure> {
        let mut gathering = Gathering::new(self.pipeline, connection, request);
        if let Some(feed) = self.diagnosis.unfinished() {
            gathering.add_rest(&feed.request, feed.fed.done).await?;
        }
        self.count(connection, Some(gathering), 0).await
    }

    /// The tables of which every row was looked for in the topics: what was not found is in the feed.
    pub async fn whole_tables(&self, connection: &Connection) -> Result<BTreeSet<String>, Failure> {
        let mut whole = BTreeSet::new();
        for (table, (_, spec, _)) in self.tables.iter().zip(self.pipeline.outboxes()) {
            if table.is_whole(connection, self.pipeline, spec).await? {
                whole.insert(table.table.clone());
            }
        }
        Ok(whole)
    }

    async fn count(
        &self,
        connection: &Connection,
        mut gathering: Option<Gathering<'_>>,
        named: usize,
    ) -> Result<(Vec<TableReport>, u64), Failure> {
        let mut reports = Vec::with_capacity(self.tables.len());
        for table in &self.tables {
            let mut report = TableReport {
                table: table.table.clone(),
                chosen_by: table.chosen_by.clone(),
                doubt: table.doubt.clone(),
                ..TableReport::default()
            };
            table.open(connection).await?;
            loop {
                let page = Suspects::fetch(connection).await?;
                if page.is_empty() {
                    break;
                }
                let mut ids = Vec::with_capacity(page.len());
                for suspect in page {
                    let status = self.proof.status(&suspect.event_type, &suspect.id);
                    let is_carried = self.carried.contains(&digest(&table.table, &suspect.id));
                    if report.sort(status, is_carried) {
                        ids.push(suspect.id.clone());
                        let row = RowName {
                            id: suspect.id,
                            event_type: suspect.event_type,
                            at: suspect.at,
                        };
                        report.name(row, named);
                    }
                }
                if let Some(gathering) = &mut gathering {
                    gathering.add_ids(&table.table, &ids).await?;
                }
            }
            Suspects::close(connection).await?;
            reports.push(report);
        }
        Ok((reports, gathering.map_or(0, |gathering| gathering.rows())))
    }

    /// The plan that belongs to these counts.
    pub fn into_plan(self, tables: Vec<TableReport>) -> Plan {
        Plan {
            diagnosis: self.diagnosis,
            published_until: self.published_until,
            holder: None,
            has_schema: true,
            carried: self.carried.len() as u64,
            tables,
            phantoms: self.phantoms,
            requests: self.requests.into_iter().map(|r| r.text).collect(),
        }
    }

    /// Rows that were found in the topics take the state that the relay would have written back.
    pub async fn mark_found(&self, server: &Server) -> Result<u64, Failure> {
        if !self.proof.has_found() || self.tables.iter().all(|t| t.mode == WriteBack::Off) {
            return Ok(0);
        }
        let reading = Connection::open(&self.pipeline.postgres).await?;
        let correction = Correction::open(self.pipeline, server).await?;
        let (mut marked, mut marks) = (0, Marks::default());
        reading.execute("BEGIN READ ONLY").await?;
        for table in &self.tables {
            table.open(&reading).await?;
            loop {
                let page = Suspects::fetch(&reading).await?;
                if page.is_empty() {
                    break;
                }
                for suspect in &page {
                    let outcome = match self.proof.status(&suspect.event_type, &suspect.id) {
                        Some(Status::Published) => Outcome::Sent,
                        Some(Status::DeadLettered) => IN_DEAD_LETTERS,
                        Some(Status::Unpublished) | None => continue,
                    };
                    let (table, id) = (table.id, suspect.id.as_str());
                    marks.push(Mark { table, id, outcome });
                }
                marked += correction.write(&marks).await?;
                marks.clear();
            }
            Suspects::close(&reading).await?;
        }
        reading.execute("COMMIT").await?;
        Ok(marked)
    }
}

impl TableReport {
    /// Counts a suspect; whether it is to be published.
    fn sort(&mut self, status: Option<Status>, is_carried: bool) -> bool {
        self.suspects += 1;
        match status {
            Some(Status::Published) => self.published += 1,
            Some(Status::DeadLettered) => self.dead_lettered += 1,
            Some(Status::Unpublished) | None if is_carried => self.carried += 1,
            Some(Status::Unpublished) | None => {
                self.unpublished += 1;
                return true;
            }
        }
        false
    }

    fn name(&mut self, row: RowName, named: usize) {
        if self.first.is_none() {
            self.first = Some(row.clone());
        }
        if self.rows.len() < named {
            self.rows.push(row.clone());
        }
        self.last = Some(row);
    }
}

impl Phantoms {
    fn add(&mut self, seen: &Seen) {
        self.count += 1;
        if self.events.len() < NAMED {
            self.events.push(Phantom {
                id: seen.event_id.clone(),
                event_type: seen.event_type.clone(),
                topic: seen.topic.clone(),
                position: seen.position.map(|p| p.to_string()).unwrap_or_default(),
            });
        }
    }
}

/// A commit time as text, and the time before which rows are taken as published: an hour earlier,
/// for a row's time is that of its insertion.
async fn times(
    connection: &Connection,
    commit_time_us: Option<i64>,
) -> Result<(Option<String>, Option<String>), Failure> {
    let Some(micros) = commit_time_us else {
        return Ok((None, None));
    };
    let sql = "SELECT to_timestamp($1::bigint / 1000000.0)::text, \
               to_timestamp(($1::bigint / 1000.0 - $2::bigint) / 1000.0)::text";
    let rows = connection.rows(sql, &[&micros, &MARGIN_MS]).await?;
    Ok(rows
        .first()
        .map_or((None, None), |row| (row.get(0), row.get(1))))
}

/// A request that was not carried out, and that no stream will show any more.
struct Unanswered {
    id: String,
    text: String,
}

/// Requests whose rows are still there: the relay deletes them when it has carried a request out.
async fn unanswered(connection: &Connection, slot: &str) -> Result<Vec<Unanswered>, Failure> {
    let sql = "SELECT c.request_id::text, format('%s of %s, %s: %s', c.request_id, c.requested_at, c.requested_by, c.reason) \
               FROM outboxd.control c WHERE c.slot = $2 AND EXISTS \
                 (SELECT FROM outboxd.feed_rows f WHERE f.request_id = c.request_id) \
               ORDER BY c.requested_at LIMIT $1";
    let rows = connection.rows(sql, &[&REQUESTS, &slot]).await?;
    let request = |row: &tokio_postgres::Row| Unanswered {
        id: row.get(0),
        text: row.get(1),
    };
    Ok(rows.iter().map(request).collect())
}

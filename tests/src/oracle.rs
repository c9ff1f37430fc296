//! Compares the outbox table with what the topics hold.

use std::collections::HashMap;
use std::fmt;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::reader::{Reader, Seen};
use crate::stage::{Stage, TOPICS};

/// What was found.
#[derive(Debug, Default, Clone)]
pub struct Verdict {
    /// Committed rows.
    pub rows: u64,
    /// Records read.
    pub records: u64,
    /// Rows without a record.
    pub lost: u64,
    /// Records beyond the first of a row.
    pub duplicated: u64,
    /// First occurrences that came after a later one of the same key.
    pub misordered: u64,
    /// Records of rows that are not in the table, for their transaction was rolled back.
    pub aborted_seen: u64,
    /// Some of what is wrong.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Nothing lost, doubled, out of order or out of nothing.
    pub fn is_exact(&self) -> bool {
        self.is_complete() && self.duplicated == 0
    }

    /// As exact, but duplicates are allowed.
    pub fn is_complete(&self) -> bool {
        self.lost == 0 && self.misordered == 0 && self.aborted_seen == 0
    }

    fn note(&mut self, example: String) {
        if self.examples.len() < 10 {
            self.examples.push(example);
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rows={} lost={} duplicated={} misordered={} aborted_seen={}",
            self.rows, self.lost, self.duplicated, self.misordered, self.aborted_seen
        )
    }
}

/// Reads both sides. Call it when the relay has caught up and nobody writes.
pub async fn judge(stage: &Stage) -> Result<Verdict> {
    let reader = Reader::open(&stage.kafka.bootstrap(), &TOPICS)?;
    let mut judge = Judge::default();
    let rows = stage
        .client()
        .await?
        .query("SELECT id::text FROM outbox", &[])
        .await?;
    judge.times_seen = rows.iter().map(|row| (row.get(0), 0)).collect();
    judge.verdict.rows = rows.len() as u64;
    drop(rows);
    let mut failed = None;
    reader.drain(|seen| {
        if let Err(e) = judge.see(&seen) {
            failed.get_or_insert(e);
        }
    })?;
    match failed {
        Some(e) => Err(e),
        None => Ok(judge.finish()),
    }
}

#[derive(Default)]
struct Judge {
    times_seen: HashMap<String, u64>,
    newest: HashMap<String, i64>,
    verdict: Verdict,
}

impl Judge {
    fn see(&mut self, seen: &Seen) -> Result<()> {
        self.verdict.records += 1;
        let place = format!(
            "{}/{}@{} {}",
            seen.topic, seen.partition, seen.offset, seen.event_id
        );
        let Some(times) = self.times_seen.get_mut(&seen.event_id) else {
            self.verdict.aborted_seen += 1;
            self.verdict.note(format!("not in the table: {place}"));
            return Ok(());
        };
        *times += 1;
        if *times > 1 {
            self.verdict.duplicated += 1;
            self.verdict.note(format!("seen again: {place}"));
            return Ok(());
        }
        self.check_order(seen, &place)
    }

    /// Numbers of a key grow; some are missing, where a transaction was rolled back.
    fn check_order(&mut self, seen: &Seen, place: &str) -> Result<()> {
        let envelope: Value = serde_json::from_str(&seen.value)?;
        let Some(n) = envelope["payload"]["n"].as_i64() else {
            return Ok(());
        };
        let key = format!("{} {}", seen.topic, seen.key);
        let newest = self.newest.entry(key).or_insert(-1);
        if n <= *newest {
            self.verdict.misordered += 1;
            self.verdict.note(format!("{n} after {newest}: {place}"));
        }
        *newest = n.max(*newest);
        Ok(())
    }

    fn finish(mut self) -> Verdict {
        let lost: Vec<_> = self
            .times_seen
            .iter()
            .filter(|(_, times)| **times == 0)
            .map(|(id, _)| id)
            .collect();
        self.verdict.lost = lost.len() as u64;
        for id in lost.iter().take(5) {
            self.verdict.examples.push(format!("lost: {id}"));
        }
        self.verdict
    }
}

/// Judges, and fails unless everything arrived exactly once.
pub async fn require_exact(stage: &Stage) -> Result<Verdict> {
    let verdict = judge(stage).await.context("comparing table and topics")?;
    anyhow::ensure!(verdict.is_exact(), "{verdict}: {:?}", verdict.examples);
    Ok(verdict)
}

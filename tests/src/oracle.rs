//! Compares the outbox table with what the topics hold.

use std::collections::{HashMap, HashSet};
use std::fmt;

use anyhow::{Context, Result};
use envelope::is_fed;
use pgoutput::Position;
use serde_json::Value;

use crate::reader::{Reader, Seen};
use crate::stage::{DEAD_LETTERS, Stage, TOPICS, UNROUTABLE};

/// Faults that are described one by one; the rest is only counted.
const EXAMPLES: usize = 10;

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
    /// First occurrences that came after a later one in their partition, or of their key there.
    pub misordered: u64,
    /// Records of rows that are not in the table, for their transaction was rolled back.
    pub aborted_seen: u64,
    /// Rows that can't be published; their records are dead letters.
    pub dead: u64,
    /// Dead letters of rows that can be published, or the other way round.
    pub misrouted: u64,
    /// Some of what is wrong, but for duplicates.
    pub examples: Vec<String>,
    /// Some of the duplicates.
    pub repeats: Vec<String>,
}

impl Verdict {
    /// Nothing lost, doubled, out of order or out of nothing.
    pub fn is_exact(&self) -> bool {
        self.is_complete() && self.duplicated == 0
    }

    /// As exact, but duplicates are allowed.
    pub fn is_complete(&self) -> bool {
        self.lost == 0 && self.misordered == 0 && self.aborted_seen == 0 && self.misrouted == 0
    }

    fn note(&mut self, example: String) {
        if self.examples.len() < EXAMPLES {
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
        )?;
        match (self.dead, self.misrouted) {
            (0, 0) => Ok(()),
            (dead, misrouted) => write!(f, " dead={dead} misrouted={misrouted}"),
        }
    }
}

/// Reads both sides. Call it when the relay has caught up and nobody writes.
pub async fn judge(stage: &Stage) -> Result<Verdict> {
    let client = stage.client().await?;
    let bad = "SELECT id::text FROM outbox WHERE event_type = $1";
    let bad = client.query(bad, &[&UNROUTABLE]).await?;
    let bad: HashSet<String> = bad.iter().map(|row| row.get(0)).collect();
    let mut topics = TOPICS.to_vec();
    if !bad.is_empty() {
        topics.push(DEAD_LETTERS);
    }
    let reader = Reader::open(&stage.bootstrap(), &topics)?;
    let rows = client.query("SELECT id::text FROM outbox", &[]).await?;
    let mut judge = Judge::of(rows.iter().map(|row| row.get(0)), bad);
    drop(rows);
    let mut outcome = Ok(());
    reader.drain(|seen| {
        if outcome.is_ok() {
            outcome = judge.see(&seen);
        }
    })?;
    outcome?;
    let (mut verdict, lost) = judge.finish();
    let sql = "SELECT format('lost: %s seq %s, %s key %s, of transaction %s at %s', \
               id, seq, event_type, transfer_id, xmin, created_at) FROM outbox \
               WHERE id::text = ANY ($1) ORDER BY seq";
    let lost: Vec<&str> = lost.iter().take(EXAMPLES).map(String::as_str).collect();
    for row in client.query(sql, &[&lost]).await? {
        verdict.examples.push(row.get(0));
    }
    Ok(verdict)
}

/// Where the first record of a row stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    partition: i32,
    offset: i64,
}

/// What one partition has shown last, and each key in it.
#[derive(Default)]
struct Order {
    position: Option<Position>,
    numbers: HashMap<String, i64>,
}

#[derive(Default)]
struct Judge {
    /// Ids of rows that can't be published.
    bad: HashSet<String>,
    first: HashMap<String, Option<Place>>,
    orders: HashMap<(String, i32), Order>,
    verdict: Verdict,
}

impl Judge {
    /// Knows the ids of all committed rows.
    fn of(ids: impl Iterator<Item = String>, bad: HashSet<String>) -> Self {
        let first: HashMap<_, _> = ids.map(|id| (id, None)).collect();
        let rows = first.len() as u64;
        let verdict = Verdict {
            rows,
            dead: bad.len() as u64,
            ..Verdict::default()
        };
        Self {
            bad,
            first,
            verdict,
            ..Self::default()
        }
    }

    fn see(&mut self, seen: &Seen) -> Result<()> {
        self.verdict.records += 1;
        let Seen {
            topic,
            partition,
            offset,
            event_id,
            position,
            ..
        } = seen;
        let place = format!("{topic}/{partition}@{offset} {event_id} position {position}");
        if self.bad.contains(event_id) != (topic == DEAD_LETTERS) {
            self.verdict.misrouted += 1;
            self.verdict.note(format!("in the wrong topic: {place}"));
        }
        match self.first.get_mut(event_id) {
            None => {
                self.verdict.aborted_seen += 1;
                self.verdict.note(format!("not in the table: {place}"));
                Ok(())
            }
            Some(Some(first)) => {
                let Place { partition, offset } = *first;
                self.verdict.duplicated += 1;
                if self.verdict.repeats.len() < EXAMPLES {
                    let repeat = format!("seen again: {place}, first at {partition}@{offset}");
                    self.verdict.repeats.push(repeat);
                }
                Ok(())
            }
            Some(first @ None) => {
                *first = Some(Place {
                    partition: *partition,
                    offset: *offset,
                });
                self.check_order(seen, &place)
            }
        }
    }

    /// Positions grow in a partition, numbers in a key; some numbers are missing, where a
    /// transaction was rolled back. Rows of a feed have no place in the stream.
    fn check_order(&mut self, seen: &Seen, place: &str) -> Result<()> {
        let order = self
            .orders
            .entry((seen.topic.clone(), seen.partition))
            .or_default();
        let position: Position = seen.position.parse()?;
        let before = match is_fed(position) {
            true => None,
            false => order.position.replace(position),
        };
        let before = before.filter(|before| *before >= position);
        let number = number(&seen.value)?;
        let newest = order.numbers.entry(seen.key.clone()).or_insert(i64::MIN);
        let overtaken = number.is_some_and(|number| number <= *newest);
        if let Some(before) = before {
            order.position = Some(before);
            self.verdict
                .note(format!("after position {before}: {place}"));
        }
        if overtaken {
            self.verdict.note(format!(
                "number {number:?} of its key after {newest}: {place}"
            ));
        }
        *newest = number.unwrap_or(*newest).max(*newest);
        self.verdict.misordered += u64::from(before.is_some() || overtaken);
        Ok(())
    }

    /// The verdict and the ids of lost rows.
    fn finish(mut self) -> (Verdict, Vec<String>) {
        let lost = self.first.into_iter().filter(|(_, first)| first.is_none());
        let lost: Vec<String> = lost.map(|(id, _)| id).collect();
        self.verdict.lost = lost.len() as u64;
        (self.verdict, lost)
    }
}

/// The number that a writer gave the event of its key.
fn number(envelope: &str) -> Result<Option<i64>> {
    let envelope: Value = serde_json::from_str(envelope)?;
    // The dead letter of a row that has no envelope is its payload.
    let payload = envelope.get("payload").unwrap_or(&envelope);
    Ok(payload["n"].as_i64())
}

/// What the table says of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct States {
    /// Published.
    pub sent: i64,
    /// Dead-lettered.
    pub failed: i64,
    /// Neither, as far as the table knows.
    pub pending: i64,
    /// Published, though they can't be, or the other way round.
    pub wrong: i64,
}

impl fmt::Display for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            failed,
            pending,
            wrong,
        } = self;
        write!(
            f,
            "sent={sent} failed={failed} pending={pending} wrong={wrong}"
        )
    }
}

/// Counts what was written back.
pub async fn states(stage: &Stage) -> Result<States> {
    let sql = "SELECT count(*) FILTER (WHERE state = 'SENT'), \
               count(*) FILTER (WHERE state = 'FAILED'), \
               count(*) FILTER (WHERE state = 'PENDING'), \
               count(*) FILTER (WHERE state <> 'PENDING' AND \
                                (state = 'FAILED') <> (event_type = $1)) FROM outbox";
    let row = stage.client().await?.query_one(sql, &[&UNROUTABLE]).await?;
    Ok(States {
        sent: row.get(0),
        failed: row.get(1),
        pending: row.get(2),
        wrong: row.get(3),
    })
}

/// Judges, and fails unless everything arrived exactly once.
pub async fn require_exact(stage: &Stage) -> Result<Verdict> {
    let verdict = judge(stage).await.context("comparing table and topics")?;
    let Verdict {
        examples, repeats, ..
    } = &verdict;
    anyhow::ensure!(verdict.is_exact(), "{verdict}: {examples:?} {repeats:?}");
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::SystemTime;

    fn seen(id: &str, position: &str, key: &str, n: i64) -> Seen {
        Seen {
            topic: "transfers.settled".into(),
            partition: 0,
            offset: 0,
            key: key.into(),
            value: format!(r#"{{"payload":{{"n":{n}}}}}"#),
            event_id: id.into(),
            position: position.into(),
            replay: None,
            read_at: SystemTime::UNIX_EPOCH,
        }
    }

    /// Lost, duplicated, misordered, aborted_seen.
    fn check(rows: &[&str], records: &[Seen], expected: [u64; 4]) {
        let mut judge = Judge::of(rows.iter().map(|id| (*id).to_owned()), HashSet::new());
        for record in records {
            judge.see(record).unwrap();
        }
        let (verdict, lost) = judge.finish();
        let Verdict {
            duplicated,
            misordered,
            aborted_seen,
            ..
        } = verdict;
        assert_eq!(
            [lost.len() as u64, duplicated, misordered, aborted_seen],
            expected
        );
        assert_eq!(verdict.lost, expected[0]);
    }

    #[test]
    fn rows_that_came_once_and_in_order_are_exact() {
        let records = [
            seen("a", "0/10:0", "k", 1),
            seen("b", "0/10:1", "l", 1),
            seen("c", "0/20:0", "k", 3),
        ];
        check(&["a", "b", "c"], &records, [0, 0, 0, 0]);
    }

    #[test]
    fn rows_without_a_record_are_lost() {
        check(&["a", "b"], &[seen("b", "0/10:0", "k", 1)], [1, 0, 0, 0]);
    }

    #[test]
    fn a_second_record_is_a_duplicate_and_no_matter_of_order() {
        let records = [
            seen("a", "0/10:0", "k", 1),
            seen("b", "0/20:0", "k", 2),
            seen("a", "0/10:0", "k", 1),
        ];
        check(&["a", "b"], &records, [0, 1, 0, 0]);
    }

    #[test]
    fn a_first_record_behind_a_later_position_is_misordered() {
        let records = [
            seen("b", "0/20:0", "k", 1),
            seen("a", "0/10:0", "l", 1),
            seen("c", "0/15:0", "m", 1),
        ];
        check(&["a", "b", "c"], &records, [0, 0, 2, 0]);
    }

    #[test]
    fn a_first_record_behind_a_later_number_of_its_key_is_misordered() {
        let records = [seen("b", "0/10:0", "k", 2), seen("a", "0/20:0", "k", 1)];
        check(&["a", "b"], &records, [0, 0, 1, 0]);
    }

    #[test]
    fn rows_of_a_feed_are_ordered_by_their_numbers_only() {
        let fed = seen("b", "0/0:1", "k", 2);
        check(
            &["a", "b", "c"],
            &[
                seen("a", "0/20:0", "k", 1),
                fed.clone(),
                seen("c", "0/30:0", "k", 3),
            ],
            [0, 0, 0, 0],
        );
        check(
            &["a", "b"],
            &[seen("a", "0/20:0", "k", 3), fed],
            [0, 0, 1, 0],
        );
    }

    #[test]
    fn partitions_have_no_order_between_them() {
        let other = Seen {
            partition: 1,
            ..seen("a", "0/10:0", "k", 1)
        };
        check(
            &["a", "b"],
            &[seen("b", "0/20:0", "k", 2), other],
            [0, 0, 0, 0],
        );
    }

    #[test]
    fn a_record_without_a_row_was_rolled_back() {
        check(
            &["a"],
            &[seen("a", "0/10:0", "k", 1), seen("x", "0/20:0", "k", 2)],
            [0, 0, 0, 1],
        );
    }
}

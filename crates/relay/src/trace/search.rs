//! Where the event's records are looked for.
//!
//! Records stand in their partition in the order of their time: an event of the stream has that of its
//! commit, one that was published again stands where its request was committed. So windows of time
//! around the row and around each request are enough. Only a backfill or a repair can have published
//! it at any time; if nothing is found, everything since the row is read, up to a bound.

use super::records;
use super::story::{Read, Story};
use super::{Step, Ways};
use crate::config::Pipeline;
use crate::failure::Failure;
use crate::feed::Connection;
use crate::requests;
use crate::topics::{self, MARGIN_MS, Open, Scope, Topics};

/// Around a request: only clocks count.
const REQUEST_MARGIN_MS: i64 = 60_000;
/// Without a row or a time nothing tells when to look: so far back.
const UNTOLD_MS: i64 = 24 * 3_600_000;
/// Requests that are looked at, the newest.
const REQUESTS: i64 = 50;

/// From, and up to if not to the end; milliseconds since 1970.
type Window = (Option<i64>, Option<i64>);

/// What is to be read.
#[derive(Debug)]
pub(super) struct Search {
    topics: Vec<String>,
    windows: Vec<Window>,
    /// If nothing is found in the windows.
    rest: Option<Window>,
}

impl Search {
    pub async fn plan(
        pipeline: &Pipeline,
        connection: &Connection,
        ways: &Ways,
        story: &Story,
    ) -> Result<Self, Failure> {
        let topics = match ways.topics.as_slice() {
            [] => told_topics(story),
            named => named.to_vec(),
        };
        let at = story.rows.iter().filter_map(|row| row.at_ms).min();
        let Some(at) = at.filter(|_| ways.since.is_none()) else {
            let from = since(connection, ways).await?;
            return Ok(Self {
                topics,
                windows: vec![(Some(from), None)],
                rest: None,
            });
        };
        let mut windows = vec![around(at, MARGIN_MS)];
        let slot = pipeline.slot_name();
        let asked = requests::times_since(connection, &slot, at, REQUESTS).await?;
        windows.extend(asked.into_iter().map(|at| around(at, REQUEST_MARGIN_MS)));
        Ok(Self {
            topics,
            windows: joined(windows),
            rest: Some((Some(at.saturating_sub(MARGIN_MS)), None)),
        })
    }

    pub async fn run(
        self,
        pipeline: &Pipeline,
        ways: &Ways,
        story: &mut Story,
        tell: &mut impl FnMut(Step),
    ) -> Result<(), Failure> {
        let which = match self.topics.as_slice() {
            [] => Topics::Events,
            named => Topics::Named(named.to_vec()),
        };
        story.read = Read {
            topics: self.topics,
            ..Read::default()
        };
        for window in self.windows {
            read(pipeline, ways, &which, window, story, tell).await?;
        }
        if let Some(rest) = self.rest.filter(|_| story.records.is_empty()) {
            read(pipeline, ways, &which, rest, story, tell).await?;
        }
        story.records.sort_by(|one, next| {
            (&one.at, &one.topic, one.partition, one.offset).cmp(&(
                &next.at,
                &next.topic,
                next.partition,
                next.offset,
            ))
        });
        story.records.dedup_by(|one, next| one.place == next.place);
        if story.read.is_cut {
            story.notes.push(format!(
                "{} records were looked at, and not all that there are: name --topic and --since, or \
                 raise --max-records",
                story.read.records
            ));
        }
        Ok(())
    }
}

async fn read(
    pipeline: &Pipeline,
    ways: &Ways,
    which: &Topics,
    window: Window,
    story: &mut Story,
    tell: &mut impl FnMut(Step),
) -> Result<(), Failure> {
    if story.read.is_cut {
        return Ok(());
    }
    let scope = Scope {
        topics: which.clone(),
        from_ms: window.0,
        until_ms: window.1,
        open: Open::PassedOver,
    };
    story.read.windows.push(window);
    let (id, payloads) = (ways.event_id.clone(), ways.payloads);
    let mut batches = topics::read(pipeline, scope, move |message| {
        records::record(message, &id, payloads)
    });
    while let Some(batch) = batches.recv().await {
        let batch = batch?;
        story.read.records += batch.looked_at;
        story.records.extend(batch.found);
        tell(Step::Records(story.read.records));
        if story.read.records > ways.max_records {
            story.read.is_cut = true;
            break;
        }
    }
    Ok(())
}

/// The topics that rows and dead letters name; none if they name none.
fn told_topics(story: &Story) -> Vec<String> {
    let rows = story.rows.iter().filter_map(|row| row.topic.clone());
    let letters = story.dead_letters.iter().map(|letter| letter.topic.clone());
    let mut topics: Vec<String> = rows
        .chain(letters)
        .filter(|topic| !topic.is_empty())
        .collect();
    topics.sort_unstable();
    topics.dedup();
    topics
}

async fn since(connection: &Connection, ways: &Ways) -> Result<i64, Failure> {
    let sql = "SELECT floor(extract(epoch FROM coalesce($1::text::timestamptz, \
               now() - make_interval(secs => $2::bigint / 1000))) * 1000)::bigint";
    let rows = connection.rows(sql, &[&ways.since, &UNTOLD_MS]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

fn around(at_ms: i64, margin_ms: i64) -> Window {
    let (from, until) = (
        at_ms.saturating_sub(margin_ms),
        at_ms.saturating_add(margin_ms),
    );
    (Some(from), Some(until))
}

/// Windows in order, those that meet made one.
fn joined(mut windows: Vec<Window>) -> Vec<Window> {
    windows.sort_unstable();
    let mut joined: Vec<Window> = Vec::with_capacity(windows.len());
    for window in windows {
        match joined.last_mut() {
            Some(last) if last.1 >= window.0 => last.1 = last.1.max(window.1),
            Some(_) | None => joined.push(window),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_meet_are_read_once() {
        let window = |from, until| (Some(from), Some(until));
        let given = vec![window(50, 60), window(0, 10), window(5, 20), window(20, 30)];
        assert_eq!(joined(given), [window(0, 30), window(50, 60)]);
        assert_eq!(
            joined(vec![window(0, 100), window(10, 20)]),
            [window(0, 100)]
        );
        assert_eq!(joined(vec![]), []);
    }
}

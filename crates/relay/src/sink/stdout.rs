//! The lane that prints events: one JSON line each, for trying outboxd with Postgres alone.

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use envelope::{Record, RecordBatch};
use serde::Serialize;

use super::Report;
use super::lane::{Command, LaneEnd, Next};
use crate::failure::Failure;

const IDLE: Duration = Duration::from_secs(1);

/// A printed event. Key and value are text where they are UTF-8.
#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(&'a str, Option<String>)>,
}

/// The lane's thread.
pub(super) fn run(mut lane: LaneEnd) {
    loop {
        match lane.next(IDLE) {
            Next::Over => return,
            Next::Command(Command::Produce {
                window,
                batch,
                checkpoint: _,
                exceptions: _,
            }) => match print(&batch) {
                Ok(()) => lane.report(Report::Acknowledged { window, batch }),
                Err(e) => {
                    let failure = Failure::caused("internal", "writing to standard output", &e);
                    return lane.report(Report::Failed(failure));
                }
            },
            // Nothing is committed or recorded here.
            Next::Idle | Next::Command(Command::Commit { .. } | Command::Record { .. }) => {}
        }
    }
}

fn print(batch: &RecordBatch) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for record in batch.iter() {
        serde_json::to_writer(&mut out, &line(&record))?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

fn line<'a>(record: &Record<'a>) -> Line<'a> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Line {
        topic: record.topic,
        key: record.key.map(text),
        value: record.value.map(text),
        headers: record
            .headers()
            .map(|(name, value)| (name, value.map(text)))
            .collect(),
    }
}

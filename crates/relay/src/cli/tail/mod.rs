//! `outboxd tail`: follows topics, and shows of each event what it is and how long it took.

mod event;

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use envelope::TopicPattern;
use envelope::rfc3339::parse;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};

use self::event::Event;
use super::problem::Problem;
use super::{Exit, Settings, one_pipeline};
use crate::config::{Pipeline, is_timestamp};
use crate::failure::Failure;
use crate::sink::{Committed, Look};
use crate::topics::Topics;

/// New topics and partitions are looked for so often.
const LOOK_FOR_TOPICS: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct TailArgs {
    #[command(flatten)]
    settings: Settings,
    /// The pipeline, where there are several.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Follow topics of this name, where * stands for any characters; may be repeated. By default all
    /// that routing may use, and the dead-letter topics.
    #[arg(long, value_name = "PATTERN")]
    topic: Vec<TopicPattern>,
    /// Only events of this type.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only events with this transfer id.
    #[arg(long, value_name = "ID")]
    transfer_id: Option<String>,
    /// Only the event with this id.
    #[arg(long, value_name = "ID")]
    event_id: Option<String>,
    /// Where to begin: beginning, end, or records of a time.
    #[arg(long, value_name = "beginning|end|TIMESTAMP", default_value = "end", value_parser = start)]
    from: Start,
    /// End after so many events.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Show payloads, too.
    #[arg(long)]
    payload: bool,
    /// Print one JSON document a line.
    #[arg(long)]
    json: bool,
}

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Start {
    Beginning,
    End,
    At(i64),
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "beginning" => Ok(Start::Beginning),
        "end" => Ok(Start::End),
        time => {
            let wrong =
                || "write beginning, end, or a timestamp as 2026-01-31T10:00:00Z".to_owned();
            let at = is_timestamp(time).then(|| instant_ms(time)).flatten();
            at.map(Start::At).ok_or_else(wrong)
        }
    }
}

/// Milliseconds since 1970.
fn instant_ms(text: &str) -> Option<i64> {
    let midnight = format!("{text} 00:00:00");
    let read = parse(text).or_else(|_| parse(&midnight));
    Some(read.ok()?.unix_micros().div_euclid(1000))
}

pub(super) fn tail(args: &TailArgs) -> Result<(), Exit> {
    let config = args.settings.load()?;
    let pipeline = one_pipeline(&config, args.pipeline.as_deref())?;
    let mut tail = Tail {
        args,
        pipeline,
        followed: Vec::new(),
        shown: 0,
    };
    tail.run().map_err(|failure| {
        Problem::from(failure).report();
        Exit::Failure
    })
}

type Place = (String, i32);

struct Tail<'a> {
    args: &'a TailArgs,
    pipeline: &'a Pipeline,
    followed: Vec<Place>,
    shown: u64,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    More,
    Done,
}

impl Tail<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let attempt = "following the topics".to_owned();
        let seldom = [("fetch.wait.max.ms", "50")];
        let committed = Committed::open(self.pipeline, "outboxd-tail", &seldom, attempt)?;
        self.followed = self.places(&committed)?;
        self.require_topics()?;
        let from = self.starts(&committed)?;
        committed.assign(&from)?;
        let mut looked = Instant::now();
        loop {
            if let Look::Record(message) = committed.look()?
                && self.show(&message) == Next::Done
            {
                return Ok(());
            }
            if looked.elapsed() > LOOK_FOR_TOPICS {
                self.follow_new(&committed)?;
                looked = Instant::now();
            }
        }
    }

    fn require_topics(&self) -> Result<(), Failure> {
        match self.followed.is_empty() {
            true => Err(Failure::new("topic-missing", "there is no topic to follow")),
            false => Ok(()),
        }
    }

    fn places(&self, committed: &Committed) -> Result<Vec<Place>, Failure> {
        let patterns = &self.args.topic;
        committed.partitions(|name| match patterns.as_slice() {
            [] => Topics::All.has(self.pipeline, name),
            patterns => patterns.iter().any(|pattern| pattern.matches(name)),
        })
    }

    fn starts(&self, committed: &Committed) -> Result<TopicPartitionList, Failure> {
        match self.args.from {
            Start::Beginning => committed.list(&self.followed, Offset::Beginning),
            Start::End => committed.list(&self.followed, Offset::End),
            Start::At(millis) => committed.at_time(&self.followed, millis),
        }
    }

    /// What was made since then is followed from its beginning; the others go on where they are.
    fn follow_new(&mut self, committed: &Committed) -> Result<(), Failure> {
        let all = self.places(committed)?;
        let new = all.iter().filter(|place| !self.followed.contains(*place));
        let new: Vec<Place> = new.cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        committed.follow(&committed.list(&new, Offset::Beginning)?)?;
        self.followed.extend(new);
        Ok(())
    }

    fn show(&mut self, message: &BorrowedMessage<'_>) -> Next {
        let Some(event) = Event::read(message) else {
            return Next::More;
        };
        if !event.is_wanted(self.args) {
            return Next::More;
        }
        let payload = self.args.payload.then(|| message.payload());
        let line = match self.args.json {
            true => event.document(payload).to_string(),
            false => event.line(payload),
        };
        // Whoever reads may have had enough.
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            return Next::Done;
        }
        self.shown += 1;
        match self.args.limit {
            Some(limit) if self.shown >= limit => Next::Done,
            Some(_) | None => Next::More,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_begins_where_it_is_told() {
        assert_eq!(start("end").unwrap(), Start::End);
        assert_eq!(start("beginning").unwrap(), Start::Beginning);
        for (text, expected) in [
            ("1970-01-01T00:00:01Z", 1_000),
            ("1970-01-01 00:00:01.5+00", 1_500),
            ("1970-01-02", 86_400_000),
        ] {
            assert_eq!(start(text).unwrap(), Start::At(expected), "{text}");
        }
        assert!(start("yesterday").is_err() && start("2026-13-77").is_err());
    }
}

//! How late consumer groups are, whatever language they are written in.
//!
//! ```text
//!  committed offsets ─┐
//!                     ├─► what is not handled yet ──► lag
//!  ends of partitions ┘            ▲
//!                                  └── the next record, where it is not known: one fetch
//! ```
//!
//! It has a thread and a client of its own and shares nothing with the pipeline but what that shows of
//! itself, so it can't hold up publishing. It joins no group and commits nothing. Only the relay that
//! publishes asks: of two, one would contradict the other.

mod group;
mod partition;
mod round;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::config::{Pipeline, SinkKind};
use crate::failure::Failure;
use crate::sink::kafka;
use crate::telemetry::{State, Vitals};

use group::Group;
use round::Inquiry;

/// Asks on a thread of its own until the pipeline has ended; `None` where there is nothing to ask.
pub fn spawn(pipeline: &Pipeline, vitals: &Arc<Vitals>) -> io::Result<Option<JoinHandle<()>>> {
    if pipeline.consumers.is_empty() || pipeline.sink == SinkKind::Stdout {
        return Ok(None);
    }
    let (pipeline, vitals) = (pipeline.clone(), Arc::clone(vitals));
    let thread = thread::Builder::new()
        .name("consumer-lag".to_owned())
        .spawn(move || run(&pipeline, &vitals));
    thread.map(Some)
}

/// What one round says of each group: the topics that it reads, or what is wrong. Blocks.
///
/// # Errors
/// The brokers do not answer.
pub fn ask_once(pipeline: &Pipeline) -> Result<Vec<Result<Vec<String>, Failure>>, Failure> {
    let mut watch = Watch::new(pipeline);
    let outcomes = watch.ask()?;
    let answer = |(group, outcome): (&Group, Result<(), Failure>)| {
        outcome.map(|()| group.lag().topics.into_keys().collect())
    };
    Ok(watch.groups.iter().zip(outcomes).map(answer).collect())
}

fn run(pipeline: &Pipeline, vitals: &Vitals) {
    let mut watch = None;
    while vitals.state() != State::Ended {
        if vitals.tells_lag() {
            let watch = watch.get_or_insert_with(|| Watch::new(pipeline));
            watch.round();
            let lags = watch.groups.iter().map(Group::lag);
            vitals.consumer_lags().show(lags.collect());
        } else if watch.take().is_some() {
            vitals.consumer_lags().forget();
        }
        thread::sleep(pipeline.consumer_lag.interval);
    }
}

/// Over all rounds while this relay is the one that tells.
struct Watch<'a> {
    pipeline: &'a Pipeline,
    inquiry: Option<Inquiry>,
    groups: Vec<Group>,
}

impl<'a> Watch<'a> {
    fn new(pipeline: &'a Pipeline) -> Self {
        let groups = pipeline.consumers.iter().cloned().map(Group::new);
        Self {
            pipeline,
            inquiry: None,
            groups: groups.collect(),
        }
    }

    fn round(&mut self) {
        let outcomes = self.ask();
        let all_failed = |failure: Failure| {
            let groups = self.groups.iter();
            groups.map(|_| Err(failure.clone())).collect()
        };
        let outcomes: Vec<_> = outcomes.unwrap_or_else(all_failed);
        for (group, outcome) in self.groups.iter_mut().zip(outcomes) {
            group.settle(outcome, &self.pipeline.name);
        }
    }

    fn ask(&mut self) -> Result<Vec<Result<(), Failure>>, Failure> {
        let inquiry = match &mut self.inquiry {
            Some(inquiry) => inquiry,
            none => {
                let reader = kafka::group_reader(self.pipeline)?;
                none.insert(Inquiry::new(reader, self.groups.len()))
            }
        };
        let fetches_max = self.pipeline.consumer_lag.max_fetches;
        inquiry.round(&mut self.groups, fetches_max)
    }
}

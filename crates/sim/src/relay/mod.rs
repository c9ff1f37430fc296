//! A relay process: it takes the steps of the real one, around the same state machine.
//!
//! ```text
//! run ─► session ─► open ──────────────────────────► Driver ◄──► Delivery (production code)
//!                   connect, slot, fence, checkpoint    │ ▲
//!                                                       ▼ │ reports
//!                                                  Lane (a task each) ──► Broker
//! ```
//!
//! Every access to a server stands behind a [`pause`](crate::task::pause), where the process can
//! die, freeze, or be overtaken.

mod asker;
mod bug;
mod client;
mod context;
mod driver;
mod idempotent;
mod lane;
mod ledger;
mod letters;
mod open;
mod outbound;
mod reader;
mod sink;
mod transactional;
mod watcher;
mod write_back;

use std::time::Duration;

use delivery::{Backoff, Halt, Lessons, Refusal, RetryPolicy};

use crate::broker;

pub use bug::Bug;
pub use context::Context;

/// How often a stopped relay looks whether its cause has been repaired.
const RECHECK: Duration = Duration::from_secs(5);
/// How often a standby looks whether the slot is free: up to as seldom as the real one, and more
/// often, so that takeovers meet the old relay at work.
const STANDBY_POLL_MS: u64 = 500;
const RETRY: RetryPolicy = RetryPolicy {
    initial: Duration::from_millis(50),
    max: Duration::from_secs(2),
    multiplier: 2.0,
};

/// Why a session ends.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something outside; the next session may do better.
    Transient(String),
    /// A window was refused for what is in it.
    Refused(Refusal),
    /// Another relay holds the slot.
    Standby,
    /// The pipeline can't go on: something was taken that it needs.
    Halted(Halt),
    /// The same, by facts that another relay has made old since they were read. It passes by
    /// itself.
    Misled(Halt),
}

impl Failure {
    /// A refusal that no later try of the client can change.
    fn refused(
        refusal: broker::Refusal,
        events: Vec<delivery::RefusedEvent>,
        context: &Context,
    ) -> Self {
        match context.with(|world| world.broker.told(refusal)) {
            Some(told) => Self::Refused(Refusal { events, ..told }),
            None => Self::transient(refusal),
        }
    }

    fn transient(what: impl ToString) -> Self {
        Self::Transient(what.to_string())
    }
}

impl From<Halt> for Failure {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::WriteBackBehind => Self::transient(halt),
            halt => Self::Halted(halt),
        }
    }
}

impl From<Failure> for lane::Report {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::Refused(refusal),
            failure => Self::Failed(failure),
        }
    }
}

/// The process: session after session, until SIGTERM.
pub async fn run(context: Context) {
    let mut backoff = Backoff::new(RETRY);
    let mut lessons = None;
    while !context.is_terminating() {
        let Err(failure) = session(&context, &mut backoff, &mut lessons).await else {
            break;
        };
        let wait = pause_after(&context, &failure, &mut backoff);
        context.wait(wait).await;
    }
    context.say(|| "ends".to_owned());
}

async fn session(
    context: &Context,
    backoff: &mut Backoff,
    lessons: &mut Option<Lessons>,
) -> Result<(), Failure> {
    let opening = open::open(context, lessons);
    let Some(opened) = context.unless_terminated(opening).await else {
        return Ok(());
    };
    let mut driver = driver::Driver::new(context, opened?);
    let ended = driver.run().await;
    if driver.has_progressed() {
        backoff.reset();
    }
    *lessons = Some(driver.close(&ended).await);
    ended
}

fn pause_after(context: &Context, failure: &Failure, backoff: &mut Backoff) -> Duration {
    match failure {
        Failure::Refused(_) => {
            let random = context.with(|world| world.dice.number(0..1000)) as f64 / 1000.0;
            backoff.next_wait(random)
        }
        Failure::Transient(what) => {
            context.say(|| format!("session ends: {what}"));
            let random = context.with(|world| world.dice.number(0..1000)) as f64 / 1000.0;
            backoff.next_wait(random)
        }
        Failure::Standby => {
            context.count("standby");
            Duration::from_millis(context.with(|world| world.dice.number(0..STANDBY_POLL_MS)))
        }
        Failure::Halted(halt) => {
            context.say(|| format!("stops: {halt}"));
            context.with(|world| world.stop(halt));
            RECHECK
        }
        Failure::Misled(halt) => {
            context.say(|| format!("stops, misled: {halt}"));
            context.count("misled");
            RECHECK
        }
    }
}

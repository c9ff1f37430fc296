//! Asks the brokers about topics, beside the lanes.

use std::cell::Cell;
use std::rc::Rc;

use delivery::Answer;

use super::Context;
use super::lane::{Report, Reports};
use crate::task::pause;

/// Questions that are under way.
#[derive(Clone, Default)]
pub(super) struct Asker(Rc<Cell<usize>>);

impl Asker {
    /// Asks; the answer is a report, some time.
    pub fn ask(&self, context: &Context, topic: String, reports: &Reports) {
        let (asking, inner, reports) = (self.clone(), context.clone(), reports.clone());
        asking.0.set(asking.0.get() + 1);
        context.spawn(
            None,
            Box::pin(async move {
                let linger = inner.with(|world| world.dice.number(1..8));
                rest(&inner, linger).await;
                let answer = inner.with(|world| {
                    let is_lost = world.befalls(|faults| faults.ask_unanswered, "ask-unanswered");
                    let answer = world.broker.ask(&topic, world.clock.elapsed());
                    answer.ok().filter(|_| !is_lost)
                });
                rest(&inner, linger).await;
                asking.0.set(asking.0.get() - 1);
                let answer = answer.unwrap_or(Answer::Unanswered);
                reports.push(Report::Answered { topic, answer });
            }),
        );
    }

    pub fn is_idle(&self) -> bool {
        self.0.get() == 0
    }
}

async fn rest(context: &Context, linger: u64) {
    pause().await;
    while !context.with(|world| world.dice.one_in(linger)) {
        pause().await;
    }
}

//! Writes outcomes to rows, beside everything else.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use delivery::{Mark, Marks, MarksId, Outcome};

use super::{Bug, Context};
use crate::server::{Condition, RowState};
use crate::task::pause;

#[derive(Default)]
struct Queues {
    submitted: VecDeque<(MarksId, Marks)>,
    done: VecDeque<(MarksId, Marks)>,
    under_way: usize,
}

/// The write-back of one session; ends when dropped.
pub(super) struct WriteBack {
    queues: Rc<RefCell<Queues>>,
    is_wanted: Rc<Cell<bool>>,
}

impl WriteBack {
    pub fn start(context: &Context, timeline: u32) -> Self {
        let (queues, is_wanted) = (Rc::<RefCell<Queues>>::default(), Rc::new(Cell::new(true)));
        let worker = Worker {
            context: context.clone(),
            timeline,
            queues: Rc::clone(&queues),
            is_wanted: Rc::clone(&is_wanted),
        };
        context.spawn(None, Box::pin(worker.run()));
        Self { queues, is_wanted }
    }

    pub fn submit(&self, id: MarksId, marks: Marks) {
        let mut queues = self.queues.borrow_mut();
        queues.under_way += 1;
        queues.submitted.push_back((id, marks));
    }

    /// What has been written next, in the order in which it was submitted.
    pub fn done(&self) -> Option<(MarksId, Marks)> {
        let mut queues = self.queues.borrow_mut();
        let done = queues.done.pop_front()?;
        queues.under_way -= 1;
        Some(done)
    }

    pub fn is_idle(&self) -> bool {
        self.queues.borrow().under_way == 0
    }
}

impl Drop for WriteBack {
    fn drop(&mut self) {
        self.is_wanted.set(false);
    }
}

struct Worker {
    context: Context,
    timeline: u32,
    queues: Rc<RefCell<Queues>>,
    is_wanted: Rc<Cell<bool>>,
}

/// One UPDATE.
struct Statement {
    ids: Vec<String>,
    to: RowState,
    condition: Condition,
}

impl Worker {
    async fn run(self) {
        while self.is_wanted.get() {
            pause().await;
            let taken = std::mem::take(&mut self.queues.borrow_mut().submitted);
            while self.is_wanted.get() && !self.write(&taken).await {
                self.context.count("write-back-repeated");
            }
            self.queues.borrow_mut().done.extend(taken);
        }
    }

    /// `false` if it has to be tried again.
    async fn write(&self, taken: &VecDeque<(MarksId, Marks)>) -> bool {
        let xids = taken.iter().flat_map(|(_, marks)| marks.xids());
        let xids: Vec<_> = xids.copied().collect();
        let sees = |context: &Context| {
            context.with(|world| world.server.sees(&xids, world.clock.elapsed()))
        };
        while !self.context.has(Bug::WritesUnseen) && !sees(&self.context) {
            self.context.count("write-back-waits");
            pause().await;
            if !self.is_wanted.get() {
                return true;
            }
        }
        let marks = taken.iter().flat_map(|(_, marks)| marks.iter());
        for statement in statements(marks) {
            if !self.execute(statement).await {
                return false;
            }
        }
        self.is_received().await
    }

    /// Waits for the standbys that count; `false` if the server is another one meanwhile.
    async fn is_received(&self) -> bool {
        let (context, timeline) = (&self.context, self.timeline);
        let end = context.with(|world| world.server.log_end());
        while self.is_wanted.get() && !context.has(Bug::LeavesStandbysBehind) {
            let (received, now) =
                context.with(|world| (world.server.is_received(end), world.server.timeline()));
            if received && now == timeline {
                return true;
            }
            context.count("write-back-awaits-standby");
            pause().await;
            if now != timeline {
                return false;
            }
        }
        true
    }

    /// Once sent, a statement is carried out whatever becomes of the process.
    async fn execute(&self, statement: Statement) -> bool {
        let answer = Rc::new(Cell::new(None));
        let (answered, context) = (Rc::clone(&answer), self.context.clone());
        let timeline = self.timeline;
        self.context.post(Box::pin(async move {
            while !context.with(|world| world.dice.one_in(6)) {
                pause().await;
            }
            answered.set(Some(context.with(|world| {
                let Statement { ids, to, condition } = &statement;
                let now = world.clock.elapsed();
                let updated = world.server.update(ids, *to, *condition, timeline, now);
                world.say(|| format!("UPDATE to {to:?} of {ids:?}: {updated}"));
                updated && !world.befalls(|faults| faults.update_unanswered, "update-unanswered")
            })));
        }));
        loop {
            pause().await;
            if !self.is_wanted.get() {
                return true;
            }
            if let Some(is_done) = answer.get() {
                return is_done;
            }
        }
    }
}

fn statements<'m>(marks: impl Iterator<Item = Mark<'m>>) -> Vec<Statement> {
    let (mut sent, mut revived, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for mark in marks {
        let group = match mark.outcome {
            Outcome::Sent => &mut sent,
            Outcome::Revived | Outcome::Fed => &mut revived,
            Outcome::Failed { .. } => &mut failed,
        };
        group.push(mark.id.to_owned());
    }
    let all = [
        (sent, RowState::Sent, Condition::Pending),
        (revived, RowState::Sent, Condition::NotSent),
        (failed, RowState::Failed, Condition::Pending),
    ];
    let all = all.into_iter().filter(|(ids, ..)| !ids.is_empty());
    all.map(|(ids, to, condition)| Statement { ids, to, condition })
        .collect()
}

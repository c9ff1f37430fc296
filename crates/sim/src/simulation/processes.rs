//! Relay processes and their tasks.

use super::Simulation;
use crate::relay::{self, Context};
use crate::task::run_to_pause;
use crate::world::{Process, ProcessId, Spawned};

impl Simulation {
    pub(super) fn run_some_task(&mut self) {
        let runnable = self.runnable();
        let Some(index) = self.world.with(|world| world.dice.pick(&runnable)) else {
            return;
        };
        let Some(spawned) = self.tasks.get_mut(index) else {
            return;
        };
        if run_to_pause(&mut spawned.task) {
            let ended = self.tasks.remove(index);
            if ended.is_main {
                self.end_process(ended.owner, 0);
            }
        }
        let spawned = self.world.with(|world| std::mem::take(&mut world.spawned));
        self.tasks.extend(spawned);
    }

    /// Tasks of processes that are not frozen.
    fn runnable(&self) -> Vec<usize> {
        self.world.with(|world| {
            let now = world.clock.elapsed();
            let runs = |spawned: &Spawned| match world.processes.get(&spawned.owner) {
                Some(process) => process.frozen_until.is_none_or(|until| until <= now),
                None => true,
            };
            let tasks = self.tasks.iter().enumerate();
            tasks.filter(|(_, t)| runs(t)).map(|(i, _)| i).collect()
        })
    }

    /// Whatever runs the relay starts another one when none is left.
    pub(super) fn supervise(&mut self) {
        let is_due = self
            .world
            .with(|world| world.processes.is_empty() && world.dice.one_in(10));
        if is_due {
            self.start_process();
        }
    }

    pub(super) fn start_process(&mut self) {
        let id = ProcessId(self.next_process);
        self.next_process += 1;
        let setup = &self.setup;
        let limits = self.world.with(|world| {
            let limits = match id {
                ProcessId(1) => setup.limits,
                _ => setup.limits_of_next(&mut world.dice),
            };
            world.say(|| format!("p{} starts: {limits:?}", id.0));
            world.least_max_bytes = world.least_max_bytes.min(limits.max_bytes);
            let process = Process {
                frozen_until: None,
                terminating: false,
            };
            world.processes.insert(id, process);
            limits
        });
        let context = Context::new(self.world.clone(), id, setup, limits, self.bug);
        self.tasks.push(Spawned {
            owner: id,
            lifeline: None,
            is_main: true,
            task: Box::pin(relay::run(context)),
        });
    }

    /// The process is gone; of its requests, so many may be on the wire.
    pub(super) fn end_process(&mut self, id: ProcessId, on_the_wire: u32) {
        self.world.with(|world| {
            world.say(|| format!("p{} is gone", id.0));
            world.processes.remove(&id);
        });
        let tasks = std::mem::take(&mut self.tasks);
        let (mut dead, mut left): (Vec<_>, Vec<_>) =
            tasks.into_iter().partition(|task| task.owner == id);
        for spawned in &mut dead {
            spawned.owner = ProcessId::NETWORK;
            if let Some(lifeline) = &spawned.lifeline {
                lifeline.die(on_the_wire);
            }
        }
        left.extend(dead.extract_if(.., |spawned| spawned.lifeline.is_some()));
        self.tasks = left;
        // Dropping what is left closes sockets, for which the world must be free.
        drop(dead);
    }
}

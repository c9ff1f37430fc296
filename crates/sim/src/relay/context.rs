//! What a process's tasks know of the process and of the world.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::Bug;
use crate::adversity::Adversity;
use crate::server::{ConnectionId, Gone};
use crate::setup::{Limits, Mode, Setup};
use crate::task::{Task, pause};
use crate::world::{Lifeline, ProcessId, Shared, Spawned, World};

/// One process's view.
#[derive(Clone)]
pub struct Context {
    world: Shared,
    id: ProcessId,
    /// How it writes.
    pub mode: Mode,
    /// Its configuration.
    pub limits: Limits,
    /// And how often it records progress without events.
    pub checkpoint_interval: Duration,
    /// What is wrong with events, and what is done about it.
    pub adversity: Adversity,
    bug: Option<Bug>,
}

impl Context {
    /// Of a process that starts.
    pub fn new(
        world: Shared,
        id: ProcessId,
        setup: &Setup,
        limits: Limits,
        bug: Option<Bug>,
    ) -> Self {
        Self {
            world,
            id,
            mode: setup.mode,
            limits,
            checkpoint_interval: setup.checkpoint_interval,
            adversity: setup.adversity,
            bug,
        }
    }

    /// Looks at the world or changes it, at once.
    pub fn with<R>(&self, act: impl FnOnce(&mut World) -> R) -> R {
        self.world.with(act)
    }

    /// Whether it makes this mistake.
    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether this is every other process: for mistakes that take two of different kinds.
    pub fn is_odd(&self) -> bool {
        self.id.0 % 2 == 1
    }

    /// The process's number.
    pub fn number(&self) -> u64 {
        self.id.0
    }

    /// Opens a connection to Postgres.
    pub fn connect(&self) -> Result<ConnectionId, Gone> {
        self.with(|world| world.server.connect(self.id, &mut world.dice))
    }

    /// What its clock shows.
    pub fn now(&self) -> Instant {
        self.with(|world| world.clock.now())
    }

    /// Time since the start of the run.
    pub fn elapsed(&self) -> Duration {
        self.with(|world| world.clock.elapsed())
    }

    /// Tells what it does.
    pub fn say(&self, line: impl FnOnce() -> String) {
        let id = self.id.0;
        self.with(|world| world.say(|| format!("p{id} {}", line())));
    }

    /// Counts a thing worth knowing.
    pub fn count(&self, what: &'static str) {
        self.with(|world| world.trace.count(what));
    }

    /// SIGTERM has come.
    pub fn is_terminating(&self) -> bool {
        self.with(|world| match world.processes.get(&self.id) {
            Some(process) => process.terminating,
            None => false,
        })
    }

    /// Time passes, unless SIGTERM comes.
    pub async fn wait(&self, time: Duration) {
        let until = self.elapsed() + time;
        while self.elapsed() < until && !self.is_terminating() {
            pause().await;
        }
    }

    /// The future's result; `None` when SIGTERM came first.
    pub async fn unless_terminated<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.unless(|| self.is_terminating().then_some(()), future)
            .await
            .ok()
    }

    /// The future's result, unless `ended` has one first.
    pub async fn unless<T, E>(
        &self,
        mut ended: impl FnMut() -> Option<E>,
        future: impl Future<Output = T>,
    ) -> Result<T, E> {
        let mut future = pin!(future);
        poll_fn(|poll| match ended() {
            Some(end) => Poll::Ready(Err(end)),
            None => future.as_mut().poll(poll).map(Ok),
        })
        .await
    }

    /// Starts a task of this process.
    pub fn spawn(&self, lifeline: Option<Rc<Lifeline>>, task: Task) {
        let owner = self.id;
        self.with(|world| {
            world.spawned.push(Spawned {
                owner,
                is_main: false,
                lifeline,
                task,
            });
        });
    }

    /// Leaves a request to the network, which delivers it whatever becomes of the process.
    pub fn post(&self, task: Task) {
        self.with(|world| {
            world.spawned.push(Spawned {
                owner: ProcessId::NETWORK,
                is_main: false,
                lifeline: None,
                task,
            });
        });
    }
}

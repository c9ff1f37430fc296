//! What the simulated processes share, and nothing else: the servers, time and chance.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use delivery::{Halt, OnDeadLetter};

use crate::adversity::Adversity;
use crate::broker::{Broker, DEAD_LETTER_TOPIC};
use crate::sabotage::{self, Sabotage};
use crate::server::Server;
use crate::setup::{RequestFaults, Setup};
use crate::task::Task;
use crate::trace::Trace;
use crate::wal::Writer;
use crate::{Clock, Dice, Violation};

/// Numbers relay processes; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId(pub u64);

impl ProcessId {
    /// The owner of requests that outlive their process.
    pub const NETWORK: Self = Self(0);
}

/// A living relay process, as its operating system sees it.
#[derive(Debug, Clone)]
pub struct Process {
    /// SIGSTOP until then.
    pub frozen_until: Option<Duration>,
    /// SIGTERM.
    pub terminating: bool,
}

/// What a producer's thread can still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Its session wants it.
    Wanted,
    /// Its session has gone.
    Abandoned,
    /// Its process is dead; that many requests are still on their way to the broker.
    Dead(u32),
}

/// Shared by a producer's thread, its session and the operating system.
#[derive(Debug)]
pub struct Lifeline(Cell<Life>);

impl Lifeline {
    /// Of a producer that is wanted.
    pub fn new() -> Rc<Self> {
        Rc::new(Self(Cell::new(Life::Wanted)))
    }

    /// Where it stands.
    pub fn life(&self) -> Life {
        self.0.get()
    }

    /// The session drops it.
    pub fn abandon(&self) {
        if self.0.get() == Life::Wanted {
            self.0.set(Life::Abandoned);
        }
    }

    /// The process dies with `requests` on the wire.
    pub fn die(&self, requests: u32) {
        self.0.set(Life::Dead(requests));
    }

    /// Whether a request leaves, or has left.
    pub fn sends(&self) -> bool {
        match self.0.get() {
            Life::Wanted | Life::Abandoned => true,
            Life::Dead(0) => false,
            Life::Dead(requests) => {
                self.0.set(Life::Dead(requests - 1));
                true
            }
        }
    }
}

/// A task that waits to be taken up.
pub struct Spawned {
    /// Whose it is.
    pub owner: ProcessId,
    /// The process ends with it.
    pub is_main: bool,
    /// A producer's thread has one.
    pub lifeline: Option<Rc<Lifeline>>,
    /// What it does.
    pub task: Task,
}

/// The world of one run.
pub struct World {
    /// All chance.
    pub dice: Dice,
    /// All time.
    pub clock: Clock,
    /// Postgres.
    pub server: Server,
    /// Kafka.
    pub broker: Broker,
    /// What is wrong with events.
    pub adversity: Adversity,
    /// What is told of it.
    pub trace: Trace,
    /// Living processes.
    pub processes: BTreeMap<ProcessId, Process>,
    /// What goes wrong with requests, at present.
    pub requests: RequestFaults,
    /// New tasks.
    pub spawned: Vec<Spawned>,
    /// The first breach that a process saw itself: bounds on what only it can see.
    pub violation: Option<Violation>,
    /// What was taken from the relay.
    pub sabotage: Option<Sabotage>,
    /// The relay has stopped, for a reason.
    pub has_stopped: bool,
    /// The least `batch.max_bytes` of any process so far.
    pub least_max_bytes: usize,
}

impl World {
    /// Before anything has happened.
    pub fn new(setup: &Setup, dice: Dice, trace: Trace) -> Self {
        let writer = Writer::new(setup.transactions, setup.transfers, setup.adversity);
        Self {
            dice,
            clock: Clock::start(),
            server: Server::new(writer, setup),
            broker: Broker::new(setup.partitions, setup.transaction_timeout),
            adversity: setup.adversity,
            trace,
            processes: BTreeMap::new(),
            requests: setup.requests,
            spawned: Vec::new(),
            violation: None,
            sabotage: None,
            has_stopped: false,
            least_max_bytes: usize::MAX,
        }
    }

    /// Time passes, in which everybody who can acts.
    pub fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        let (now, processes) = (self.clock.elapsed(), &self.processes);
        self.server.pass(time, |owner| {
            // A relay that is told to end publishes what it has, which may take as long as it is
            // configured to.
            processes.get(&owner).is_some_and(|process| {
                !process.terminating && process.frozen_until.is_none_or(|until| until <= now)
            })
        });
    }

    /// Tells what happens.
    pub fn say(&self, line: impl FnOnce() -> String) {
        self.trace.say(self.clock.elapsed(), line);
    }

    /// Whether this happens to a request; counted if it does.
    pub fn befalls(&mut self, share: fn(&RequestFaults) -> u64, what: &'static str) -> bool {
        let befalls = self.dice.per_mille(share(&self.requests));
        if befalls {
            self.trace.count(what);
        }
        befalls
    }

    /// A relay stops and asks for a person: as it must after a gap, and never else.
    pub fn stop(&mut self, halt: &Halt) {
        match self.sabotage {
            Some(sabotage) if sabotage::explains(self, halt) => {
                self.trace.count(sabotage.stop_name());
                self.has_stopped = true;
            }
            Some(_) | None if self.passes(halt) => self.trace.count("stopped-for-a-while"),
            Some(_) | None => self.violate(Violation::Stopped(halt.to_string())),
        }
    }

    /// Whether the cause of a stop is one that is repaired in calm at the latest.
    fn passes(&self, halt: &Halt) -> bool {
        match halt {
            Halt::Refused { .. } => {
                self.adversity.on_dead_letter == OnDeadLetter::Halt && self.adversity.fragile_topics
            }
            Halt::DeadLetterTopic { .. } => self.broker.was_unusable(DEAD_LETTER_TOPIC),
            Halt::DeadLetterSurge { .. } => self.adversity.dead_letters_per_minute < 1_000,
            _ => false,
        }
    }

    /// A contract is broken; the first breach counts.
    pub fn violate(&mut self, violation: Violation) {
        self.say(|| format!("VIOLATION {violation}"));
        self.violation.get_or_insert(violation);
    }
}

/// The world, as tasks hold it. No task keeps it over a pause.
#[derive(Clone)]
pub struct Shared(Rc<RefCell<World>>);

impl Shared {
    /// The only world of a run.
    pub fn new(world: World) -> Self {
        Self(Rc::new(RefCell::new(world)))
    }

    /// Looks at it or changes it.
    pub fn with<R>(&self, act: impl FnOnce(&mut World) -> R) -> R {
        act(&mut self.0.borrow_mut())
    }
}

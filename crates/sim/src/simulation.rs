//! One run: who acts next, what goes wrong, and when it is over.

mod processes;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::faults::{Aftermath, strike};
use crate::oracle::Oracle;
use crate::relay::Bug;
use crate::sabotage::{self, Sabotage};
use crate::setup::{RequestFaults, Setup};

use crate::trace::Trace;
use crate::world::{Shared, Spawned, World};
use crate::{Dice, Violation};

/// Steps in calm, after which everything must have arrived.
const CALM_STEPS: u64 = 300_000;
/// Steps after a stop, in which nothing may be skipped after all.
const STOPPED_STEPS: u64 = 4_000;
/// Requests that a dying process may have on the wire.
const MOST_ON_THE_WIRE: u64 = 4;

/// How to run a seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Print what happens.
    pub trace: bool,
    /// A mistake for the relay to make.
    pub bug: Option<Bug>,
    /// What is taken from the relay, whatever the seed says.
    pub sabotage: Option<Sabotage>,
}

/// What a run has shown.
#[derive(Debug)]
pub struct Outcome {
    /// The run.
    pub seed: u64,
    /// What went wrong, if anything did.
    pub violation: Option<Violation>,
    /// Committed events.
    pub events: usize,
    /// Steps taken.
    pub steps: u64,
    /// How often each thing happened.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Runs a seed: the same seed and options always do the same.
pub fn run(seed: u64, options: Options) -> Outcome {
    let mut dice = Dice::new(seed);
    let mut setup = Setup::draw(&mut dice);
    if let Some(sabotage) = options.sabotage {
        setup.sabotage = Some((sabotage, setup.trouble_steps / 2));
    }
    let mut trace = Trace::new(options.trace);
    trace.say(Duration::ZERO, || format!("{setup:#?}"));
    trace.count(setup.mode.name());
    let world = World::new(&setup, dice, trace);
    let mut simulation = Simulation {
        oracle: Oracle::new(setup.mode, setup.adversity),
        setup,
        bug: options.bug,
        world: Shared::new(world),
        tasks: Vec::new(),
        next_process: 1,
        steps: 0,
        is_calm: false,
    };
    let played = catch_unwind(AssertUnwindSafe(|| simulation.play()));
    let violation = match played {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(violation),
        Err(panic) => Some(Violation::Panicked(panic_message(&*panic))),
    };
    Outcome {
        seed,
        violation,
        events: simulation.oracle.events(),
        steps: simulation.steps,
        counts: simulation.world.with(|world| world.trace.counts().clone()),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".to_owned())
}

struct Simulation {
    setup: Setup,
    bug: Option<Bug>,
    world: Shared,
    oracle: Oracle,
    tasks: Vec<Spawned>,
    next_process: u64,
    steps: u64,
    is_calm: bool,
}

impl Simulation {
    fn play(&mut self) -> Result<(), Violation> {
        self.start_process();
        while self.steps < self.setup.trouble_steps && !self.has_stopped() {
            self.maybe_sabotage();
            self.maybe_strike();
            self.observe()?;
            self.step()?;
        }
        self.keep_calm();
        let end = self.steps + CALM_STEPS;
        while !self.is_over() {
            if self.steps >= end {
                return Err(self.stuck());
            }
            self.step()?;
        }
        if self.has_stopped() {
            let end = self.steps + STOPPED_STEPS;
            while self.steps < end {
                self.step()?;
            }
        }
        let (oracle, world) = (&self.oracle, &self.world);
        world.with(|world| oracle.judge(world))
    }

    fn has_stopped(&self) -> bool {
        self.world.with(|world| world.has_stopped)
    }

    fn stuck(&self) -> Violation {
        let gap = self.world.with(|world| {
            let demands = sabotage::demands_a_stop(world);
            world.sabotage.filter(|_| demands)
        });
        match gap {
            Some(sabotage) => Violation::GapIgnored(sabotage.name()),
            None => Violation::Stuck(self.state()),
        }
    }

    /// What the seed takes from the relay, once it can.
    fn maybe_sabotage(&mut self) {
        let Some((sabotage, from)) = self.setup.sabotage else {
            return;
        };
        if self.steps >= from {
            self.world.with(|world| {
                if world.sabotage.is_none() && world.dice.one_in(10) {
                    sabotage::strike(sabotage, world);
                }
            });
        }
    }

    /// Somebody acts.
    fn step(&mut self) -> Result<(), Violation> {
        self.steps += 1;
        let actor = self.world.with(|world| {
            let mut time = Duration::from_micros(world.dice.number(0..4_000));
            if world.dice.one_in(100) {
                time += Duration::from_millis(world.dice.number(0..400));
            }
            world.pass(time);
            world.dice.weighted(&[60, 6, 25, 9])
        });
        match actor {
            0 => self.run_some_task(),
            1 => self.world.with(|world| {
                let (clock, dice) = (world.clock, &mut world.dice);
                world.server.write(&clock, dice);
            }),
            2 => self.world.with(|world| world.server.step(&mut world.dice)),
            _ => self.world.with(|world| {
                let now = world.clock.elapsed();
                if let Some(what) = world.broker.step(now, &mut world.dice) {
                    world.trace.count(what);
                }
            }),
        }
        self.supervise();
        self.observe()
    }

    fn observe(&mut self) -> Result<(), Violation> {
        let (oracle, world) = (&mut self.oracle, &self.world);
        world.with(|world| {
            oracle.observe(&world.server, &world.broker, world.clock.elapsed())?;
            world.violation.take().map_or(Ok(()), Err)
        })
    }

    fn maybe_strike(&mut self) {
        let every = self.setup.fault_every;
        let faults = &self.setup.faults;
        let aftermath = self.world.with(|world| {
            if !world.dice.one_in(every) {
                return Aftermath::Done;
            }
            let weights: Vec<_> = faults.iter().map(|(_, weight)| *weight).collect();
            match faults.get(world.dice.weighted(&weights)) {
                Some((fault, weight)) if *weight > 0 => strike(*fault, world),
                Some(_) | None => Aftermath::Done,
            }
        });
        match aftermath {
            Aftermath::Done => {}
            Aftermath::Kill(id) => {
                let on_the_wire = self
                    .world
                    .with(|world| world.dice.number(0..MOST_ON_THE_WIRE));
                self.end_process(id, on_the_wire as u32);
            }
            Aftermath::Start => self.start_process(),
        }
    }

    fn keep_calm(&mut self) {
        self.is_calm = true;
        self.oracle.keep_calm(self.setup.checkpoint_interval);
        self.world.with(|world| {
            world.say(|| "calm".to_owned());
            world.requests = RequestFaults::default();
            world.broker.come_up();
            world.broker.repair();
            world.server.block_updates(Duration::ZERO);
            world.server.restart(&mut world.dice);
            for process in world.processes.values_mut() {
                process.frozen_until = None;
            }
        });
    }

    fn is_over(&self) -> bool {
        let (oracle, world) = (&self.oracle, &self.world);
        self.is_calm
            && world.with(|world| {
                if world.has_stopped || sabotage::demands_a_stop(world) {
                    return world.has_stopped;
                }
                world.server.is_written()
                    && world.server.confirmed() == Some(world.server.history.end())
                    && oracle.is_complete()
                    && oracle.is_answered()
                    && world.broker.is_settled()
            })
    }

    fn state(&self) -> String {
        let (oracle, world) = (&self.oracle, &self.world);
        world.with(|world| {
            format!(
                "written {}, WAL end {}, confirmed {:?}, complete {}, settled {}",
                world.server.is_written(),
                world.server.history.end(),
                world.server.confirmed(),
                oracle.is_complete(),
                world.broker.is_settled(),
            )
        })
    }
}

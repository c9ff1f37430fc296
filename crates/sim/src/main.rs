//! `sim`: runs seeds. See the library for what a seed does.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use clap::Parser;
use sim::{Bug, Options, Outcome, Sabotage, run};

/// Runs the delivery code in simulation.
#[derive(Parser)]
#[command(name = "sim")]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Run this seed only.
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    seed: Option<u64>,
    /// Print what happens; with --seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Seeds at the same time.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Let the relay make a mistake, by name.
    #[arg(long, value_parser = bug)]
    bug: Option<Bug>,
    /// Take something from the relay in every run, by name.
    #[arg(long, value_parser = sabotage)]
    sabotage: Option<Sabotage>,
    /// Plant each bug in turn, and look whether it is caught within the seeds.
    #[arg(long, conflicts_with_all = ["seed", "bug", "counts"])]
    mutants: bool,
    /// Print how often each thing happened.
    #[arg(long)]
    counts: bool,
}

fn bug(name: &str) -> Result<Bug, String> {
    Bug::named(name).ok_or_else(|| {
        let names: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        format!("it is one of {}", names.join(", "))
    })
}

fn sabotage(name: &str) -> Result<Sabotage, String> {
    Sabotage::named(name).ok_or_else(|| {
        let names: Vec<_> = Sabotage::ALL
            .iter()
            .map(|sabotage| sabotage.name())
            .collect();
        format!("it is one of {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (start, seeds) = match arguments.seed {
        Some(seed) => (seed, 1),
        None => (arguments.start, arguments.seeds),
    };
    if arguments.mutants {
        return mutants(start, seeds);
    }
    let options = Options {
        trace: arguments.trace,
        bug: arguments.bug,
        sabotage: arguments.sabotage,
    };
    let outcomes = play(start, seeds, arguments.threads, options);
    let failed = outcomes.iter().filter(|o| o.violation.is_some()).count();
    if arguments.counts {
        print_counts(&outcomes);
    }
    println!("sim: seeds={seeds} failed={failed}");
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Each bug must be caught.
fn mutants(start: u64, seeds: u64) -> ExitCode {
    let mut caught = 0;
    for bug in Bug::ALL {
        let options = Options {
            bug: Some(bug),
            ..Options::default()
        };
        let mut outcomes = (start..start + seeds).map(|seed| run(seed, options));
        match outcomes.find(|outcome| outcome.violation.is_some()) {
            Some(outcome) => {
                caught += 1;
                report(&outcome, options);
            }
            None => println!("{}: not caught in {seeds} seeds", bug.name()),
        }
    }
    let planted = Bug::ALL.len();
    println!("mutants: planted={planted} caught={caught}");
    if caught == planted {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Each thread takes the next seed until none is left.
fn play(start: u64, seeds: u64, threads: usize, options: Options) -> Vec<Outcome> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= seeds {
                return outcomes;
            }
            let outcome = run(start.wrapping_add(index), options);
            report(&outcome, options);
            outcomes.push(outcome);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().filter_map(|worker| worker.join().ok());
        joined.flatten().collect()
    })
}

fn report(outcome: &Outcome, options: Options) {
    let Some(violation) = &outcome.violation else {
        return;
    };
    let seed = outcome.seed;
    match (options.bug, options.sabotage) {
        (Some(bug), _) => println!("{}: seed {seed}: {violation}", bug.name()),
        (None, Some(sabotage)) => {
            let replay = format!("sim --seed {seed} --trace --sabotage {}", sabotage.name());
            println!("seed {seed}: {violation}; replay: {replay}");
        }
        (None, None) => println!("seed {seed}: {violation}; replay: make sim SEED={seed}"),
    }
}

fn print_counts(outcomes: &[Outcome]) {
    let mut total = std::collections::BTreeMap::new();
    for outcome in outcomes {
        for (what, count) in &outcome.counts {
            *total.entry(*what).or_insert(0_u64) += count;
        }
    }
    let events: usize = outcomes.iter().map(|o| o.events).sum();
    let steps: u64 = outcomes.iter().map(|o| o.steps).sum();
    println!("events {events}\nsteps {steps}");
    for (what, count) in total {
        println!("{what} {count}");
    }
}

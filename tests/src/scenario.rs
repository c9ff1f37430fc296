//! Named end-to-end checks.

use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::{evidence, scenarios, wait};

/// The figures that a scenario shows.
#[derive(Debug, Default)]
pub struct Figures(String);

impl Figures {
    /// Adds `name=value`.
    pub fn add(&mut self, name: &str, value: impl fmt::Display) {
        // Writing to a string can't fail.
        let _ = write!(self.0, " {name}={value}");
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What running a scenario gives.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// When a scenario runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// In `make test`, one after the other: some have bounds on time.
    Short,
    /// In `make test`, several at the same time: faults that are mostly waited for.
    Proof,
    /// By itself, on a machine with nothing else to do: it measures, or takes long.
    Alone,
}

/// A named check on real servers.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// When it runs.
    pub group: Group,
    /// It fails after this time, on a machine with nothing else to do.
    pub within: Duration,
    /// The check itself.
    pub run: for<'a> fn(&'a mut Figures) -> Running<'a>,
}

/// Runs one scenario and prints its line; whether it passed.
pub async fn run(scenario: &Scenario) -> bool {
    let mut figures = Figures::default();
    let began = Instant::now();
    let running = unpanicked((scenario.run)(&mut figures));
    let within = scenario.within * wait::patience();
    let outcome = tokio::time::timeout(within, running).await;
    figures.add("took_s", began.elapsed().as_secs());
    let name = scenario.name;
    match outcome {
        Ok(Ok(())) => println!("{name}: ok{figures}"),
        Ok(Err(ref e)) => println!("{name}: FAILED {}{figures}", one_line(&format!("{e:#}"))),
        Err(_) => println!("{name}: FAILED not within {within:?}{figures}"),
    }
    let passed = matches!(outcome, Ok(Ok(())));
    evidence::settle(!passed);
    passed
}

/// A panic is a failure like others: the verdict's line and the next scenario come all the same.
async fn unpanicked(mut running: Running<'_>) -> Result<()> {
    std::future::poll_fn(move |context| {
        let polled = catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            std::task::Poll::Ready(Err(anyhow!("panic: {}", text.unwrap_or_default())))
        })
    })
    .await
}

/// The causes first, then the logs: the last line of a run is the verdict.
fn one_line(message: &str) -> String {
    let mut lines = message.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        eprintln!("{line}");
    }
    first
}

/// The scenario of this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    scenarios::ALL.iter().find(|scenario| scenario.name == name)
}

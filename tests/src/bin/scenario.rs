//! `make scenario NAME=…`, `make scenarios`.

use std::cmp::Reverse;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;

use scenarios::scenario::{self, Group, Scenario};
use scenarios::scenarios::ALL;
use scenarios::wait;

#[tokio::main]
async fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    match argument.as_str() {
        "--all" => run_all(ALL.iter()).await,
        "--short" => run_all(ALL.iter().filter(|scenario| scenario.group == Group::Short)).await,
        "--proof" => run_beside_each_other(Group::Proof),
        "" | "--list" => {
            for Scenario { name, about, .. } in ALL {
                println!("{name:<18} {about}");
            }
            ExitCode::SUCCESS
        }
        name => match scenario::find(name) {
            Some(scenario) => run_all(std::iter::once(scenario)).await,
            None => {
                eprintln!("no scenario is named {name}; --list lists them");
                ExitCode::from(2)
            }
        },
    }
}

/// How many servers a machine of two cores can start and stop at the same time.
const BESIDE_EACH_OTHER: usize = 4;

/// Each in a process of its own, for logs and panics are the process's.
fn run_beside_each_other(group: Group) -> ExitCode {
    let mut waiting: Vec<_> = ALL.iter().filter(|s| s.group == group).collect();
    // The last ones have nothing beside them.
    waiting.sort_by_key(|scenario| Reverse(scenario.within));
    let count = waiting.len();
    let waiting = Mutex::new(waiting.into_iter());
    let failed: usize = std::thread::scope(|scope| {
        let worker = || {
            let mut failed = 0;
            loop {
                let next = waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .next();
                let Some(scenario) = next else {
                    return failed;
                };
                failed += usize::from(!run_apart(scenario.name));
            }
        };
        let workers: Vec<_> = (0..BESIDE_EACH_OTHER)
            .map(|_| scope.spawn(worker))
            .collect();
        workers.into_iter().map(|w| w.join().unwrap_or(1)).sum()
    });
    println!("scenarios: {} passed, {failed} failed", count - failed);
    ExitCode::from(u8::from(failed > 0))
}

/// Runs one scenario and prints its verdict; what it says beside that, if it failed.
fn run_apart(name: &str) -> bool {
    let run = || {
        let own = std::env::current_exe()?;
        let mut command = Command::new(own);
        command.env(wait::BESIDE_EACH_OTHER, BESIDE_EACH_OTHER.to_string());
        command.arg(name).stdin(Stdio::null()).output()
    };
    let output = match run() {
        Ok(output) => output,
        Err(e) => {
            println!("{name}: FAILED to start: {e}");
            return false;
        }
    };
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
    }
    print!("{}", String::from_utf8_lossy(&output.stdout));
    output.status.success()
}

async fn run_all(scenarios: impl Iterator<Item = &Scenario>) -> ExitCode {
    let (mut passed, mut failed) = (0, 0);
    for scenario in scenarios {
        match scenario::run(scenario).await {
            true => passed += 1,
            false => failed += 1,
        }
    }
    if passed + failed > 1 {
        println!("scenarios: {passed} passed, {failed} failed");
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

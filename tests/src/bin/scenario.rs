//! `make scenario NAME=…`, `make scenarios`.

use std::process::ExitCode;

use scenarios::scenario::{self, Scenario};
use scenarios::scenarios::ALL;

#[tokio::main]
async fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    match argument.as_str() {
        "--all" => run_all(ALL.iter()).await,
        "--short" => run_all(ALL.iter().filter(|scenario| scenario.short)).await,
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

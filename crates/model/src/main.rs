//! Explores the protocol, and the protocol without each of its rules: `make model`.

use std::process::ExitCode;

use clap::Parser;
use model::{Bounds, Budget, Protocol, Rule, Scenario, Wal};

/// Explores the protocol exhaustively. Without flags: the deep scenarios and every broken rule.
#[derive(Parser)]
struct Arguments {
    /// Rows of each source transaction, for example 1,2,1: explores these bounds only.
    #[arg(long, value_delimiter = ',')]
    rows: Option<Vec<u8>>,
    /// Rows that fill a window.
    #[arg(long, default_value_t = 1)]
    window: u8,
    /// Producers of the two relays.
    #[arg(long, value_delimiter = ',', default_value = "1,1")]
    rings: Vec<u8>,
    /// Deaths of a relay.
    #[arg(long, default_value_t = 0)]
    crashes: u8,
    /// Lost connections.
    #[arg(long, default_value_t = 0)]
    disconnects: u8,
    /// Crashes of the database server.
    #[arg(long, default_value_t = 0)]
    server_crashes: u8,
    /// Requests to Kafka without an answer.
    #[arg(long, default_value_t = 0)]
    unanswered: u8,
    /// Kafka transactions that time out though their producer lives.
    #[arg(long, default_value_t = 0)]
    expiries: u8,
    /// Keepalives.
    #[arg(long, default_value_t = 0)]
    keepalives: u8,
    /// Commit requests that arrive twice (beyond what the protocol stands).
    #[arg(long, default_value_t = 0)]
    duplicates: u8,
    /// The scenarios of the tests instead of the deep ones.
    #[arg(long)]
    quick: bool,
}

impl Arguments {
    fn scenarios(&self) -> Vec<Scenario> {
        let Some(rows) = &self.rows else {
            return if self.quick {
                model::quick()
            } else {
                model::deep()
            };
        };
        let ring = |relay: usize| self.rings.get(relay).copied().unwrap_or(1).clamp(1, 2);
        vec![Scenario {
            name: "as asked",
            bounds: Bounds {
                wal: Wal::new(rows),
                window_rows: self.window.max(1),
                rings: [ring(0), ring(1)],
                budget: self.budget(),
            },
        }]
    }

    fn budget(&self) -> Budget {
        Budget {
            crashes: self.crashes,
            disconnects: self.disconnects,
            server_crashes: self.server_crashes,
            unanswered: self.unanswered,
            expiries: self.expiries,
            keepalives: self.keepalives,
            duplicates: self.duplicates,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (mut states, mut depth, mut holds) = (0, 0, true);
    for scenario in arguments.scenarios() {
        let outcome = model::explore(&Protocol::new(scenario.bounds));
        println!(
            "{}: states={} depth={} violations={}",
            scenario.name,
            outcome.states,
            outcome.depth,
            outcome.violations.len()
        );
        for violation in &outcome.violations {
            print!("{violation}");
        }
        for name in &outcome.unreached {
            println!("never reached: {name}");
        }
        holds &= outcome.violations.is_empty() && outcome.unreached.is_empty();
        states += outcome.states;
        depth = depth.max(outcome.depth);
    }
    let caught = Rule::ALL
        .into_iter()
        .filter(|rule| is_caught(*rule))
        .count();
    let rules = Rule::ALL.len();
    println!("model: states={states} depth={depth} broken_rules={rules} caught={caught}");
    match holds && caught == rules {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn is_caught(rule: Rule) -> bool {
    let bounds = model::counterexample_bounds(rule);
    let outcome = model::explore(&Protocol::without(rule, bounds));
    let shortest = outcome.violations.iter().min_by_key(|v| v.path.len());
    match shortest {
        Some(found) => println!("without {rule:?}: {found}"),
        None => println!(
            "without {rule:?}: nothing found in {} states",
            outcome.states
        ),
    }
    shortest.is_some()
}

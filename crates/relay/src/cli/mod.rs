//! The command line.

mod exit;
mod run;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, Overrides};
use crate::failure::CODES;

pub use exit::Exit;

/// Relays a Postgres transactional outbox to Kafka from the WAL, exactly once.
#[derive(Parser)]
#[command(name = "outboxd", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Stream events until SIGTERM.
    Run(run::RunArgs),
    /// Check or print the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Say what an error code means and what to do.
    Explain {
        /// The code, such as slot-ahead. Without one, all are listed.
        code: Option<String>,
    },
    /// Print the version.
    Version,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Report everything that is wrong with it.
    Check(Settings),
    /// Print what is in effect, secrets redacted.
    Print(Settings),
}

/// Where the configuration comes from; flags win over the environment, that over the file.
#[derive(Args, Clone, Default)]
pub(crate) struct Settings {
    /// TOML file; also OUTBOXD_CONFIG.
    #[arg(long, short, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Connection URL of the database, such as postgres://user@host/database. Better give the
    /// password in PGPASSWORD or a file, where others can't see it.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Kafka brokers.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// exactly-once or at-least-once.
    #[arg(long)]
    mode: Option<String>,
    /// kafka, or stdout to print events without recording anything.
    #[arg(long)]
    sink: Option<String>,
    /// Transactional producers in the ring.
    #[arg(long)]
    concurrency: Option<String>,
    /// Replication slot.
    #[arg(long)]
    slot: Option<String>,
    /// Publication.
    #[arg(long)]
    publication: Option<String>,
    /// Address of the admin endpoints.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
    /// json or text.
    #[arg(long)]
    log_format: Option<String>,
    /// error, warn, info, debug, trace, or target=level pairs.
    #[arg(long)]
    log_level: Option<String>,
    /// Log a line per event.
    #[arg(long)]
    log_events: bool,
}

impl Settings {
    fn load(&self) -> Result<Config, Exit> {
        let overrides = Overrides {
            config: self.config.clone(),
            postgres: self.postgres.clone(),
            kafka: self.kafka.clone(),
            mode: self.mode.clone(),
            sink: self.sink.clone(),
            concurrency: self.concurrency.clone(),
            slot: self.slot.clone(),
            publication: self.publication.clone(),
            admin_listen: self.admin_listen.clone(),
            log_format: self.log_format.clone(),
            log_level: self.log_level.clone(),
            log_events: self.log_events.then_some(true),
        };
        config::load_from_process(&overrides).map_err(|errors| {
            eprintln!("{errors}");
            Exit::Config
        })
    }
}

/// Runs the command line; returns the exit code.
pub fn main() -> Exit {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Config {
            command: ConfigCommand::Check(settings),
        } => check(&settings),
        Command::Config {
            command: ConfigCommand::Print(settings),
        } => print(&settings),
        Command::Explain { code } => explain(code.as_deref()),
        Command::Version => {
            println!("outboxd {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    };
    outcome.err().unwrap_or(Exit::Success)
}

fn check(settings: &Settings) -> Result<(), Exit> {
    let config = settings.load()?;
    println!(
        "the configuration is valid: {} pipeline(s)",
        config.pipelines.len()
    );
    Ok(())
}

fn print(settings: &Settings) -> Result<(), Exit> {
    print!("{}", config::print(&settings.load()?));
    Ok(())
}

fn explain(code: Option<&str>) -> Result<(), Exit> {
    let Some(name) = code else {
        for code in CODES {
            println!("{:<24} {}", code.name, code.cause);
        }
        return Ok(());
    };
    match crate::failure::find(name) {
        Some(code) => {
            println!(
                "{}\n\nCause:  {}\nRemedy: {}",
                code.name, code.cause, code.remedy
            );
            Ok(())
        }
        None => {
            eprintln!("outboxd: no error code is named {name:?}; `outboxd explain` lists them all");
            Err(Exit::Usage)
        }
    }
}

//! The command line.

mod acl;
mod admin_client;
mod audit;
mod cluster;
mod database;
mod dlq;
mod doctor;
mod exit;
mod init;
mod keys;
mod out;
mod problem;
mod progress;
mod prune;
mod repair;
mod replay;
mod requests;
mod routing;
mod run;
mod running;
mod shell;
mod status;
mod tail;
mod trace;
mod wait;

use clap::{Args, Parser, Subcommand};

use self::problem::Problem;
use crate::cli::out::say;
use crate::config::{self, Config, ConfigErrors, Overrides, Pipeline};
use crate::decryption;
use crate::failure::CODES;
use crate::sink::kafka;

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
    /// Show what the database and Kafka lack, or create it.
    Init(init::InitArgs),
    /// Check whether events can flow, and say how to repair what is in their way.
    Doctor(doctor::DoctorArgs),
    /// Stream events until SIGTERM.
    Run(run::RunArgs),
    /// Show how a running relay is doing.
    Status(status::StatusArgs),
    /// Show what a lost slot or checkpoint has left unpublished; publish it with --apply.
    Repair(repair::RepairArgs),
    /// Publish events again, on purpose.
    Replay(replay::ReplayArgs),
    /// Look at dead letters; publish them, release their keys, or drop them.
    Dlq(dlq::DlqArgs),
    /// Follow topics, and show what each event is and how long it took.
    Tail(tail::TailArgs),
    /// Tell the whole life of one event.
    Trace(trace::TraceArgs),
    /// Compare tables and topics, and list what is missing, doubled or altered.
    Audit(audit::AuditArgs),
    /// Remove published rows that are old enough, once.
    Prune(prune::PruneArgs),
    /// Show who must be allowed what in Kafka; create it with --apply, look for more with --check.
    Acl(acl::AclArgs),
    /// Make, rotate and check the keyrings that payloads are encrypted with.
    Keys(keys::KeysArgs),
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
    /// Wait until every event that is committed now is durable in Kafka.
    Wait(wait::WaitArgs),
    /// Print a script that completes commands and flags in a shell.
    Completions(shell::CompletionsArgs),
    /// Print the manual page, or write those of all commands to a folder.
    Man(shell::ManArgs),
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
    /// The valid configuration; what is wrong with it is told on standard error.
    fn load(&self) -> Result<Config, Exit> {
        let config = self.parse().map_err(|errors| {
            eprintln!("{errors}");
            Exit::Config
        })?;
        check_properties(&config).map_err(|problem| {
            problem.report();
            Exit::Config
        })?;
        Ok(config)
    }

    /// The valid configuration, or what is wrong with it.
    fn read(&self) -> Result<Config, Problem> {
        let config = self.parse().map_err(|errors| Problem::from(&errors))?;
        check_properties(&config)?;
        Ok(config)
    }

    fn parse(&self) -> Result<Config, ConfigErrors> {
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
        config::load_from_process(&overrides)
    }
}

/// The pipeline that a command is for: the one of that name, or the only one.
fn one_pipeline<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a Pipeline, Exit> {
    let named = |p: &&Pipeline| name.is_none_or(|name| p.name == name);
    let mut found = config.pipelines.iter().filter(named);
    if let (Some(pipeline), None) = (found.next(), found.next()) {
        return Ok(pipeline);
    }
    let names: Vec<_> = config.pipelines.iter().map(|p| p.name.as_str()).collect();
    let message = match name {
        Some(name) => format!("there is no pipeline {name:?}"),
        None => "the command is for one pipeline".to_owned(),
    };
    let problem = Problem::new(
        message,
        format!("Name one with --pipeline: {}.", names.join(", ")),
    );
    problem.report();
    Err(Exit::Usage)
}

/// Values that only librdkafka can judge.
fn check_properties(config: &Config) -> Result<(), Problem> {
    for pipeline in &config.pipelines {
        kafka::check_properties(pipeline)?;
    }
    Ok(())
}

/// Runs a command to its end, on this thread.
fn block_on<T>(command: impl Future<Output = T>) -> Result<T, Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| {
            eprintln!("outboxd: the runtime could not be started: {e}");
            Exit::Failure
        })?;
    let outcome = runtime.block_on(command);
    // A call to Kafka that is still blocked must not hold up the exit.
    runtime.shutdown_background();
    Ok(outcome)
}

/// Runs the command line; returns the exit code.
pub fn main() -> Exit {
    let outcome = match Cli::parse().command {
        Command::Init(args) => init::init(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Run(args) => run::run(&args),
        Command::Status(args) => status::status(&args),
        Command::Repair(args) => repair::repair(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Dlq(args) => dlq::dlq(&args),
        Command::Tail(args) => tail::tail(&args),
        Command::Trace(args) => trace::trace(&args),
        Command::Audit(args) => audit::audit(&args),
        Command::Prune(args) => prune::prune(&args),
        Command::Acl(args) => acl::acl(&args),
        Command::Keys(args) => keys::keys(&args),
        Command::Config {
            command: ConfigCommand::Check(settings),
        } => check(&settings),
        Command::Config {
            command: ConfigCommand::Print(settings),
        } => print(&settings),
        Command::Explain { code } => explain(code.as_deref()),
        Command::Wait(args) => wait::wait(&args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
        Command::Version => {
            say!("outboxd {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    };
    outcome.err().unwrap_or(Exit::Success)
}

fn check(settings: &Settings) -> Result<(), Exit> {
    let config = settings.load()?;
    for pipeline in &config.pipelines {
        decryption::read(pipeline).map_err(|failure| {
            Problem::from(failure).report();
            Exit::Config
        })?;
    }
    say!(
        "the configuration is valid: {} pipeline(s)",
        config.pipelines.len()
    );
    Ok(())
}

fn print(settings: &Settings) -> Result<(), Exit> {
    let config = settings.parse().map_err(|errors| {
        eprintln!("{errors}");
        Exit::Config
    })?;
    out::write(format_args!("{}", config::print(&config)));
    Ok(())
}

fn explain(code: Option<&str>) -> Result<(), Exit> {
    let Some(name) = code else {
        for code in CODES {
            say!("{:<24} {}", code.name, code.cause);
        }
        return Ok(());
    };
    match crate::failure::find(name) {
        Some(code) => {
            say!(
                "{}\n\nCause:  {}\nRemedy: {}",
                code.name,
                code.cause,
                code.remedy
            );
            Ok(())
        }
        None => {
            eprintln!("outboxd: no error code is named {name:?}; `outboxd explain` lists them all");
            Err(Exit::Usage)
        }
    }
}

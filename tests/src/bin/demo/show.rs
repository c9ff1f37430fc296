//! The course of the demo.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use scenarios::bank::{self, Books, Consumers, DEAD_LETTERS, TOPICS};
use scenarios::reader::Reader;
use scenarios::stage::{DATABASE, Stage};
use scenarios::supervised::Supervised;
use testbed::{KAFKA_VERSION, PASSWORD};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::events::{Account, Balance, Event};
use super::relay::Relay;
use super::screen::Screen;
use super::settings::Settings;

/// The role of the relay.
const RELAY_ROLE: &str = "outboxd";
/// The role of the services, which may insert events and can't change them.
const SERVICE_ROLE: &str = "service";
const ENDPOINTS: [&str; 5] = ["/live", "/ready", "/metrics", "/version", "/status"];
/// Without an end, the relay is killed after this long, and the ledger after half as long again.
const KILL_AFTER: Duration = Duration::from_secs(10);
const DRAIN_WITHIN: Duration = Duration::from_secs(60);
/// What comes twice comes late: after the last event, it is waited this long for another.
const QUIET: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(50);

/// Runs the demo; true if nothing was lost, doubled or invented, at either end.
pub fn run() -> Result<bool> {
    let settings = Settings::from_env()?;
    let runtime = Runtime::new()?;
    let interrupted = interruption(&runtime)?;
    println!(
        "starting Postgres {} and Kafka {KAFKA_VERSION}",
        settings.postgres
    );
    let version = settings.postgres;
    let servers = Stage::builder()
        .postgres(|postgres| postgres.version(version))
        .bare();
    let servers = runtime.block_on(servers.start())?;
    make_roles(&servers)?;
    println!("outboxd init --apply: table, publication, grants, topics, slot");
    initialize(&servers)?;
    runtime.block_on(bank::prepare(&servers))?;
    allow_inbox(&servers)?;
    println!("outboxd run");
    let relay = start_relay(&servers)?;
    relay.await_ready()?;

    let service_url = servers.postgres.url(SERVICE_ROLE, DATABASE);
    let consumers = bank::start_consumers(&servers, &service_url)?;
    introduce(&servers, &relay, &consumers, &settings);
    let read: Vec<_> = TOPICS.into_iter().chain([DEAD_LETTERS]).collect();
    let mut show = Show {
        reader: Reader::open(&servers.kafka.bootstrap(), &read)?,
        relay,
        consumers,
        screen: Screen::new(),
        account: Account::default(),
        dead: HashSet::new(),
    };
    let transfers = bank::start_transfers(&servers, &service_url, settings.rate)?;
    show.play(&settings, || {
        interrupted.is_finished() || transfers.has_ended()
    })?;
    show.close(transfers)?;
    show.drain_books(&servers)?;
    let balance = show.drain(&ids(&servers)?)?;
    show.end(&servers, &balance)
}

/// Ends at Ctrl-C or SIGTERM.
fn interruption(runtime: &Runtime) -> Result<JoinHandle<()>> {
    let _guard = runtime.enter();
    let listen = |kind| -> Result<Signal> { Ok(signal(kind)?) };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    Ok(runtime.spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }))
}

/// The roles; the services make their own tables.
fn make_roles(servers: &Stage) -> Result<()> {
    let sql = format!(
        "CREATE ROLE {RELAY_ROLE} LOGIN REPLICATION PASSWORD '{PASSWORD}'; \
         CREATE ROLE {SERVICE_ROLE} LOGIN PASSWORD '{PASSWORD}'; \
         GRANT CREATE ON SCHEMA public TO {SERVICE_ROLE}"
    );
    servers.postgres.sql(DATABASE, &sql)?;
    Ok(())
}

fn initialize(servers: &Stage) -> Result<()> {
    let mut flags = vec!["--role", RELAY_ROLE, "--service-role", SERVICE_ROLE];
    flags.extend(TOPICS.iter().flat_map(|topic| ["--topic", topic]));
    servers.init(&flags)
}

/// What a consumer does with the inbox.
fn allow_inbox(servers: &Stage) -> Result<()> {
    let sql = format!("GRANT SELECT, INSERT ON inbox TO {SERVICE_ROLE}");
    servers.postgres.sql(DATABASE, &sql)?;
    Ok(())
}

fn start_relay(servers: &Stage) -> Result<Relay> {
    let address = servers.postgres.addr();
    let url = format!("postgres://{RELAY_ROLE}@{address}/{DATABASE}");
    Relay::start(&url, &servers.kafka.bootstrap(), servers.folder())
}

fn introduce(servers: &Stage, relay: &Relay, consumers: &Consumers, settings: &Settings) {
    let admin = relay.admin();
    println!(
        "a service makes {} transactions a second, one in eight rolls back; a ledger books what it \
         settles, compliance screens what it initiates",
        settings.rate
    );
    println!();
    println!("Try, in another terminal:");
    println!("  curl http://{admin}/ready");
    println!("  curl http://{admin}/status");
    println!("  curl http://{admin}/metrics");
    println!("  tail -f {}", relay.process.log().display());
    println!("  psql {}", servers.postgres.url(SERVICE_ROLE, DATABASE));
    let pids = (relay.process.pid(), consumers.ledger.pid());
    println!(
        "  kill -9 {}    # the relay: it is started again, and nothing is lost",
        pids.0
    );
    println!(
        "  kill -9 {}    # the ledger: the same, and nothing is booked twice",
        pids.1
    );
    println!();
}

/// The ids of the committed rows.
fn ids(servers: &Stage) -> Result<Vec<String>> {
    let rows = servers
        .postgres
        .sql(DATABASE, "SELECT id::text FROM outbox")?;
    let ids = rows.into_iter().map(|row| row.into_iter().next().flatten());
    ids.collect::<Option<_>>()
        .context("a row of outbox without an id")
}

/// Everything that moves.
struct Show {
    reader: Reader,
    relay: Relay,
    consumers: Consumers,
    screen: Screen,
    account: Account,
    /// Ids of the transfers' events that compliance has put aside.
    dead: HashSet<String>,
}

impl Show {
    /// Shows events until it is over; asks every endpoint once and kills the relay and the ledger once.
    fn play(&mut self, settings: &Settings, is_over: impl Fn() -> bool) -> Result<()> {
        let start = Instant::now();
        let kill_after = settings.duration.map_or(KILL_AFTER, |whole| whole / 2);
        let mut asks = Some(kill_after / 2);
        let mut relay_kill = Some(kill_after);
        let mut ledger_kill = Some(kill_after + kill_after / 2);
        let has_time = |now: Duration| settings.duration.is_none_or(|whole| now < whole);
        while !is_over() && has_time(start.elapsed()) {
            self.show_next()?;
            let is_due = |at: &mut Duration| start.elapsed() >= *at;
            if asks.take_if(is_due).is_some() {
                self.ask_endpoints();
            }
            if relay_kill.take_if(is_due).is_some() {
                self.kill("the relay", &self.relay.process);
            }
            if ledger_kill.take_if(is_due).is_some() {
                self.kill("the ledger", &self.consumers.ledger);
            }
        }
        Ok(())
    }

    fn kill(&self, name: &str, process: &Supervised) {
        let pid = process.pid();
        self.screen.note(&format!("kill -9 {pid}, {name}"));
        process.kill9();
    }

    /// Shows an event if one comes soon, and keeps what was killed alive.
    fn show_next(&mut self) -> Result<bool> {
        let next = self.reader.next(POLL)?;
        if let Some(seen) = &next {
            if seen.topic == DEAD_LETTERS {
                self.dead.insert(seen.event_id.clone());
                let note = format!("compliance puts {} aside, a dead letter", seen.key);
                self.screen.note(&note);
            } else {
                let event = Event::parse(seen)?;
                self.account.add(&event.id);
                self.screen.event(&event);
            }
        }
        let processes = [
            ("the relay", &mut self.relay.process),
            ("the ledger", &mut self.consumers.ledger),
            ("compliance", &mut self.consumers.compliance),
        ];
        for (name, process) in processes {
            if let Some(ending) = process.keep_alive()? {
                let pid = process.pid();
                let note = format!("{name} ended ({ending}) and is started again as {pid}");
                self.screen.note(&note);
            }
        }
        Ok(next.is_some())
    }

    fn ask_endpoints(&self) {
        let ask = |path: &&str| match self.relay.get(path) {
            Ok(code) => format!("{path} {code}"),
            Err(error) => format!("{path} {error:#}"),
        };
        let answers: Vec<String> = ENDPOINTS.iter().map(ask).collect();
        self.screen
            .note(&format!("the admin endpoints: {}", answers.join("  ")));
    }

    /// Stops the service that moves money.
    fn close(&mut self, transfers: Supervised) -> Result<()> {
        let log = transfers.log().to_owned();
        transfers.stop()?;
        let log = std::fs::read_to_string(log)?;
        let counted = log.lines().last().unwrap_or_default();
        self.screen.count_hidden();
        self.screen
            .note(&format!("the service has stopped: {counted}"));
        Ok(())
    }

    /// Shows what is left, until the books agree.
    fn drain_books(&mut self, servers: &Stage) -> Result<()> {
        let deadline = Instant::now() + DRAIN_WITHIN;
        loop {
            while self.show_next()? {}
            let books = Books::read(servers, self.dead.len())?;
            if books.are_even() || Instant::now() > deadline {
                return Ok(());
            }
        }
    }

    /// Shows what is left, until every row has its event and nothing comes any more.
    fn drain(&mut self, ids: &[String]) -> Result<Balance> {
        let deadline = Instant::now() + DRAIN_WITHIN;
        let mut last = Instant::now();
        loop {
            if self.show_next()? {
                last = Instant::now();
                continue;
            }
            let balance = self.account.balance(ids);
            let is_quiet = last.elapsed() > QUIET;
            if is_quiet && (balance.lost == 0 || Instant::now() > deadline) {
                return Ok(balance);
            }
        }
    }

    /// Ends everything in order, and says how it went.
    fn end(mut self, servers: &Stage, balance: &Balance) -> Result<bool> {
        self.screen.count_hidden();
        self.consumers.ledger.stop()?;
        self.consumers.compliance.stop()?;
        let ending = self.relay.process.stop()?;
        self.screen.note(&format!("SIGTERM to the relay: {ending}"));
        if balance.invented > 0 {
            println!(
                "events of transactions that rolled back: {}",
                balance.invented
            );
        }
        let Balance {
            rows,
            received,
            lost,
            duplicated,
            invented: _,
        } = balance;
        let books = Books::read(servers, self.dead.len())?;
        println!("{books}");
        println!("demo: rows={rows} received={received} lost={lost} duplicated={duplicated}");
        Ok(balance.is_even() && books.are_even())
    }
}

//! The course of the demo.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use scenarios::reader::Reader;
use scenarios::stage::{DATABASE, Stage};
use testbed::{KAFKA_VERSION, PASSWORD};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::events::{Account, Balance, Event};
use super::relay::Relay;
use super::screen::Screen;
use super::service::Service;
use super::settings::Settings;

/// The role of the relay.
const RELAY_ROLE: &str = "outboxd";
/// The role of the service, which may insert events and nothing else.
const SERVICE_ROLE: &str = "service";
const TOPICS: [&str; 5] = [
    "transfers.initiated",
    "transfers.settled",
    "ledger.posted",
    "compliance.flagged",
    "recon.matched",
];
const ENDPOINTS: [&str; 5] = ["/live", "/ready", "/metrics", "/version", "/status"];
/// Without an end, the relay is killed after this long.
const KILL_AFTER: Duration = Duration::from_secs(10);
const DRAIN_WITHIN: Duration = Duration::from_secs(60);
/// What comes twice comes late: after the last event, it is waited this long for another.
const QUIET: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(50);

/// Runs the demo; true if nothing was lost, doubled or invented.
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
    make_database(&servers)?;
    println!("outboxd init --apply: table, publication, grants, topics, slot");
    initialize(&servers)?;
    println!("outboxd run");
    let relay = start_relay(&servers)?;
    relay.await_ready()?;
    introduce(&servers, &relay, &settings);

    let service_url = servers.postgres.url(SERVICE_ROLE, DATABASE);
    let mut show = Show {
        reader: Reader::open(&servers.kafka.bootstrap(), &TOPICS)?,
        relay,
        screen: Screen::new(),
        account: Account::default(),
    };
    let service = Service::start(&runtime, service_url, settings.rate);
    show.play(&settings, || {
        interrupted.is_finished() || service.has_ended()
    })?;
    let written = service.stop(&runtime)?;
    show.screen.count_hidden();
    show.screen.note(&format!(
        "the service has stopped: {} transactions committed, {} rolled back",
        written.committed, written.rolled_back
    ));
    let balance = show.drain(&ids(&servers)?)?;
    show.end(&balance)
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

/// The roles, and the service's own table.
fn make_database(servers: &Stage) -> Result<()> {
    let sql = format!(
        "CREATE ROLE {RELAY_ROLE} LOGIN REPLICATION PASSWORD '{PASSWORD}'; \
         CREATE ROLE {SERVICE_ROLE} LOGIN PASSWORD '{PASSWORD}'; \
         CREATE TABLE transfers (id text PRIMARY KEY, state text NOT NULL); \
         GRANT SELECT, INSERT, UPDATE ON transfers TO {SERVICE_ROLE}"
    );
    servers.postgres.sql(DATABASE, &sql)?;
    Ok(())
}

fn initialize(servers: &Stage) -> Result<()> {
    let mut flags = vec!["--role", RELAY_ROLE, "--service-role", SERVICE_ROLE];
    flags.extend(TOPICS.iter().flat_map(|topic| ["--topic", topic]));
    servers.init(&flags)
}

fn start_relay(servers: &Stage) -> Result<Relay> {
    let address = servers.postgres.addr();
    let url = format!("postgres://{RELAY_ROLE}@{address}/{DATABASE}");
    Relay::start(&url, &servers.kafka.bootstrap(), servers.folder())
}

fn introduce(servers: &Stage, relay: &Relay, settings: &Settings) {
    let admin = relay.admin();
    println!(
        "a service writes {} transactions a second; one in eight rolls back",
        settings.rate
    );
    println!();
    println!("Try, in another terminal:");
    println!("  curl http://{admin}/ready");
    println!("  curl http://{admin}/status");
    println!("  curl http://{admin}/metrics");
    println!("  tail -f {}", relay.log().display());
    println!("  psql {}", servers.postgres.url(SERVICE_ROLE, DATABASE));
    println!(
        "  kill -9 {}    # the relay: it is started again, and nothing is lost",
        relay.pid()
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
    screen: Screen,
    account: Account,
}

impl Show {
    /// Shows events until it is over; asks every endpoint once and kills the relay once.
    fn play(&mut self, settings: &Settings, is_over: impl Fn() -> bool) -> Result<()> {
        let start = Instant::now();
        let kill_after = settings.duration.map_or(KILL_AFTER, |whole| whole / 2);
        let mut asks = Some(kill_after / 2);
        let mut kills = Some(kill_after);
        let has_time = |now: Duration| settings.duration.is_none_or(|whole| now < whole);
        while !is_over() && has_time(start.elapsed()) {
            self.show_next()?;
            if asks.take_if(|at| start.elapsed() >= *at).is_some() {
                self.ask_endpoints();
            }
            if kills.take_if(|at| start.elapsed() >= *at).is_some() {
                let pid = self.relay.pid();
                self.screen.note(&format!("kill -9 {pid}, the relay"));
                self.relay.kill9();
            }
        }
        Ok(())
    }

    /// Shows an event if one comes soon, and keeps the relay alive.
    fn show_next(&mut self) -> Result<bool> {
        let next = self.reader.next(POLL)?;
        if let Some(seen) = &next {
            let event = Event::parse(seen)?;
            self.account.add(&event.id);
            self.screen.event(&event);
        }
        if let Some(ending) = self.relay.keep_alive()? {
            let pid = self.relay.pid();
            self.screen.note(&format!(
                "the relay ended ({ending}) and is started again as {pid}"
            ));
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

    /// Ends the relay in order, and says how it went.
    fn end(mut self, balance: &Balance) -> Result<bool> {
        self.screen.count_hidden();
        let ending = self.relay.stop()?;
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
        println!("demo: rows={rows} received={received} lost={lost} duplicated={duplicated}");
        Ok(balance.is_even())
    }
}

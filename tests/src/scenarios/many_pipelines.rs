//! Many databases in one process: one that is in trouble does not touch the others.

use std::collections::HashMap;
use std::fmt::{self, Display, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;

use crate::reader::Reader;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{Stage, TOPICS, UNROUTABLE, outboxd};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "many-pipelines",
    about: "50 databases in one process, 10 events/s each, one broken in turn by each class of failure: the others' lag stays below 1 s",
    group: Group::Alone,
    within: Duration::from_secs(600),
    run: |figures| {
        Box::pin(run(
            figures,
            Size {
                databases: 50,
                lag_seconds_max: 1.0,
            },
        ))
    },
};

pub(super) const FEW: Scenario = Scenario {
    name: "few-pipelines",
    about: "as many-pipelines, with 7 databases on a machine that does other things, too",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| {
        Box::pin(run(
            figures,
            Size {
                databases: 7,
                lag_seconds_max: 8.0,
            },
        ))
    },
};

struct Size {
    databases: usize,
    /// A machine that runs other scenarios makes everybody wait now and then.
    lag_seconds_max: f64,
}

const EVENTS_PER_SECOND: u32 = 10;
/// Until the broker is warm, which it never is while everything else competes with its compiler.
const SLOWLY_EVENTS_PER_SECOND: u32 = 2;
const WATCHED_FOR: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(250);
const SHOWS_WITHIN: Duration = Duration::from_secs(60);
const WARM_WITHIN: Duration = Duration::from_secs(180);
/// Of the bound, before anybody is in trouble.
const STEADY_SHARE: f64 = 0.3;
const STEADY_WITHIN: Duration = Duration::from_secs(180);
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(120);
const LARGE_ROWS: u32 = 100_000;
/// Allowed, and not there.
const ABSENT: &str = "transfers.absent";

async fn run(figures: &mut Figures, size: Size) -> Result<()> {
    let settings = [
        ("max_connections", "400"),
        ("max_wal_senders", "60"),
        ("max_replication_slots", "60"),
    ];
    let stage = Stage::builder()
        .postgres(|p| {
            settings
                .iter()
                .fold(p, |p, (name, value)| p.setting(name, value))
        })
        .patient()
        .warm()
        .bare()
        .start()
        .await?;
    let fleet = Fleet::make(&stage, size.databases)?;
    let relay = Relay::launch(
        &["--config".to_owned(), fleet.config()?],
        &[("RETRY_MAX", "2")],
        stage.folder(),
    )?;
    relay.ready().await?;
    let writers = fleet.write();
    everybody_flows(&relay, &fleet).await?;
    let warm = stage.compiled(WARM_WITHIN).await?;
    figures.add("warm_s", warm.as_secs());
    writers.hurry();

    let quiet = steady(&relay, STEADY_SHARE * size.lag_seconds_max).await?;
    figures.add("lag_max_ms", quiet.millis());
    for (at, trouble) in TROUBLES.iter().enumerate() {
        let place = Place {
            stage: &stage,
            relay: &relay,
            name: &fleet.names[at],
        };
        let lag = place.suffers(trouble).await.with_context(|| trouble.name)?;
        figures.add(&format!("{}_ms", trouble.name), lag.millis());
        ensure!(
            lag.seconds < size.lag_seconds_max,
            "{}: {lag}",
            trouble.name
        );
    }
    figures.add("threads", threads(&relay)?);
    figures.add("memory_kib", relay.vm_hwm_kib()?);

    writers.stop().await?;
    // The last trouble leaves its pipeline stopped.
    let stopped = &fleet.names[TROUBLES.len() - 1];
    caught_up(&relay, &fleet, stopped).await?;
    relay.stop().await?;
    figures.add("rows", exact(&stage, &fleet, stopped)?);
    Ok(())
}

/// The greatest one of several services.
#[derive(Default)]
struct Lag {
    seconds: f64,
    service: String,
}

impl Lag {
    fn millis(&self) -> u64 {
        (self.seconds * 1000.0) as u64
    }
}

impl Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lags {:.3} s", self.service, self.seconds)
    }
}

/// Databases and pipelines of these names.
struct Fleet<'a> {
    stage: &'a Stage,
    names: Vec<String>,
    file: PathBuf,
}

impl<'a> Fleet<'a> {
    fn make(stage: &'a Stage, databases: usize) -> Result<Self> {
        ensure!(
            databases >= TROUBLES.len(),
            "a trouble needs a database of its own"
        );
        let names: Vec<_> = (0..databases)
            .map(|number| format!("p{number:02}"))
            .collect();
        let mut config = String::new();
        for name in &names {
            stage
                .postgres
                .sql("postgres", &format!("CREATE DATABASE {name}"))?;
            let (url, bootstrap) = (stage.postgres.superuser_url(name), stage.bootstrap());
            write!(
                config,
                "[[pipelines]]\nname = {name:?}\nconcurrency = 1\npostgres.url = {url:?}\npostgres.slot = {name:?}\n\
                 kafka.bootstrap = {bootstrap:?}\n\
                 [[pipelines.tables]]\nservice = {name:?}\n"
            )?;
        }
        let file = stage.folder().join("fleet.toml");
        std::fs::write(&file, config)?;
        let fleet = Self { stage, names, file };
        let mut init = Command::new(outboxd()?);
        init.args(["init", "--apply", "--config"]).arg(&fleet.file);
        for topic in TOPICS {
            init.args(["--topic", topic]);
        }
        let output = init.output()?;
        ensure!(
            output.status.success(),
            "init: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(fleet)
    }

    fn config(&self) -> Result<String> {
        Ok(self.file.to_str().context("no text")?.to_owned())
    }

    /// One session a database writes at the same pace, slowly at first.
    fn write(&self) -> Writers {
        let pace = Arc::new(AtomicU32::new(SLOWLY_EVENTS_PER_SECOND));
        let sessions = self.names.iter().enumerate().map(|(at, name)| {
            let url = self.stage.postgres.superuser_url(name);
            // Not all in the same moment.
            let offset = Duration::from_millis(at as u64 * 7 % 100);
            tokio::spawn(write(url, Arc::clone(&pace), offset))
        });
        Writers {
            sessions: sessions.collect(),
            pace,
        }
    }
}

struct Writers {
    sessions: Vec<JoinHandle<Result<()>>>,
    /// Events a second; none at the end.
    pace: Arc<AtomicU32>,
}

impl Writers {
    fn hurry(&self) {
        self.pace.store(EVENTS_PER_SECOND, Ordering::Relaxed);
    }

    async fn stop(self) -> Result<()> {
        self.pace.store(0, Ordering::Relaxed);
        for session in self.sessions {
            session.await??;
        }
        Ok(())
    }
}

/// A connection that is ended is made again; what it was at is not repeated, for it may be committed.
async fn write(url: String, pace: Arc<AtomicU32>, offset: Duration) -> Result<()> {
    let between = || Duration::from_secs(1).checked_div(pace.load(Ordering::Relaxed));
    let mut due = tokio::time::Instant::now() + offset;
    while between().is_some() {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        let insert = "INSERT INTO outbox (event_type, transfer_id, payload) \
                      VALUES ('transfers.settled', 't-' || (random() * 9)::int, '{}')";
        let Ok(insert) = client.prepare(insert).await else {
            continue;
        };
        while let Some(between) = between() {
            tokio::time::sleep_until(due).await;
            // What was missed is not made up for.
            due = tokio::time::Instant::now().max(due + between);
            if client.execute(&insert, &[]).await.is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// One way for a pipeline to be in trouble.
struct Trouble {
    name: &'static str,
    begin: &'static [&'static str],
    /// What the relay must show, so that the trouble is one.
    shows: Sign,
    /// The trouble stays for as long as it is watched, unless it is over by itself.
    end: &'static [&'static str],
}

enum Sign {
    /// The sum of a metric of this pipeline is at least this.
    Metric(&'static str, f64),
    /// Its state.
    State(&'static str),
}

const TROUBLES: [Trouble; 6] = [
    Trouble {
        name: "unmappable",
        begin: &[
            "INSERT INTO outbox (event_type, payload) SELECT '$UNROUTABLE', '{}' FROM generate_series(1, 200)",
        ],
        shows: Sign::Metric("outboxd_dead_letters_total", 200.0),
        end: &[],
    },
    Trouble {
        name: "topic_missing",
        begin: &[
            "INSERT INTO outbox (event_type, payload) SELECT '$ABSENT', '{}' FROM generate_series(1, 200)",
        ],
        shows: Sign::Metric("outboxd_dead_letters_total", 200.0),
        end: &[],
    },
    Trouble {
        name: "large_transaction",
        begin: &[
            "INSERT INTO outbox (event_type, payload) SELECT 'ledger.posted', '{}' FROM generate_series(1, $LARGE_ROWS)",
        ],
        shows: Sign::Metric("outboxd_events_published_total", 100_000.0),
        end: &[],
    },
    Trouble {
        name: "sessions_ended",
        begin: &[
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        ],
        shows: Sign::Metric("outboxd_retries_total", 1.0),
        end: &[],
    },
    Trouble {
        name: "not_writable",
        begin: &["ALTER TABLE outbox ADD CONSTRAINT forbidden CHECK (state = 'PENDING') NOT VALID"],
        shows: Sign::Metric("outboxd_write_back_errors_total", 1.0),
        end: &["ALTER TABLE outbox DROP CONSTRAINT forbidden"],
    },
    Trouble {
        name: "stopped",
        begin: &["DROP PUBLICATION outboxd"],
        shows: Sign::State("stopped"),
        end: &[],
    },
];

/// The pipeline that is in trouble.
struct Place<'a> {
    stage: &'a Stage,
    relay: &'a Relay,
    name: &'a str,
}

impl Place<'_> {
    /// The others' greatest lag meanwhile.
    async fn suffers(&self, trouble: &Trouble) -> Result<Lag> {
        let watching = watch(self.relay, std::slice::from_ref(&self.name));
        let suffering = async {
            self.run(trouble.begin)?;
            self.shows(&trouble.shows).await
        };
        let (lag, shown) = tokio::join!(watching, suffering);
        shown?;
        self.run(trouble.end)?;
        lag
    }

    fn run(&self, statements: &[&str]) -> Result<()> {
        for sql in statements {
            let sql = sql
                .replace("$UNROUTABLE", UNROUTABLE)
                .replace("$ABSENT", ABSENT)
                .replace("$LARGE_ROWS", &LARGE_ROWS.to_string());
            self.stage.postgres.sql(self.name, &sql)?;
        }
        Ok(())
    }

    async fn shows(&self, sign: &Sign) -> Result<()> {
        let label = format!("pipeline=\"{}\"", self.name);
        wait::until("the trouble shows", SHOWS_WITHIN, async || match sign {
            Sign::Metric(name, least) => Ok(self.relay.count(name, &label)? >= *least),
            Sign::State(state) => {
                let label = format!("{label},state=\"{state}\"");
                Ok(self.relay.count("outboxd_state", &label)? == 1.0)
            }
        })
        .await
        .with_context(|| self.relay.log_text())?;
        Ok(())
    }
}

/// Waits until everybody's lag is as small as that while nobody is in trouble, for a broker that has just
/// started is slow. The greatest lag then.
async fn steady(relay: &Relay, most_seconds: f64) -> Result<Lag> {
    let began = Instant::now();
    loop {
        let lag = watch(relay, &[]).await?;
        if lag.seconds < most_seconds {
            return Ok(lag);
        }
        ensure!(
            began.elapsed() < STEADY_WITHIN,
            "nobody is in trouble, and {lag}"
        );
    }
}

/// The greatest publish lag of any service but these, for as long as it is watched.
async fn watch(relay: &Relay, but: &[&str]) -> Result<Lag> {
    let began = Instant::now();
    let mut most = Lag::default();
    while began.elapsed() < WATCHED_FOR {
        for lag in lags(relay)? {
            if !but.contains(&lag.service.as_str()) && lag.seconds > most.seconds {
                most = lag;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(most)
}

fn lags(relay: &Relay) -> Result<Vec<Lag>> {
    let (_, text) = relay.get("/metrics")?;
    let lines = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("event_publish_lag_seconds{service=\"")?;
        let (service, value) = rest.split_once("\"} ")?;
        Some(Lag {
            seconds: value.parse().ok()?,
            service: service.to_owned(),
        })
    });
    Ok(lines.collect())
}

async fn everybody_flows(relay: &Relay, fleet: &Fleet<'_>) -> Result<()> {
    wait::until("every pipeline publishes", SHOWS_WITHIN, async || {
        for name in &fleet.names {
            let label = format!("pipeline=\"{name}\"");
            if relay.count("outboxd_events_published_total", &label)? < 10.0 {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await
    .with_context(|| relay.log_text())?;
    Ok(())
}

async fn caught_up(relay: &Relay, fleet: &Fleet<'_>, stopped: &str) -> Result<()> {
    let ends: Vec<_> = fleet.names.iter().filter(|name| *name != stopped).collect();
    let end = fleet
        .stage
        .postgres
        .sql("postgres", "SELECT pg_current_wal_insert_lsn()")?;
    let end = end[0][0].clone().context("no LSN")?;
    let confirmed = format!(
        "SELECT count(*) FROM pg_replication_slots WHERE confirmed_flush_lsn >= '{end}' AND slot_name <> '{stopped}'"
    );
    wait::until("everything is confirmed", CAUGHT_UP_WITHIN, async || {
        let rows = fleet.stage.postgres.sql("postgres", &confirmed)?;
        Ok(rows[0][0].as_deref() == Some(&*ends.len().to_string()))
    })
    .await
    .with_context(|| relay.log_text())?;
    Ok(())
}

/// Every row of every other database is in its topic once; how many there are.
fn exact(stage: &Stage, fleet: &Fleet<'_>, stopped: &str) -> Result<usize> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    Reader::open(&stage.bootstrap(), &TOPICS)?
        .drain(|record| *seen.entry(record.event_id).or_default() += 1)?;
    let mut rows = 0;
    for name in fleet.names.iter().filter(|name| *name != stopped) {
        let ids =
            format!("SELECT id FROM outbox WHERE event_type NOT IN ('{UNROUTABLE}', '{ABSENT}')");
        for row in stage.postgres.sql(name, &ids)? {
            let id = row[0].clone().context("no id")?;
            ensure!(
                seen.get(&id) == Some(&1),
                "{name}: event {id} is there {:?} times",
                seen.get(&id)
            );
            rows += 1;
        }
    }
    Ok(rows)
}

fn threads(relay: &Relay) -> Result<usize> {
    let tasks = format!("/proc/{}/task", relay.program().pid());
    Ok(std::fs::read_dir(tasks)?.count())
}

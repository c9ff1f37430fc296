//! A service that screens each transfer, and fails now and then: what may pass is tried again, what can't
//! is put aside as a dead letter, and the transfers behind it go on.
//!
//! ```sh
//! docker compose up --detach
//! docker compose exec -T postgres psql -U postgres app < sql/inbox.sql
//! docker compose exec kafka /opt/kafka/bin/kafka-topics.sh --bootstrap-server kafka:9092 \
//!   --create --topic compliance.dead-letter
//! cargo run -p inbox --example compliance
//! ```
//!
//! `DATABASE_URL` is a database that `outboxd init` has prepared, `KAFKA_BROKERS` where the events of the
//! example `transfers` arrive, `FAIL_PERCENT` how often the list that it asks does not answer. It runs
//! until SIGTERM or Ctrl-C.

use std::time::Duration;
use std::{env, io};

use anyhow::{Context, Result};
use deadpool_postgres::Manager;
use inbox::{Consumer, Event, EventType, Failure, Handler, Handlers, Pool, Retry, Transaction};
use serde::{Deserialize, Serialize};
use tokio_postgres::NoTls;

/// In production, a migration.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS screenings (
        id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        transfer_id text   NOT NULL,
        is_flagged  bool   NOT NULL
    )";
const LIMIT_CENTS: i64 = 75_000;

/// What it needs of what `transfers` writes.
#[derive(Deserialize)]
struct Initiated {
    cents: i64,
    purpose: Option<String>,
}

impl EventType for Initiated {
    const TYPE: &'static str = "transfers.initiated";
}

#[derive(Serialize)]
struct Flagged {
    rule: &'static str,
    cents: i64,
}

impl EventType for Flagged {
    const TYPE: &'static str = "compliance.flagged";
}

/// A handler with something of its own.
struct Screening {
    list: SanctionsList,
}

impl Handler<Initiated> for Screening {
    async fn handle(&self, event: Event<Initiated>, tx: &Transaction<'_>) -> Result<(), Failure> {
        // Nobody will add it later, so it is not tried again.
        if event.payload.purpose.is_none() {
            return Err(Failure::permanent("a transfer without a purpose"));
        }
        // Any other error is tried again: five times, with growing pauses.
        self.list.ask()?;

        let transfer = event.transfer_id();
        let cents = event.payload.cents;
        let is_flagged = cents > LIMIT_CENTS;
        let sql = "INSERT INTO screenings (transfer_id, is_flagged) VALUES ($1, $2)";
        tx.execute(sql, &[&transfer, &is_flagged]).await?;
        if is_flagged {
            let rule = "amount-limit";
            let flagged = outbox::Event::of(&Flagged { rule, cents });
            outbox::emit(tx, flagged.transfer_id(transfer.unwrap_or_default())).await?;
        }
        Ok(())
    }
}

/// Stands for a service of somebody else.
struct SanctionsList {
    fail_percent: u8,
}

impl SanctionsList {
    fn ask(&self) -> io::Result<()> {
        match fastrand::u8(..100) < self.fail_percent {
            true => Err(io::Error::other("the sanctions list does not answer")),
            false => Ok(()),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().init();
    let url = variable("DATABASE_URL", "postgres://postgres:postgres@localhost/app");
    let manager = Manager::new(url.parse()?, NoTls);
    let pool = Pool::builder(manager).max_size(8).build()?;
    pool.get().await?.batch_execute(TABLE).await?;

    let fail_percent = variable("FAIL_PERCENT", "20").parse();
    let list = SanctionsList {
        fail_percent: fail_percent.context("FAIL_PERCENT")?,
    };
    let pauses = (Duration::from_millis(50), Duration::from_secs(2));
    Consumer::builder("compliance")
        .brokers(variable("KAFKA_BROKERS", "localhost:29092"))
        .topics([Initiated::TYPE])
        .database(pool)
        .handlers(Handlers::new().on_typed(Screening { list }))
        .retry(Retry::attempts(5).backoff(pauses.0, pauses.1))
        .build()?
        .run()
        .await?;
    Ok(())
}

fn variable(name: &str, otherwise: &str) -> String {
    env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

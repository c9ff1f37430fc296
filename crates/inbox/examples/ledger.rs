//! A service that books each settled transfer, once: what it takes from one account it gives to another,
//! and in the same transaction it says that it has done so.
//!
//! ```sh
//! docker compose up --detach
//! docker compose exec -T postgres psql -U postgres app < sql/inbox.sql
//! docker compose exec kafka /opt/kafka/bin/kafka-topics.sh --bootstrap-server kafka:9092 \
//!   --create --topic ledger.dead-letter
//! cargo run -p inbox --example ledger
//! ```
//!
//! `DATABASE_URL` is a database that `outboxd init` has prepared, `KAFKA_BROKERS` where the events of the
//! example `transfers` arrive. `INSTANCE` is a name that no other process of the group has: one that
//! is killed and started again goes on at once instead of after its session's timeout. It runs until
//! SIGTERM or Ctrl-C.

use std::env;

use anyhow::Result;
use deadpool_postgres::Manager;
use inbox::{Consumer, Event, EventType, Failure, Handlers, Pool, Transaction};
use serde::{Deserialize, Serialize};
use tokio_postgres::NoTls;

/// In production, a migration. There is no unique key: that nothing is booked twice is the inbox's work.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS entries (
        id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        transfer_id text   NOT NULL,
        account     text   NOT NULL,
        cents       bigint NOT NULL
    )";

/// As `transfers` writes it.
#[derive(Deserialize)]
struct Settled {
    from: String,
    to: String,
    cents: i64,
}

impl EventType for Settled {
    const TYPE: &'static str = "transfers.settled";
}

#[derive(Serialize)]
struct Posted {
    debit: String,
    credit: String,
    cents: i64,
}

impl EventType for Posted {
    const TYPE: &'static str = "ledger.posted";
}

async fn book(event: Event<Settled>, tx: &Transaction<'_>) -> Result<(), Failure> {
    // What can't succeed later either becomes a dead letter at once.
    let transfer = event.transfer_id();
    let transfer = transfer.ok_or_else(|| Failure::permanent("it is about no transfer"))?;
    let Settled { from, to, cents } = &event.payload;

    let sql = "INSERT INTO entries (transfer_id, account, cents)
        VALUES ($1, $2, -$4::bigint), ($1, $3, $4)";
    let statement = tx.prepare_cached(sql).await?;
    tx.execute(&statement, &[&transfer, from, to, cents])
        .await?;

    let posted = Posted {
        debit: from.clone(),
        credit: to.clone(),
        cents: *cents,
    };
    outbox::emit(tx, outbox::Event::of(&posted).transfer_id(transfer)).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().init();
    let url = variable("DATABASE_URL", "postgres://postgres:postgres@localhost/app");
    let manager = Manager::new(url.parse()?, NoTls);
    let pool = Pool::builder(manager).max_size(8).build()?;
    pool.get().await?.batch_execute(TABLE).await?;

    let mut consumer = Consumer::builder("ledger")
        .brokers(variable("KAFKA_BROKERS", "localhost:29092"))
        .topics([Settled::TYPE])
        .database(pool)
        .handlers(Handlers::new().on_typed(book))
        // What is at hand is booked in one transaction.
        .batch(100);
    if let Ok(instance) = env::var("INSTANCE") {
        consumer = consumer.property("group.instance.id", instance);
    }
    consumer.build()?.run().await?;
    Ok(())
}

fn variable(name: &str, otherwise: &str) -> String {
    env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

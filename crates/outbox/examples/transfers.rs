//! A service that moves money between accounts, and says so: each change and its event are written in
//! one transaction.
//!
//! ```sh
//! docker compose up --detach
//! cargo run -p outbox --example transfers
//! ```
//!
//! `DATABASE_URL` is a database that `outboxd init` has prepared, `RATE` how many transactions it makes a
//! second. It runs until SIGTERM or Ctrl-C. The examples `ledger` and `compliance` of `crates/inbox` read
//! its events.

use std::env;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result};
use outbox::{Event, EventType};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_postgres::{Client, NoTls, Transaction};

/// In production, migrations.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS accounts (id text PRIMARY KEY, cents bigint NOT NULL);
    CREATE TABLE IF NOT EXISTS transfers (
        id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        debtor      text   NOT NULL REFERENCES accounts,
        creditor    text   NOT NULL REFERENCES accounts,
        cents       bigint NOT NULL CHECK (cents > 0),
        is_settled  bool   NOT NULL DEFAULT false
    );
    INSERT INTO accounts SELECT 'A' || n, 10000000 FROM generate_series(0, 7) n ON CONFLICT DO NOTHING";

#[derive(Serialize)]
struct Initiated<'a> {
    from: &'a str,
    to: &'a str,
    cents: i64,
    purpose: Option<&'a str>,
}

impl EventType for Initiated<'_> {
    const TYPE: &'static str = "transfers.initiated";
}

#[derive(Serialize)]
struct Settled {
    from: String,
    to: String,
    cents: i64,
}

impl EventType for Settled {
    const TYPE: &'static str = "transfers.settled";
}

#[derive(Serialize)]
struct Matched {
    statement: u64,
    lines: i64,
}

impl EventType for Matched {
    const TYPE: &'static str = "recon.matched";
}

/// Promises a transfer; returns its number.
async fn initiate(tx: &Transaction<'_>, number: u64) -> Result<i64> {
    let (from, to) = (number % 8, (number + 1 + number % 5) % 8);
    let (from, to) = (format!("A{from}"), format!("A{to}"));
    let cents = i64::try_from(1000 + number * 3707 % 99_000)?;
    let sql = "INSERT INTO transfers (debtor, creditor, cents) VALUES ($1, $2, $3) RETURNING id";
    let id: i64 = tx.query_one(sql, &[&from, &to, &cents]).await?.get(0);

    let initiated = Initiated {
        from: &from,
        to: &to,
        cents,
        // Now and then somebody forgets it.
        purpose: (id % 13 != 0).then_some("invoice"),
    };
    outbox::emit(tx, Event::of(&initiated).transfer_id(key(id))).await?;
    Ok(id)
}

/// Moves the money of a transfer.
async fn settle(tx: &Transaction<'_>, id: i64) -> Result<()> {
    let sql =
        "UPDATE transfers SET is_settled = true WHERE id = $1 RETURNING debtor, creditor, cents";
    let row = tx.query_one(sql, &[&id]).await?;
    let settled = Settled {
        from: row.get(0),
        to: row.get(1),
        cents: row.get(2),
    };
    let sql = "UPDATE accounts SET cents = cents + CASE id WHEN $1 THEN -$3::bigint ELSE $3 END
        WHERE id IN ($1, $2)";
    tx.execute(sql, &[&settled.from, &settled.to, &settled.cents])
        .await?;
    outbox::emit(tx, Event::of(&settled).transfer_id(key(id))).await?;
    Ok(())
}

/// Compares with the statement of a bank. This event is about no transfer.
async fn reconcile(tx: &Transaction<'_>, statement: u64) -> Result<()> {
    let sql = "SELECT count(*) FROM (SELECT FROM transfers ORDER BY id DESC LIMIT 12) latest";
    let lines = tx.query_one(sql, &[]).await?.get(0);
    outbox::emit(tx, Event::of(&Matched { statement, lines })).await?;
    Ok(())
}

/// What the event is about: events with the same one keep their order.
fn key(id: i64) -> String {
    format!("transfer-{id}")
}

/// One transaction of eight that repeat; whether it is committed.
async fn work(client: &mut Client, number: u64, last: &mut i64) -> Result<bool> {
    let tx = client.transaction().await?;
    match number % 8 {
        0 | 2 | 4 => *last = initiate(&tx, number).await?,
        1 | 3 | 5 => settle(&tx, *last).await?,
        6 => reconcile(&tx, number / 8).await?,
        // It changes its mind: neither the transfer nor its event has ever been.
        _ => {
            initiate(&tx, number).await?;
            tx.rollback().await?;
            return Ok(false);
        }
    }
    tx.commit().await?;
    Ok(true)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let url = variable("DATABASE_URL", "postgres://postgres:postgres@localhost/app");
    let rate: f64 = variable("RATE", "10").parse().context("RATE")?;
    let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(TABLES).await?;

    let (mut committed, mut rolled_back, mut last) = (0, 0, 0);
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    let mut end = pin!(told_to_end()?);
    for number in 0.. {
        tokio::select! {
            _ = pace.tick() => {}
            () = &mut end => break,
        }
        match work(&mut client, number, &mut last).await? {
            true => committed += 1,
            false => rolled_back += 1,
        }
    }
    println!("{committed} transactions committed, {rolled_back} rolled back");
    Ok(())
}

fn told_to_end() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn variable(name: &str, otherwise: &str) -> String {
    env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

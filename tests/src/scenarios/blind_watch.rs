//! The relay can't see the catalog while its stream flows: the server's end of the catalog
//! connection hangs, or the outbox is locked for long.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "blind-watch",
    about: "a catalog that does not answer, or is locked, is never taken for being caught up",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

const NOTICED_WITHIN: Duration = Duration::from_secs(40);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let client = stage.client().await?;
    let relay = stage.relay(&[]).await?;
    caught_up(&relay).await?;
    figures.add("hung_ms", hung(&stage, &client, &relay).await?.as_millis());
    figures.add("locked_ms", locked(&stage, &relay).await?.as_millis());
    relay.stop().await?;
    Ok(())
}

/// The backend hangs; another one would answer.
async fn hung(stage: &Stage, client: &Client, relay: &Relay) -> Result<Duration> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'outboxd catalog'";
    let pid: i32 = client.query_one(sql, &[]).await?.get(0);
    signal("-STOP", pid)?;
    let before = relay.count("outboxd_events_published_total", "")?;
    insert(stage, 1000)?;
    wait::until("the stream flows", Duration::from_secs(20), async || {
        Ok(relay.count("outboxd_events_published_total", "")? >= before + 1000.0)
    })
    .await?;
    let noticed = wait::until("lag grows or it is not ready", NOTICED_WITHIN, async || {
        let lag = relay.count("event_publish_lag_seconds", "")?;
        Ok(lag > 3.0 || relay.get("/ready")?.0 == 503)
    })
    .await?;
    // Without the frozen backend's help.
    let end = stage.value("SELECT pg_current_wal_lsn()")?;
    let confirmed = format!("SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots");
    wait::until("the slot moves on", NOTICED_WITHIN, async || {
        Ok(stage.value(&confirmed)? == "t")
    })
    .await
    .with_context(|| relay.log_text())?;
    signal("-CONT", pid)?;
    relay.ready().await?;
    caught_up(relay).await?;
    Ok(noticed)
}

/// As VACUUM FULL does. Nobody can write meanwhile, but the slot stands.
async fn locked(stage: &Stage, relay: &Relay) -> Result<Duration> {
    let mut client = stage.client().await?;
    let transaction = client.transaction().await?;
    let lock = "LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE";
    transaction.batch_execute(lock).await?;
    let noticed = wait::until("it is not ready", NOTICED_WITHIN, async || {
        let (status, body) = relay.get("/ready")?;
        Ok(status == 503 && body.contains("statement timeout"))
    })
    .await
    .with_context(|| relay.log_text())?;
    let lag = relay.count("event_publish_lag_seconds", "")?;
    ensure!(lag > 3.0, "lag is {lag} while the catalog can't be read");
    let stale = relay.count("event_outbox_stale", "")?;
    ensure!(stale == 1.0, "backlog and lag are not marked as stale");
    let age = relay.count("outboxd_slot_age_seconds", "")?;
    ensure!(age > 3.0, "the slot's figures are said to be {age} s old");
    transaction.rollback().await?;
    relay.ready().await?;
    caught_up(relay).await?;
    let log = relay.log_text();
    let warned = log
        .lines()
        .filter(|l| l.contains("the catalog can't be read"));
    ensure!(warned.count() == 1, "one warning was expected in {log}");
    Ok(noticed)
}

fn insert(stage: &Stage, rows: u32) -> Result<()> {
    let sql = format!(
        "INSERT INTO outbox (event_type, payload) SELECT 'ledger.posted', '{{}}' \
         FROM generate_series(1, {rows})"
    );
    stage.postgres.sql(DATABASE, &sql)?;
    Ok(())
}

async fn caught_up(relay: &Relay) -> Result<()> {
    wait::until(
        "lag and backlog are 0",
        Duration::from_secs(30),
        async || {
            let figure = |name| relay.metric(name, "");
            Ok(figure("event_publish_lag_seconds")? == Some(0.0)
                && figure("event_outbox_backlog")? == Some(0.0))
        },
    )
    .await?;
    Ok(())
}

fn signal(name: &str, pid: i32) -> Result<()> {
    let status = Command::new("kill")
        .args([name, &pid.to_string()])
        .status()?;
    ensure!(status.success(), "kill {name} {pid}: {status}");
    Ok(())
}

//! The primary's host falls silent in the middle of a question, while the relay opens a session or
//! stands by: no answer, no error, the connection stays open.

use std::time::Duration;

use anyhow::{Context, Result};
use testbed::{Direction, Proxy};
use tokio_postgres::Client;

use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "silent-host",
    about: "a host that falls silent while a session is opened, or a standby looks, is given up",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

/// Long enough to fall silent before the answer to a question that was seen on the server.
const ANSWERS_AFTER: Duration = Duration::from_millis(300);
const NEXT_HOST_WITHIN: Duration = Duration::from_secs(45);
const NOT_READY_WITHIN: Duration = Duration::from_secs(30);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let silent = Proxy::start(stage.postgres.addr())?;
    let client = stage.client().await?;

    silent.delay(Direction::ToClient, ANSWERS_AFTER);
    let first = launch(&stage, &silent, Next::Host)?;
    asked(&client, "%pg_publication_tables%", &[]).await?;
    silent.freeze(Direction::Both);
    let took = wait::until("the next host is used", NEXT_HOST_WITHIN, async || {
        Ok(is(&first, "streaming"))
    });
    let took = took.await.with_context(|| first.log_text())?;
    figures.add("opened_ms", took.as_millis());

    silent.heal()?;
    let others = backends(&client).await?;
    let stuck = launch(&stage, &silent, Next::None)?;
    stands_by(&stuck).await?;
    let others = [others, backends(&client).await?].concat();
    let second = launch(&stage, &silent, Next::Host)?;
    stands_by(&second).await?;
    silent.delay(Direction::ToClient, ANSWERS_AFTER);
    asked(&client, "%pg_replication_slots%", &others).await?;
    silent.freeze(Direction::Both);
    first.program().kill9();
    let took = wait::until("the standby takes over", NEXT_HOST_WITHIN, async || {
        Ok(is(&second, "streaming"))
    });
    let took = took.await.with_context(|| second.log_text())?;
    figures.add("taken_over_ms", took.as_millis());
    wait::until("a blind standby says so", NOT_READY_WITHIN, async || {
        Ok(stuck.get("/ready")?.0 == 503)
    })
    .await?;
    second.stop().await?;
    Ok(())
}

/// Where a relay may turn to when the first host is silent.
enum Next {
    Host,
    None,
}

fn launch(stage: &Stage, silent: &Proxy, next: Next) -> Result<Relay> {
    let direct = format!("127.0.0.1:{}", stage.postgres.port());
    let hosts = match next {
        Next::Host => format!("127.0.0.1:{},{direct}", silent.port()),
        Next::None => format!("127.0.0.1:{}", silent.port()),
    };
    let url = stage.url().replace(&direct, &hosts);
    let flags = ["--postgres", &url, "--kafka", &stage.bootstrap()].map(str::to_owned);
    Relay::launch(&flags, &[], stage.folder())
}

fn is(relay: &Relay, state: &str) -> bool {
    relay
        .json("/status")
        .is_ok_and(|status| status["pipelines"][0]["state"] == state)
}

async fn stands_by(relay: &Relay) -> Result<()> {
    wait::until("it stands by", Duration::from_secs(30), async || {
        Ok(is(relay, "standby") && relay.get("/ready")?.0 == 200)
    })
    .await
    .with_context(|| relay.log_text())?;
    Ok(())
}

async fn backends(client: &Client) -> Result<Vec<i32>> {
    let sql = "SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity WHERE datname = $1";
    Ok(client.query_one(sql, &[&DATABASE]).await?.get(0))
}

/// Waits until a relay, none of `others`, has just asked this on its catalog connection, which a
/// standby renames.
async fn asked(client: &Client, question: &str, others: &[i32]) -> Result<()> {
    let sql = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name LIKE \
               'outboxd %' AND query LIKE $1 AND pid <> ALL ($2)";
    wait::until(
        "the question is asked",
        Duration::from_secs(30),
        async || {
            let row = client.query_one(sql, &[&question, &others]).await?;
            Ok(row.get::<_, bool>(0))
        },
    )
    .await?;
    Ok(())
}

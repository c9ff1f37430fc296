//! Postgres restarts again and again, and sessions are ended one by one: the relay comes back each
//! time, and needs nobody for that.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::StopMode;

use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;
use crate::wait;
use crate::writer::Writers;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "restart-storm",
    about: "five restarts of Postgres and twenty ended sessions under load, and nobody helps",
    group: Group::Proof,
    within: Duration::from_secs(400),
    run: |figures| Box::pin(run(figures)),
};

const RESTARTS: u32 = 5;
const ENDED_BETWEEN: u32 = 4;
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// The relay's sessions, and how to find them.
const SESSIONS: [(&str, &str); 2] = [
    ("walsender", "backend_type = 'walsender'"),
    ("catalog", "application_name = 'outboxd catalog'"),
];

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    let relay = stage.relay(&[]).await?;
    let writers = Writers::start(&stage.url(), 4, Duration::from_millis(4));
    let mut random = fastrand::Rng::with_seed(1);
    let mut ended = [0; SESSIONS.len()];
    for _ in 0..RESTARTS {
        publishes(&relay).await?;
        for _ in 0..ENDED_BETWEEN {
            let which = random.usize(..SESSIONS.len());
            end_session(&stage, which)
                .await
                .with_context(|| relay.log_text())?;
            ended[which] += 1;
            // The moment of the next fault is the experiment, not a wait for something.
            tokio::time::sleep(Duration::from_millis(random.u64(..400))).await;
        }
        stage.postgres.restart(StopMode::Fast)?;
    }
    relay.ready().await?;
    let sessions = relay.count("outboxd_sessions_total", "")?;
    writers.stop().await?;
    stage.caught_up(&relay).await?;
    nobody_was_asked(&relay)?;
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    for ((name, _), ended) in SESSIONS.iter().zip(ended) {
        ensure!(ended > 0, "no {name} was ended");
        figures.add(&format!("{name}s_ended"), ended);
    }
    ensure!(sessions > f64::from(RESTARTS), "only {sessions} sessions");
    figures.add("sessions", sessions);
    figures.add("rows", verdict.rows);
    Ok(())
}

/// Waits until it publishes something more: each restart hits a session in full swing.
async fn publishes(relay: &Relay) -> Result<()> {
    let published = || relay.count("outboxd_events_published_total", "");
    let mut before = None;
    wait::until("events flow", BACK_WITHIN, async || {
        let now = published()?;
        Ok(now > *before.get_or_insert(now))
    })
    .await
    .with_context(|| relay.log_text())?;
    Ok(())
}

/// Ends a session of the relay, as soon as there is one.
async fn end_session(stage: &Stage, which: usize) -> Result<()> {
    let (name, found) = SESSIONS[which];
    let end =
        format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {found}");
    wait::until(&format!("a {name} is ended"), BACK_WITHIN, async || {
        Ok(stage.value(&end)? != "0")
    })
    .await?;
    Ok(())
}

/// Errors are for what a person must act upon.
fn nobody_was_asked(relay: &Relay) -> Result<()> {
    let log = relay.log_text();
    let error = log.lines().find(|line| line.contains("\"ERROR\""));
    ensure!(error.is_none(), "it called for help: {error:?}");
    ensure!(log.contains("retrying"), "it had nothing to retry");
    Ok(())
}

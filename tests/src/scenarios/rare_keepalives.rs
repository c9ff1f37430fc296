//! A long `wal_sender_timeout` means rare keepalives, which are no reason to doubt an idle server.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "rare-keepalives",
    about: "an idle database with a wal_sender_timeout of 30 s: ready all the time",
    group: Group::Proof,
    within: Duration::from_secs(120),
    run: |figures| Box::pin(run(figures)),
};

/// Two keepalives.
const WATCHED: Duration = Duration::from_secs(35);
const LOOK: Duration = Duration::from_millis(250);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let env = [("OUTBOXD_POSTGRES_WAL_SENDER_TIMEOUT", "30s")];
    let relay = stage.launch_with(&[], &env)?;
    relay.ready().await?;
    let (began, mut looks) = (Instant::now(), 0);
    while began.elapsed() < WATCHED {
        // The time is what is tested, not a wait for something.
        tokio::time::sleep(LOOK).await;
        let (status, body) = relay.get("/ready")?;
        ensure!(status == 200, "not ready after {looks} looks: {body}");
        looks += 1;
    }
    figures.add("looks", looks);
    relay.stop().await?;
    Ok(())
}

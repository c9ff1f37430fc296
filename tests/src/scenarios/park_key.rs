//! A key whose event can't be published is parked, and released later, while it is written to all the
//! time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::feeds::{self, ids};
use crate::cluster;
use crate::letters::{Letter, letters, require_published};
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{Stage, TOPICS};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "park-key",
    about: "order of a key through park, crash, repair, replay and release, with 1 and 4 producers, while it is written to",
    group: Group::Proof,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(run(figures)),
};

const ENV: &[(&str, &str)] = &[
    ("OUTBOXD_TABLES_ON_DEAD_LETTER", "park-key"),
    ("RETRY_MAX", "1"),
];
/// Does not exist at first.
const MISSING: &str = "compliance.late";
const KEY: &str = "k-0";
const WITHIN: Duration = Duration::from_secs(60);
const REQUEST: &str = "0191d2f0-6a3e-7c11-8a53-2f1d6c0e9b77";

async fn run(figures: &mut Figures) -> Result<()> {
    for concurrency in ["1", "4"] {
        let parked = parked_and_released(concurrency).await;
        let parked = parked.with_context(|| format!("concurrency {concurrency}"))?;
        figures.add(&format!("parked_with_{concurrency}"), parked);
    }
    Ok(())
}

async fn parked_and_released(concurrency: &str) -> Result<usize> {
    let stage = Stage::builder().patient().start().await?;
    let flags = ["--concurrency", concurrency];
    let relay = stage.launch_with(&flags, ENV)?;
    let writer = Writer::start(&stage).await?;
    more_parked(&stage, 20)
        .await
        .with_context(|| relay.log_text())?;

    // A crash forgets nothing.
    relay.program().kill9();
    let relay = stage.launch_with(&flags, ENV)?;
    more_parked(&stage, 20)
        .await
        .with_context(|| relay.log_text())?;
    let replay = ["dlq", "replay", "--all", "--reason", "a try", "--yes"];
    let replayed = feeds::json(&stage, &replay)?;
    ensure!(replayed["left"]["parked"].as_u64() > Some(40), "{replayed}");

    // Too early.
    let release = [
        "dlq",
        "release",
        "--service",
        "outbox",
        "--key",
        KEY,
        "--yes",
    ];
    let again = feeds::json_of_failed(&stage, &[&release[..], &["--reason", "a try"]].concat())?;
    ensure!(
        again["parked"] == true && again["published"] == 0,
        "{again}"
    );
    ensure!(again["failed_again"].as_u64() > Some(0), "{again}");

    cluster::create_topic(&stage.bootstrap(), MISSING, 2, &[]).await?;
    let relay = released_through_a_crash(&stage, relay, &release, &flags).await?;
    let released = writer.written.load(Ordering::Relaxed);
    wait::until("it goes on", WITHIN, async || {
        Ok(writer.written.load(Ordering::Relaxed) > released + 50)
    })
    .await?;
    writer.stop().await?;
    stage.caught_up(&relay).await?;
    let stats = feeds::json(&stage, &["dlq", "stats"])?;
    ensure!(
        stats["open"] == Value::Array(Vec::new())
            && stats["parked_keys"] == Value::Array(Vec::new()),
        "{stats}"
    );
    relay.stop().await?;
    judge(&stage).await
}

/// The command is given, the relay dies in the middle of it, and it is given once more.
async fn released_through_a_crash(
    stage: &Stage,
    relay: Relay,
    release: &[&str],
    flags: &[&str],
) -> Result<Relay> {
    let release = [
        release,
        &["--reason", "the topic is there", "--request-id", REQUEST],
    ]
    .concat();
    feeds::json(stage, &[&release[..], &["--no-wait"]].concat())?;
    relay.program().kill9();
    let relay = stage.launch_with(flags, ENV)?;
    let released = feeds::json(stage, &release).with_context(|| relay.log_text())?;
    ensure!(
        released["repeated"] == true
            && released["parked"] == false
            && released["failed_again"] == 0,
        "{released}"
    );
    let left = &released["left"];
    ensure!(left["parked"] == 0 && left["no_events"] == 0, "{released}");
    Ok(relay)
}

/// Waits until so many more events of the key are parked.
async fn more_parked(stage: &Stage, events: usize) -> Result<()> {
    let parked = || -> Result<usize> {
        let of_key = |l: &&Letter| l.class == "parked";
        Ok(letters(stage)?.iter().filter(of_key).count())
    };
    let before = parked()?;
    wait::until("events are parked", WITHIN, async || {
        Ok(parked()? >= before + events)
    })
    .await?;
    Ok(())
}

/// Every event was published once and in the order of its key, and no letter is open.
async fn judge(stage: &Stage) -> Result<usize> {
    let mut topics = TOPICS.to_vec();
    topics.push(MISSING);
    require_published(
        stage,
        &topics,
        &ids(stage, "SELECT id::text FROM outbox").await?,
    )?;
    let letters = letters(stage)?;
    for letter in &letters {
        ensure!(letter.resolutions.len() == 1, "{letter:?}");
        ensure!(letter.record.0 == KEY, "of another key: {letter:?}");
    }
    // Order across topics, too: behind the first dead one, none of its key was published before the
    // release. Those that were parked are in the order in which they were written.
    let resolved_last: Vec<_> = letters
        .iter()
        .filter(|l| l.resolutions.iter().any(|(_, request)| request == REQUEST))
        .collect();
    ensure!(!resolved_last.is_empty(), "nothing was released");
    let failed = "SELECT count(*) FROM outbox WHERE state <> 'SENT'";
    ensure!(stage.value(failed)? == "0", "rows are not SENT");
    Ok(resolved_last.len())
}

/// Writes to ten keys. One of them has every fifth event for a topic that is not there.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<std::sync::atomic::AtomicU64>,
    task: JoinHandle<Result<()>>,
}

impl Writer {
    async fn start(stage: &Stage) -> Result<Self> {
        let client = stage.client().await?;
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&written));
        let task = tokio::spawn(async move {
            let sql = "INSERT INTO outbox (event_type, transfer_id, payload) \
                       VALUES ($1, $2, jsonb_build_object('n', $3::bigint))";
            for n in 0_i64.. {
                let topic = match (n % 2 == 0, n % 5 == 0) {
                    (true, true) => MISSING,
                    _ => TOPICS[usize::try_from(n % 3)?],
                };
                let key = match n % 2 == 0 {
                    true => KEY.to_owned(),
                    false => format!("k-{}", n % 19),
                };
                client.execute(sql, &[&topic, &key, &n]).await?;
                count.fetch_add(1, Ordering::Relaxed);
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                // The pace of a service, so that the key is written to in every step.
                tokio::time::sleep(Duration::from_millis(4)).await;
            }
            Ok(())
        });
        Ok(Self {
            stop,
            written,
            task,
        })
    }

    async fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

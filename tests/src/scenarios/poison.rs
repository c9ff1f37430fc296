//! Events that can't be published, for every reason, among many that can.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::acl;
use super::feeds::ids;
use crate::letters::{letters, require_published};
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS, UNROUTABLE};
use crate::{cluster, wait};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "poison",
    about: "1 % bad events of four kinds in 100,000: the good ones once, in order, at half the clean rate or more; the bad ones dead once",
    group: Group::Alone,
    within: Duration::from_secs(900),
    run: |figures| Box::pin(run(figures)),
};

const EVENTS: u32 = 100_000;
const WRITERS: u32 = 4;
const BAD_PERCENT: u32 = 1;
const KILLS: u32 = 4;
const RATIO_MIN: f64 = 0.5;
const DRAINED_WITHIN: Duration = Duration::from_secs(200);

const MISSING: &str = "transfers.gone";
const DENIED: &str = "transfers.denied";
const OVERSIZED: &str = "transfers.settled";
/// What is wrong with an event, and the class that its dead letter has.
const KINDS: [(&str, &str); 4] = [
    (OVERSIZED, "too-large"),
    (MISSING, "topic-missing"),
    (DENIED, "topic-denied"),
    (UNROUTABLE, "mapping/topic-not-allowed"),
];
const ENV: &[(&str, &str)] = &[("OUTBOXD_EVENT_MAX_BYTES", "8KiB"), ("RETRY_MAX", "5")];
const RETRY_MAX: u32 = 5;

const GOOD: &str = "ledger.posted";
/// Events that a relay publishes before it is killed.
const LIFE: f64 = 12_000.0;

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder()
        .patient()
        .kafka(acl::authorizing)
        .start()
        .await?;
    cluster::create_topic(&stage.bootstrap(), DENIED, 1, &[]).await?;
    acl::deny_writing(&stage, DENIED)?;
    let relay = stage.relay_with(ENV).await?;
    // The first figures of a broker are those of a cold one.
    rate(&stage, &relay, "warm", false).await?;
    let before = rate(&stage, &relay, "before", false).await?;
    let poisoned = rate(&stage, &relay, "poisoned", true).await?;
    let after = rate(&stage, &relay, "after", false).await?;
    let clean = (before + after) / 2.0;
    let ratio = poisoned / clean;
    figures.add("clean_per_s", format!("{clean:.0}"));
    figures.add("poisoned_per_s", format!("{poisoned:.0}"));
    figures.add("ratio", format!("{ratio:.2}"));
    stage.caught_up(&relay).await?;
    figures.add("dead", judge(&stage).await?);

    let relay = killed(&stage, relay).await?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    figures.add("dead_with_kills", judge(&stage).await?);
    ensure!(ratio >= RATIO_MIN, "only {ratio:.2} of the clean rate");
    Ok(())
}

/// Good events a second, from the first one written to the last one published.
async fn rate(stage: &Stage, relay: &Relay, phase: &str, poisoned: bool) -> Result<f64> {
    let count = || relay.count("outboxd_events_published_total", GOOD);
    let (before, good) = (count()?, f64::from(EVENTS - bad(poisoned)));
    let began = Instant::now();
    let writing = write(stage, phase, poisoned);
    wait::until(
        "all good events are published",
        DRAINED_WITHIN,
        async || Ok(count()? >= before + good),
    )
    .await
    .with_context(|| relay.log_text())?;
    let took = began.elapsed();
    writing.await??;
    Ok(good / took.as_secs_f64())
}

fn bad(poisoned: bool) -> u32 {
    u32::from(poisoned) * EVENTS * BAD_PERCENT / 100
}

/// Good and bad events while the relay is killed again and again. The last one lives.
async fn killed(stage: &Stage, first: Relay) -> Result<Relay> {
    let writing = write(stage, "killed", true);
    let mut relay = first;
    for _ in 0..KILLS {
        let count = || relay.count("outboxd_events_published_total", GOOD);
        let before = count()?;
        wait::until("a part is published", DRAINED_WITHIN, async || {
            Ok(count()? >= before + LIFE)
        })
        .await
        .with_context(|| relay.log_text())?;
        relay.program().kill9();
        relay = stage.relay_with(ENV).await?;
    }
    writing.await??;
    Ok(relay)
}

/// Several writers at the same time, each with keys of its own.
fn write(stage: &Stage, phase: &str, poisoned: bool) -> tokio::task::JoinHandle<Result<()>> {
    let each = EVENTS / WRITERS;
    let types = KINDS
        .map(|(event_type, _)| format!("'{event_type}'"))
        .join(", ");
    let block = |writer: u32| {
        format!(
            "DO $$ DECLARE t text; pad int; k text; BEGIN \
               FOR i IN 1..{each} LOOP \
                 t := '{GOOD}'; pad := 200; k := '{phase}-{writer}-' || i % 50; \
                 IF {poisoned} AND i % 100 = 37 THEN \
                   t := (ARRAY[{types}])[1 + i / 100 % 4]; \
                   pad := CASE t WHEN '{OVERSIZED}' THEN 9000 ELSE 200 END; \
                 END IF; \
                 INSERT INTO outbox (event_type, transfer_id, payload) VALUES \
                   (t, k, jsonb_build_object('n', i, 'pad', repeat('x', pad))); \
                 IF i % 5 = 0 THEN COMMIT; END IF; \
               END LOOP; END $$"
        )
    };
    let writer = |number: u32| {
        let (postgres, sql) = (Arc::clone(&stage.postgres), block(number));
        tokio::task::spawn_blocking(move || postgres.sql(DATABASE, &sql).map(drop))
    };
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();
    tokio::spawn(async move {
        for writer in writers {
            writer.await??;
        }
        Ok(())
    })
}

/// How many dead letters there are, once each for every bad event, and nothing else is wrong.
async fn judge(stage: &Stage) -> Result<usize> {
    let good = format!("SELECT id::text FROM outbox WHERE event_type = '{GOOD}'");
    require_published(stage, &TOPICS, &ids(stage, &good).await?)?;
    let letters = letters(stage)?;
    let mut dead = HashSet::new();
    for (event_type, class) in KINDS {
        let bad = format!("SELECT id::text FROM outbox WHERE event_type = '{event_type}'");
        let bad = ids(stage, &bad).await?;
        ensure!(!bad.is_empty(), "no {class}");
        dead.extend(bad.into_iter().map(|id| (id, class)));
    }
    for letter in &letters {
        let is_due = dead.remove(&(letter.id.clone(), letter.class.as_str()));
        ensure!(is_due, "wrong, or there twice: {letter:?}");
        let attempts = match letter.class.starts_with("topic-") {
            true => RETRY_MAX + 1,
            false => 1,
        };
        ensure!(letter.attempts == attempts && !letter.is_stub, "{letter:?}");
    }
    ensure!(dead.is_empty(), "{} bad events are nowhere", dead.len());
    let unmarked = format!(
        "SELECT count(*) FROM outbox WHERE state <> \
         CASE event_type WHEN '{GOOD}' THEN 'SENT' ELSE 'FAILED' END"
    );
    let unmarked = stage.value(&unmarked)?;
    ensure!(unmarked == "0", "{unmarked} rows have another state");
    Ok(letters.len())
}

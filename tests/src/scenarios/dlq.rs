//! What operators do with dead letters.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::feeds::{self, ids};
use crate::cluster;
use crate::letters::{letters, require_published};
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS, UNROUTABLE};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "dlq",
    about: "dead letters replayed, dead again, dropped; a repeated command is one; 20,000 replayed through kills exactly once",
    group: Group::Alone,
    within: Duration::from_secs(600),
    run: |figures| Box::pin(run(figures)),
};

const MISSING: &str = "compliance.late";
const MANY: u32 = 20_000;
const KILLS: u32 = 3;
const ENV: &[(&str, &str)] = &[
    ("RETRY_MAX", "1"),
    ("OUTBOXD_EVENT_MAX_BYTES", "8KiB"),
    ("OUTBOXD_DEAD_LETTER_MAX_BYTES", "32KiB"),
    ("OUTBOXD_DEAD_LETTER_MAX_PER_MINUTE", "100000"),
    // Many windows, so that a kill hits between them.
    ("OUTBOXD_BATCH_MAX_EVENTS", "500"),
];
const REQUESTS: [&str; 2] = [
    "0191d2f0-6a3e-7c11-8a53-2f1d6c0e9b77",
    "0191d2f0-6a3e-7c11-8a53-2f1d6c0e9b78",
];
const WITHIN: Duration = Duration::from_secs(90);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    stage.postgres.sql(DATABASE, "CREATE SEQUENCE written")?;
    let relay = stage.relay_with(ENV).await?;
    // One of each kind: topic missing, unmappable, too large, and too large for dead letters.
    for (event_type, pad) in [
        (MISSING, 1),
        (UNROUTABLE, 1),
        ("ledger.posted", 9000),
        ("ledger.posted", 50_000),
    ] {
        insert(&stage, event_type, pad, 1)?;
    }
    stage.caught_up(&relay).await?;
    seen_from_the_command_line(&stage)?;
    a_missing_topic_is_no_empty_one(&stage)?;
    fails_again(&stage)?;
    dropped(&stage)?;
    refused_commands(&stage)?;

    insert(&stage, MISSING, 1, MANY)?;
    stage.caught_up(&relay).await?;
    cluster::create_topic(&stage.bootstrap(), MISSING, 2, &[]).await?;
    let (relay, killed_at) = replayed_through_kills(&stage, relay).await?;
    for at in killed_at {
        figures.add("killed_at", at);
    }
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    figures.add("replayed", judge(&stage).await?);
    Ok(())
}

fn insert(stage: &Stage, event_type: &str, pad: u32, rows: u32) -> Result<()> {
    let sql = format!(
        "INSERT INTO outbox (event_type, transfer_id, payload) \
         SELECT '{event_type}', 'k-' || i % 50, \
           jsonb_build_object('n', nextval('written'), 'pad', repeat('x', {pad})) FROM generate_series(1, {rows}) i"
    );
    stage.postgres.sql(DATABASE, &sql)?;
    Ok(())
}

fn seen_from_the_command_line(stage: &Stage) -> Result<()> {
    let stats = feeds::json(stage, &["dlq", "stats"])?;
    let open = stats["open"].as_array().context("no groups")?;
    ensure!(open.len() == 3, "{stats}");
    let list = feeds::json(stage, &["dlq", "list", "--class", "too-large"])?;
    ensure!(list["found"] == 2, "{list}");
    let none = feeds::json(stage, &["dlq", "list", "--older-than", "1h"])?;
    ensure!(none["found"] == 0, "{none}");
    let limited = feeds::json(
        stage,
        &["dlq", "list", "--limit", "1", "--service", "outbox"],
    )?;
    ensure!(limited["found"] == 4, "{limited}");
    let place = limited["letters"][0]["place"]
        .as_str()
        .context("no place")?;
    let shown = feeds::json(stage, &["dlq", "show", place])?;
    ensure!(
        shown["letters"][0]["class"] == "topic-missing"
            && shown["letters"][0].get("payload").is_none(),
        "{shown}"
    );
    let payload = feeds::json(stage, &["dlq", "show", place, "--payload"])?;
    let payload = payload["letters"][0]["payload"].as_str();
    ensure!(
        payload.is_some_and(|p| p.contains("\"pad\"")),
        "{payload:?}"
    );
    Ok(())
}

fn a_missing_topic_is_no_empty_one(stage: &Stage) -> Result<()> {
    let elsewhere = [("OUTBOXD_TABLES_DEAD_LETTER_TOPIC", "nowhere")];
    for args in [&["dlq", "list"], &["dlq", "stats"]] {
        let refusal = feeds::command(stage, args, &elsewhere);
        let said = refusal.err().map(|e| e.to_string()).unwrap_or_default();
        ensure!(
            said.contains("may not be seen: nowhere") && said.contains("init --apply"),
            "{args:?}: {said}"
        );
    }
    Ok(())
}

/// Nothing is repaired: what is replayed is dead again, and what is no event stays.
fn fails_again(stage: &Stage) -> Result<()> {
    let before = letters(stage)?.len();
    let replay = ["dlq", "replay", "--all", "--reason", "a try"];
    let dry = feeds::json(stage, &replay)?;
    ensure!(dry["dry_run"] == true && dry["letters"] == 2, "{dry}");
    ensure!(
        letters(stage)?.len() == before,
        "a dry run has done something"
    );
    let replay = [&replay[..], &["--yes", "--request-id", REQUESTS[0]]].concat();
    let done = feeds::json_of_failed(stage, &replay)?;
    ensure!(
        done["failed_again"] == 2 && done["published"] == 0,
        "{done}"
    );
    ensure!(done["left"]["no_events"] == 2, "{done}");
    let again = feeds::json_of_failed(stage, &replay)?;
    ensure!(
        again["repeated"] == true && again["failed_again"] == 2,
        "{again}"
    );
    let letters = letters(stage)?;
    let of_request = letters.iter().filter(|l| l.request == REQUESTS[0]).count();
    ensure!(
        of_request == 2 && letters.len() == before + 2,
        "{letters:?}"
    );
    Ok(())
}

fn dropped(stage: &Stage) -> Result<()> {
    let drop = [
        "dlq",
        "drop",
        "--class",
        "too-large",
        "--reason",
        "a test",
        "--yes",
    ];
    let done = feeds::json(stage, &drop)?;
    ensure!(done["dropped"] == 2, "{done}");
    let list = feeds::json(stage, &["dlq", "list", "--class", "too-large", "--all"])?;
    let resolutions = list["letters"].as_array().context("no letters")?;
    let dropped = resolutions
        .iter()
        .filter(|l| l["resolution"]["kind"] == "dropped");
    ensure!(dropped.count() == 2, "{list}");
    let asked = "SELECT count(*) FROM outboxd.control WHERE reason = 'a test' \
                 AND requested_by = session_user";
    ensure!(stage.value(asked)? == "1", "the record is not complete");
    Ok(())
}

fn refused_commands(stage: &Stage) -> Result<()> {
    let requests = "SELECT count(*) FROM outboxd.control";
    let before = stage.value(requests)?;
    for (args, expected) in [
        (&["replay"][..], "nothing says which"),
        (
            &["replay", "outbox.dead-letter/0:99999999"],
            "no open dead letter",
        ),
        (&["drop", "--service", "nobody"], "no service"),
        (
            &["release", "--service", "outbox", "--key", "k"],
            "is not parked",
        ),
        (
            &["drop", "--all", "--request-id", REQUESTS[0]],
            "is another command",
        ),
    ] {
        let args = [&["dlq"], args, &["--reason", "a test", "--yes"]].concat();
        let refusal = feeds::command(stage, &args, &[]);
        let said = refusal.err().map(|e| e.to_string()).unwrap_or_default();
        ensure!(said.contains(expected), "{args:?}: {said}");
    }
    ensure!(stage.value(requests)? == before, "one was written down");
    Ok(())
}

/// The last relay, and how many letters were resolved at each kill.
async fn replayed_through_kills(stage: &Stage, first: Relay) -> Result<(Relay, Vec<usize>)> {
    let replay = [
        "dlq",
        "replay",
        "--class",
        "topic-missing",
        "--reason",
        "the topic is there",
    ];
    let replay = [&replay[..], &["--yes", "--request-id", REQUESTS[1]]].concat();
    feeds::json(stage, &[&replay[..], &["--no-wait"]].concat())?;
    let (mut relay, mut killed_at) = (first, Vec::new());
    for _ in 0..KILLS {
        let count = || relay.count("outboxd_replayed_events_total", "");
        wait::until("a part is replayed", WITHIN, async || {
            Ok(count().is_ok_and(|count| count >= 3000.0))
        })
        .await
        .with_context(|| relay.log_text())?;
        relay.program().kill9();
        killed_at.push(replayed(stage)?);
        relay = stage.launch_with(&[], ENV)?;
    }
    let done = feeds::json(stage, &replay).with_context(|| relay.log_text())?;
    // With the one from the beginning.
    let all = u64::from(MANY) + 1;
    ensure!(
        done["published"] == all && done["failed_again"] == 0,
        "{done}"
    );
    let earlier = ["dlq", "replay", "--all", "--reason", "a try", "--yes"];
    let earlier = [&earlier[..], &["--request-id", REQUESTS[0]]].concat();
    let earlier = feeds::json(stage, &earlier)?;
    ensure!(
        earlier["failed_again"] == 0,
        "both have been resolved since: {earlier}"
    );
    let partly = killed_at.iter().filter(|at| **at < MANY as usize).count();
    ensure!(partly > 0, "no kill hit the replay: {killed_at:?}");
    Ok((relay, killed_at))
}

fn replayed(stage: &Stage) -> Result<usize> {
    let by_it = |request: &String| request == REQUESTS[1];
    let letters = letters(stage)?;
    let replayed = letters
        .iter()
        .filter(|l| l.resolutions.iter().any(|(_, r)| by_it(r)));
    Ok(replayed.count())
}

async fn judge(stage: &Stage) -> Result<usize> {
    let mut topics = TOPICS.to_vec();
    topics.push(MISSING);
    let sql = format!("SELECT id::text FROM outbox WHERE event_type = '{MISSING}'");
    let expected: HashSet<String> = ids(stage, &sql).await?;
    ensure!(expected.len() == MANY as usize + 1, "{}", expected.len());
    require_published(stage, &topics, &expected)?;
    let twice = letters(stage)?
        .iter()
        .filter(|l| l.resolutions.len() > 1)
        .count();
    ensure!(twice == 0, "{twice} letters are resolved twice");
    let sent =
        format!("SELECT count(*) FROM outbox WHERE (state = 'SENT') <> (event_type = '{MISSING}')");
    ensure!(stage.value(&sent)? == "0", "rows have another state");
    Ok(expected.len())
}

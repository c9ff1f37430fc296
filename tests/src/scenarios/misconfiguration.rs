//! Twelve wrong set-ups: each gets a message that names cause and remedy, from `doctor` and from
//! `run`, with the documented exit code or state.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::publication_replaced::accept;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, outboxd};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "misconfiguration",
    about: "twelve wrong set-ups are named with cause and remedy, and need no restart once mended",
    group: Group::Short,
    within: Duration::from_secs(400),
    run: |figures| Box::pin(run(figures)),
};

/// Exit code of a wrong configuration (docs/operations.md).
const CONFIG: i32 = 78;
/// Exit code of a check that failed.
const FAILED: i32 = 1;

/// A wrong set-up on the shared stage: how it is made, what is said, and how it is mended.
struct Case {
    name: &'static str,
    break_it: &'static str,
    /// Flags beside the usual ones.
    flags: &'static [&'static str],
    code: &'static str,
    mend_it: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "role without REPLICATION",
        break_it: "CREATE ROLE plain LOGIN PASSWORD 'outboxd'",
        flags: &["--role", "plain"],
        code: "replication-denied",
        mend_it: "ALTER ROLE plain REPLICATION; GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO plain; \
                  GRANT SELECT (id, state), UPDATE (state, attempts, last_error) ON outbox TO plain",
    },
    Case {
        name: "role that may not write the state",
        break_it: "REVOKE UPDATE (state) ON outbox FROM plain",
        flags: &["--role", "plain"],
        code: "permission-denied",
        mend_it: "GRANT UPDATE (state) ON outbox TO plain",
    },
    Case {
        name: "column of the state missing",
        break_it: "ALTER TABLE outbox RENAME state TO status",
        flags: &[],
        code: "write-back-columns",
        mend_it: "ALTER TABLE outbox RENAME status TO state",
    },
    Case {
        name: "publication missing",
        break_it: "ALTER PUBLICATION outboxd RENAME TO other",
        flags: &[],
        code: "publication-missing",
        mend_it: "ALTER PUBLICATION other RENAME TO outboxd",
    },
    Case {
        name: "table not in the publication",
        break_it: "ALTER PUBLICATION outboxd DROP TABLE outbox",
        flags: &[],
        code: "publication-table",
        mend_it: "ALTER PUBLICATION outboxd ADD TABLE outbox",
    },
    Case {
        name: "publication without inserts",
        break_it: "ALTER PUBLICATION outboxd SET (publish = 'delete')",
        flags: &[],
        code: "publication-insert",
        mend_it: "ALTER PUBLICATION outboxd SET (publish = 'insert')",
    },
    Case {
        name: "slot of another plugin",
        break_it: "SELECT pg_create_logical_replication_slot('foreign', 'test_decoding')",
        flags: &["--slot", "foreign"],
        code: "slot-foreign",
        mend_it: "SELECT pg_drop_replication_slot('foreign')",
    },
];

async fn run(figures: &mut Figures) -> Result<()> {
    let mut cases = 0;
    let stage = Stage::start().await?;
    control_missing(&stage).context("schema outboxd missing")?;
    for case in CASES {
        check(&stage, case)
            .await
            .with_context(|| case.name.to_owned())?;
        cases += 1;
    }
    wrong_password(&stage).await.context("wrong password")?;
    broker_unreachable(&stage)
        .await
        .context("broker unreachable")?;
    topic_missing(&stage).await.context("topic missing")?;
    unknown_key(&stage).context("unknown key")?;
    bad_toml(&stage).context("bad TOML")?;
    slot_lost().await.context("slot lost")?;
    wal_level().await.context("wal_level")?;
    cases += 7;
    figures.add("cases", cases);
    Ok(())
}

/// The usual flags, with `--role NAME` replaced by that role's URL.
fn flags(stage: &Stage, case: &Case) -> Vec<String> {
    let (url, rest) = match case.flags {
        ["--role", role, rest @ ..] => (stage.postgres.url(role, DATABASE), rest),
        rest => (stage.url(), rest),
    };
    let mut flags = vec!["--postgres".to_owned(), url];
    flags.extend(["--kafka".to_owned(), stage.bootstrap()]);
    flags.extend(rest.iter().map(|flag| (*flag).to_owned()));
    flags
}

async fn check(stage: &Stage, case: &Case) -> Result<()> {
    stage.postgres.sql(DATABASE, case.break_it)?;
    let flags = flags(stage, case);
    doctor_fails(&flags, case.code)?;
    let relay = Relay::launch(&flags, &[], stage.folder())?;
    run_says(&relay, case.code, "stopped").await?;
    stage.postgres.sql(DATABASE, case.mend_it)?;
    if case.code == "slot-foreign" {
        // Its slot is gone, so it makes one of its own: a first start under another name, which
        // the checkpoint of the first slot forbids.
        return run_says(&relay, "foreign-system", "stopped").await;
    }
    let relay = match case.code.starts_with("publication") {
        // Rows may have been written meanwhile that the stream does not show.
        true => {
            run_says(&relay, "publication-changed", "stopped").await?;
            accept(stage, relay).await?
        }
        false => relay,
    };
    relay.ready().await.context("it does not go on by itself")?;
    relay.stop().await?;
    Ok(())
}

pub(super) fn outboxd_output(args: &[String]) -> Result<Output> {
    Ok(Command::new(outboxd()?).args(args).output()?)
}

pub(super) fn text(output: &Output) -> String {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    lossy(&output.stdout) + &lossy(&output.stderr)
}

/// The remedy that belongs to a code, as `explain` gives it.
fn remedy(code: &str) -> Result<&'static str> {
    let found = outboxd::failure::find(code).with_context(|| format!("no code {code}"))?;
    Ok(found.remedy)
}

/// `doctor` must fail, and give the remedy.
pub(super) fn doctor_fails(flags: &[String], code: &str) -> Result<()> {
    let mut args = vec!["doctor".to_owned()];
    args.extend(flags.iter().cloned());
    let output = outboxd_output(&args)?;
    let said = text(&output);
    ensure!(
        output.status.code() == Some(FAILED),
        "doctor: {}\n{said}",
        output.status
    );
    // The first words of the remedy: doctor may fill in names behind them.
    let remedy: String = remedy(code)?.chars().take(20).collect();
    let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(
        flat.contains(&remedy),
        "doctor does not say {remedy:?}:\n{said}"
    );
    Ok(())
}

/// `run` must stay up, answer 503 with the code, and log code and remedy.
pub(super) async fn run_says(relay: &Relay, code: &str, state: &str) -> Result<()> {
    let said = wait::until("the reason is shown", Duration::from_secs(40), async || {
        let ready = relay.get("/ready");
        Ok(ready.is_ok_and(|(status, body)| status == 503 && body.contains(&format!("[{code}]"))))
    });
    said.await
        .with_context(|| format!("{code}: {:?}\n{}", relay.get("/ready"), relay.log_text()))?;
    let status = relay.json("/status")?;
    let pipeline = &status["pipelines"][0];
    ensure!(pipeline["state"] == state, "{status}");
    ensure!(pipeline["last_failure"]["code"] == code, "{status}");
    ensure!(
        pipeline["last_failure"]["remedy"] == remedy(code)?,
        "{status}"
    );
    ensure!(relay.get("/live")?.0 == 200, "not alive");
    // The log's line comes right after.
    let logged = wait::until("the log names it", Duration::from_secs(5), async || {
        Ok(relay.log_text().contains(code))
    });
    logged.await.context(code.to_owned())?;
    Ok(())
}

/// Events flow, so it is a warning: only what operators ask for needs that schema.
fn control_missing(stage: &Stage) -> Result<()> {
    let rename = |from, to| format!("ALTER SCHEMA {from} RENAME TO {to}");
    stage
        .postgres
        .sql(DATABASE, &rename("outboxd", "elsewhere"))?;
    let mut doctor = vec!["doctor".to_owned()];
    doctor.extend(stage.flags());
    let said = text(&outboxd_output(&doctor)?);
    stage
        .postgres
        .sql(DATABASE, &rename("elsewhere", "outboxd"))?;
    let code = "control-missing";
    let is_told = said.contains("WARN  control ") && said.contains(&format!("[{code}]"));
    ensure!(is_told && said.contains(remedy(code)?), "{said}");
    let said = text(&outboxd_output(&doctor)?);
    ensure!(!said.contains(code), "{said}");
    Ok(())
}

async fn wrong_password(stage: &Stage) -> Result<()> {
    let url = stage.url().replace(testbed::PASSWORD, "wrong");
    let flags = ["--postgres", &url, "--kafka", &stage.bootstrap()].map(str::to_owned);
    doctor_fails(&flags, "postgres-auth")?;
    let relay = Relay::launch(&flags, &[], stage.folder())?;
    run_says(&relay, "postgres-auth", "stopped").await
}

async fn broker_unreachable(stage: &Stage) -> Result<()> {
    let flags = ["--postgres", &stage.url(), "--kafka", "127.0.0.1:9"].map(str::to_owned);
    doctor_fails(&flags, "kafka-unreachable")?;
    let relay = Relay::launch(&flags, &[], stage.folder())?;
    run_says(&relay, "kafka-unreachable", "retrying").await
}

/// The type of an event names its topic, so `run` meets a missing one with the first such event.
async fn topic_missing(stage: &Stage) -> Result<()> {
    let insert = "INSERT INTO outbox (event_type, payload) VALUES ('transfers.unknown', '{}')";
    let mut doctor = stage.flags();
    doctor.extend(["--topic".to_owned(), "transfers.unknown".to_owned()]);
    doctor_fails(&doctor, "topic-missing")?;
    let relay = stage.relay(&[]).await?;
    stage.postgres.sql(DATABASE, insert)?;
    let dead = r#"class="topic-missing"} 1"#;
    wait::until("the dead letter", Duration::from_secs(30), async || {
        Ok(relay.get("/metrics")?.1.contains(dead))
    })
    .await?;
    relay.stop().await?;
    Ok(())
}

/// A configuration file that every command refuses in the same words.
fn refused(stage: &Stage, toml: &str, words: &[&str]) -> Result<()> {
    let path = stage.folder().join("wrong.toml");
    std::fs::write(&path, toml)?;
    for command in [&["run"][..], &["doctor"], &["config", "check"]] {
        let mut args: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        args.extend(["--config".to_owned(), path.display().to_string()]);
        let output = outboxd_output(&args)?;
        let said = text(&output);
        ensure!(
            output.status.code() == Some(CONFIG),
            "{command:?}: {}\n{said}",
            output.status
        );
        for word in words {
            ensure!(
                said.contains(word),
                "{command:?} does not say {word:?}:\n{said}"
            );
        }
    }
    Ok(())
}

fn unknown_key(stage: &Stage) -> Result<()> {
    let toml = "[[pipelines]]\nname = \"outbox\"\n[pipelines.batch]\nmax_event = 3\n";
    refused(stage, toml, &["max_event", "max_events"])
}

fn bad_toml(stage: &Stage) -> Result<()> {
    refused(stage, "[[pipelines]\nname = 3\n", &["wrong.toml"])
}

/// The server keeps less WAL than is written while the relay is away.
async fn slot_lost() -> Result<()> {
    let stage = Stage::builder()
        .postgres(|p| {
            p.setting("max_slot_wal_keep_size", "1MB")
                .setting("min_wal_size", "32MB")
                .setting("max_wal_size", "32MB")
        })
        .start()
        .await?;
    let churn = "CREATE TABLE churn AS SELECT repeat('x', 1000) FROM generate_series(1, 30000)";
    stage.postgres.sql(DATABASE, churn)?;
    for _ in 0..5 {
        stage.postgres.sql(DATABASE, "SELECT pg_switch_wal()")?;
        stage.postgres.sql(DATABASE, "CHECKPOINT")?;
    }
    if stage.value("SELECT wal_status FROM pg_replication_slots")? != "lost" {
        bail!("the server did not give the slot up");
    }
    doctor_fails(&stage.flags(), "slot-lost")?;
    run_says(&stage.launch(&[])?, "slot-lost", "stopped").await
}

async fn wal_level() -> Result<()> {
    let stage = Stage::builder()
        .postgres(|p| p.setting("wal_level", "replica"))
        .bare()
        .start()
        .await?;
    doctor_fails(&stage.flags(), "wal-level")?;
    run_says(&stage.launch(&[])?, "wal-level", "stopped").await?;
    Ok(())
}

//! Publication and table are changed under the relay, and while it is away: it stops before it
//! confirms anything beyond the change, or deals with it rightly.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::checkpoints;
use super::misconfiguration::run_says;
use super::publication_replaced::accept;
use super::stopped::{flowing, stops};
use crate::oracle::{self, Verdict};
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "publication-changes",
    about: "tables, columns and partitions leave the publication: stopped, or dealt with rightly",
    group: Group::Proof,
    within: Duration::from_secs(600),
    run: |figures| Box::pin(run(figures)),
};

/// Events that are written while the publication passes them over.
const GAP: u32 = 5;

/// A change that makes the server pass rows over, or cut them short.
struct Narrowing {
    name: &'static str,
    change: &'static str,
    code: &'static str,
    mend: &'static str,
}

const NARROWINGS: &[Narrowing] = &[
    Narrowing {
        name: "table dropped from the publication",
        change: "ALTER PUBLICATION outboxd DROP TABLE outbox",
        code: "publication-table",
        mend: "ALTER PUBLICATION outboxd ADD TABLE outbox",
    },
    Narrowing {
        name: "publish = 'update'",
        change: "ALTER PUBLICATION outboxd SET (publish = 'update')",
        code: "publication-insert",
        mend: "ALTER PUBLICATION outboxd SET (publish = 'insert')",
    },
];

/// Rows that come without a column that is needed: what has been written like that can't become an
/// event, whatever is mended later.
const SHORTENINGS: &[Narrowing] = &[
    Narrowing {
        name: "column list",
        change: "ALTER PUBLICATION outboxd SET TABLE outbox (id, event_type)",
        code: "publication-changed",
        mend: "ALTER PUBLICATION outboxd SET TABLE outbox",
    },
    Narrowing {
        name: "column dropped",
        change: "ALTER TABLE outbox DROP COLUMN payload",
        code: "mapping",
        mend: "ALTER TABLE outbox ADD COLUMN payload jsonb NOT NULL DEFAULT '{}'",
    },
];

async fn run(figures: &mut Figures) -> Result<()> {
    let verdict = narrowed().await?;
    figures.add("rows", verdict.rows);
    figures.add("reported_gaps", verdict.lost);
    let verdict = reshaped().await?;
    figures.add("rows_reshaped", verdict.rows);
    let verdict = partitions().await?;
    figures.add("rows_partitioned", verdict.rows);
    Ok(())
}

/// What the stops were about is missing, and nothing else.
async fn narrowed() -> Result<Verdict> {
    let stage = Stage::builder().patient().start().await?;
    let mut gaps = 0;
    for narrowing in NARROWINGS {
        running(&stage, narrowing)
            .await
            .with_context(|| format!("{}, running", narrowing.name))?;
        away(&stage, narrowing)
            .await
            .with_context(|| format!("{}, away", narrowing.name))?;
        gaps += 2;
    }
    for shortening in SHORTENINGS {
        shortened(&stage, shortening)
            .await
            .context(shortening.name)?;
        gaps += 1;
    }
    let verdict = oracle::judge(&stage).await?;
    let wrong = || format!("{verdict}: {:?} {:?}", verdict.examples, verdict.repeats);
    ensure!(verdict.lost == u64::from(gaps * GAP), "{}", wrong());
    let rest = verdict.duplicated + verdict.misordered + verdict.aborted_seen;
    ensure!(rest == 0, "{}", wrong());
    Ok(verdict)
}

async fn running(stage: &Stage, narrowing: &Narrowing) -> Result<()> {
    let relay = flowing(stage, &[]).await?;
    stage.postgres.sql(DATABASE, narrowing.change)?;
    let changed_at = stage.value("SELECT pg_current_wal_insert_lsn()")?;
    // Before the relay can have looked.
    stage.insert(GAP)?;
    stopped_before(stage, &relay, narrowing.code, &changed_at).await?;
    stage.postgres.sql(DATABASE, narrowing.mend)?;
    goes_on(stage, relay).await
}

async fn away(stage: &Stage, narrowing: &Narrowing) -> Result<()> {
    flowing(stage, &[]).await?.stop().await?;
    stage.postgres.sql(DATABASE, narrowing.change)?;
    let changed_at = stage.value("SELECT pg_current_wal_insert_lsn()")?;
    stage.insert(GAP)?;
    let relay = stage.launch(&[])?;
    stopped_before(stage, &relay, narrowing.code, &changed_at).await?;
    stage.postgres.sql(DATABASE, narrowing.mend)?;
    goes_on(stage, relay).await
}

/// It stops, and the slot still holds everything from the change on.
async fn stopped_before(stage: &Stage, relay: &Relay, code: &str, change: &str) -> Result<()> {
    stops(stage, relay, code).await?;
    let confirmed = stage.confirmed()?;
    let holds = format!("SELECT '{confirmed}'::pg_lsn <= '{change}'");
    ensure!(
        stage.value(&holds)? == "t",
        "confirmed {confirmed}, beyond the change at {change}"
    );
    Ok(())
}

/// What was passed over is for a person to find, so a person has to let it go on.
async fn goes_on(stage: &Stage, relay: Relay) -> Result<()> {
    let relay = accepted(stage, relay).await?;
    stage.insert(3)?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    Ok(())
}

async fn accepted(stage: &Stage, relay: Relay) -> Result<Relay> {
    run_says(&relay, "publication-changed", "stopped").await?;
    accept(stage, relay).await
}

/// Events without payload, as many as a gap.
const SHORT: &str = "INSERT INTO outbox (event_type) \
                     SELECT 'transfers.settled' FROM generate_series(1, 5)";

/// The rows stay short in the WAL, so the way on is a new slot behind them.
async fn shortened(stage: &Stage, shortening: &Narrowing) -> Result<()> {
    let relay = flowing(stage, &[]).await?;
    stage.postgres.sql(DATABASE, shortening.change)?;
    let changed_at = stage.value("SELECT pg_current_wal_insert_lsn()")?;
    let has_payload = "SELECT count(*) FROM pg_attribute \
                       WHERE attrelid = 'outbox'::regclass AND attname = 'payload'";
    match stage.value(has_payload)?.as_str() {
        "0" => drop(stage.postgres.sql(DATABASE, SHORT)?),
        _ => stage.insert(GAP)?,
    }
    stopped_before(stage, &relay, shortening.code, &changed_at).await?;
    relay.stop().await?;
    stage.postgres.sql(DATABASE, shortening.mend)?;
    stage.drop_slot().await?;
    checkpoints::delete(stage).await?;
    stage.init(&[])?;
    flowing(stage, &[]).await?.stop().await?;
    Ok(())
}

/// Changes of the table that need nothing, or a line of configuration.
async fn reshaped() -> Result<Verdict> {
    let stage = Stage::builder().patient().start().await?;
    let relay = flowing(&stage, &[]).await?;
    for change in [
        "ALTER TABLE outbox ADD COLUMN tenant text DEFAULT 'none'",
        "ALTER TABLE outbox ALTER COLUMN payload TYPE text USING payload::text",
        // Rewrites the table: no row of it is an event again.
        "ALTER TABLE outbox ALTER COLUMN id DROP DEFAULT, ALTER COLUMN id TYPE text, \
         ALTER COLUMN id SET DEFAULT gen_random_uuid()::text",
        "ALTER TABLE outbox DROP COLUMN last_error",
    ] {
        stage.insert(GAP)?;
        stage.postgres.sql(DATABASE, change)?;
        stage.insert(GAP)?;
        stage.caught_up(&relay).await.context(change)?;
    }
    stage
        .postgres
        .sql(DATABASE, "ALTER TABLE outbox RENAME event_type TO kind")?;
    let renamed_at = stage.value("SELECT pg_current_wal_insert_lsn()")?;
    let insert = "INSERT INTO outbox (kind, payload) VALUES ('transfers.settled', '{}')";
    stage.postgres.sql(DATABASE, insert)?;
    stopped_before(&stage, &relay, "mapping", &renamed_at).await?;
    relay.stop().await?;
    let env = [("OUTBOXD_TABLES_COLUMNS_EVENT_TYPE", "kind")];
    let relay = Relay::launch(&stage.flags(), &env, stage.folder())?;
    stage.postgres.sql(DATABASE, insert)?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    // Under the name that the comparison knows.
    stage
        .postgres
        .sql(DATABASE, "ALTER TABLE outbox RENAME kind TO event_type")?;
    oracle::require_exact(&stage).await
}

const PARTITIONED: &str = "CREATE TABLE outbox ( \
      id uuid DEFAULT gen_random_uuid(), seq bigint GENERATED ALWAYS AS IDENTITY, \
      event_type text NOT NULL, transfer_id text, payload jsonb NOT NULL, \
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(), day int NOT NULL DEFAULT 1, \
      state text NOT NULL DEFAULT 'PENDING', \
      PRIMARY KEY (id, day)) PARTITION BY RANGE (day); \
    CREATE TABLE outbox_1 PARTITION OF outbox FOR VALUES FROM (1) TO (2)";

/// Partitions come and go; those of the published root need nothing, and a publication that loses
/// the root stops the relay.
async fn partitions() -> Result<Verdict> {
    let stage = Stage::builder().patient().bare().start().await?;
    stage.postgres.sql(DATABASE, PARTITIONED)?;
    stage.init(&[])?;
    let mut relay = flowing(&stage, &[]).await?;
    let into = |table: &str, day: u32| {
        format!(
            "INSERT INTO {table} (event_type, payload, day) \
             SELECT 'transfers.settled', '{{}}', {day} FROM generate_series(1, {GAP})"
        )
    };
    stage.postgres.sql(
        DATABASE,
        "CREATE TABLE outbox_2 PARTITION OF outbox FOR VALUES FROM (2) TO (3); \
         CREATE TABLE outbox_3 (LIKE outbox INCLUDING DEFAULTS); \
         ALTER TABLE outbox_3 ALTER seq SET NOT NULL; \
         ALTER TABLE outbox ATTACH PARTITION outbox_3 FOR VALUES FROM (3) TO (4)",
    )?;
    for (table, day) in [("outbox", 1), ("outbox", 2), ("outbox", 3)] {
        stage.postgres.sql(DATABASE, &into(table, day))?;
    }
    stage.caught_up(&relay).await?;
    let changes = [
        (
            "ALTER PUBLICATION outboxd SET TABLE outbox_1",
            "ALTER PUBLICATION outboxd SET TABLE outbox",
        ),
        (
            "ALTER PUBLICATION outboxd SET (publish_via_partition_root = false)",
            "ALTER PUBLICATION outboxd SET (publish_via_partition_root = true)",
        ),
    ];
    for (change, mend) in changes {
        stage.postgres.sql(DATABASE, change)?;
        let changed_at = stage.value("SELECT pg_current_wal_insert_lsn()")?;
        stopped_before(&stage, &relay, "publication-table", &changed_at)
            .await
            .context(change)?;
        stage.postgres.sql(DATABASE, mend)?;
        relay = accepted(&stage, relay).await?;
        stage.insert(3)?;
        stage.caught_up(&relay).await?;
    }
    relay.stop().await?;
    oracle::require_exact(&stage).await
}

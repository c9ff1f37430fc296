//! Alert rules and dashboard on a real Prometheus, driven by real faults.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::feeds;
use crate::dashboard;
use crate::prometheus::{Prometheus, hastened, ranges};
use crate::relay::{self, Relay};
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::{cluster, promql, wait};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "alerts",
    about: "nine alerts fire by real faults and are over once these are repaired, on a real Prometheus; every query of the dashboard answers",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

const RULES: &str = include_str!("../../../docs/alerts/outboxd.rules.yml");
const WITHIN: Duration = Duration::from_secs(60);
const ENV: &[(&str, &str)] = &[
    ("OUTBOXD_SLA_BACKLOG", "20"),
    ("OUTBOXD_SLA_PUBLISH_LAG", "2s"),
    ("OUTBOXD_TABLES_ON_DEAD_LETTER", "park-key"),
    ("RETRY_MAX", "0"),
];
const SLA_BACKLOG: u32 = 20;
/// Half of it makes an alert, all of it loses the slot.
const WAL_KEEP: &str = "64MB";
/// Scrapes that a busy machine answers late look the same.
const BUSY: [&str; 2] = ["OutboxdRelayDown", "OutboxdNoActiveRelay"];
/// Does not exist at first.
const MISSING: &str = "compliance.late";

struct Scene {
    stage: Stage,
    admin: SocketAddr,
    prometheus: Prometheus,
    /// Alerts that have fired.
    fired: BTreeSet<String>,
}

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder()
        .patient()
        .postgres(|p| p.setting("max_slot_wal_keep_size", WAL_KEEP))
        .start()
        .await?;
    let admin = relay::free_address()?;
    let prometheus = Prometheus::start(stage.folder(), &hastened(RULES), &[admin]).await?;
    let mut scene = Scene {
        stage,
        admin,
        prometheus,
        fired: BTreeSet::new(),
    };
    let relay = scene.relay()?;
    relay.ready().await?;
    scene.stage.insert(SLA_BACKLOG)?;
    scene.stage.caught_up(&relay).await?;
    scene.quiet("at the beginning").await?;

    scene
        .broker_silent()
        .await
        .with_context(|| relay.log_text())?;
    scene.key_parked().await.with_context(|| relay.log_text())?;
    figures.add("panels", scene.dashboard_answers()?);
    scene.relay_and_slot_lost(relay).await?;
    figures.add("alerts", scene.fired.len());
    Ok(())
}

impl Scene {
    fn relay(&self) -> Result<Relay> {
        let flags = self.stage.relay_flags();
        Relay::launch_at(self.admin, &flags, ENV, self.stage.folder())
    }

    /// More events than the SLA allows wait for a silent broker, beside them much other WAL.
    async fn broker_silent(&mut self) -> Result<()> {
        self.stage.kafka.pause()?;
        self.stage.insert(SLA_BACKLOG + 1)?;
        let wal = "SELECT count(pg_logical_emit_message(false, 'alerts', repeat('x', 1000000))) \
                   FROM generate_series(1, 40)";
        self.stage.value(wal)?;
        self.fires(&[
            "OutboxdBacklogOverSla",
            "OutboxdPublishLagOverSla",
            "OutboxdSlotWalHigh",
            "OutboxdNotReady",
        ])
        .await?;
        self.stage.kafka.resume()?;
        self.quiet("once the broker answers").await
    }

    /// The topic of an event is missing, and its key waits for a person.
    async fn key_parked(&mut self) -> Result<()> {
        let sql = format!(
            "INSERT INTO outbox (event_type, transfer_id, payload) VALUES ('{MISSING}', 'k', '{{}}')"
        );
        self.stage.postgres.sql(DATABASE, &sql)?;
        self.fires(&["OutboxdDeadLetters", "OutboxdParkedKeys"])
            .await?;
        cluster::create_topic(&self.stage.bootstrap(), MISSING, 2, &[]).await?;
        let release = ["dlq", "release", "--service", "outbox", "--key", "k"];
        let why = ["--reason", "the topic is there", "--yes"];
        let done = feeds::json(&self.stage, &[&release[..], &why].concat())?;
        ensure!(done["published"] == 1 && done["parked"] == false, "{done}");
        self.quiet("once the key is released").await
    }

    /// The relay is killed and its slot dropped; the next one stops until the slot is repaired.
    async fn relay_and_slot_lost(&mut self, relay: Relay) -> Result<()> {
        relay.program().kill9();
        self.fires(&["OutboxdRelayDown", "OutboxdNoActiveRelay"])
            .await?;
        self.stage.drop_slot().await?;
        let relay = self.relay()?;
        self.fires(&["OutboxdSlotLost"])
            .await
            .with_context(|| relay.log_text())?;
        feeds::json(&self.stage, &["repair", "--apply"])?;
        relay.ready().await?;
        self.quiet("once the slot is repaired").await?;
        relay.stop().await?;
        Ok(())
    }

    /// Waits until all of these have fired, and no other has meanwhile.
    async fn fires(&mut self, expected: &[&str]) -> Result<()> {
        let mut missing: BTreeSet<&str> = expected.iter().copied().collect();
        let fired = wait::until("the alerts fire", WITHIN, async || {
            let firing = self.prometheus.firing()?;
            for alert in &firing {
                let name = alert["labels"]["alertname"].as_str().context("no name")?;
                let is_known = expected.contains(&name) || self.fired.contains(name);
                ensure!(
                    is_known || BUSY.contains(&name),
                    "another alert fires: {alert}"
                );
                ensure!(is_legible(alert), "an annotation is no text: {alert}");
                missing.remove(name);
            }
            Ok(missing.is_empty())
        });
        fired.await.with_context(|| format!("{missing:?}"))?;
        self.fired
            .extend(expected.iter().map(|name| (*name).to_owned()));
        Ok(())
    }

    /// Waits until no alert is firing.
    async fn quiet(&self, when: &str) -> Result<()> {
        let quiet = wait::until("no alert is firing", WITHIN, async || {
            // Without it the server notes at most four times a minute from where it needs WAL.
            self.stage.value("SELECT pg_log_standby_snapshot()")?;
            let is_up = self.prometheus.query("up == 1")?.len() == 1;
            Ok(is_up && self.prometheus.firing()?.is_empty())
        });
        let firing = || format!("{when}: {:?}", self.prometheus.firing());
        quiet.await.map(|_| ()).with_context(firing)
    }

    /// How many panels' queries Prometheus answers: all of them.
    fn dashboard_answers(&self) -> Result<usize> {
        let queries = dashboard::queries()?;
        for query in &queries {
            let query = ranges(&dashboard::with_all(query));
            let samples = self.prometheus.query(&query)?;
            ensure!(
                !samples.is_empty() || !promql::is_always_answered(&query),
                "the dashboard's query gives nothing: {query}"
            );
        }
        Ok(queries.len())
    }
}

/// Each template of the annotations gave a text.
fn is_legible(alert: &Value) -> bool {
    let Some(annotations) = alert["annotations"].as_object() else {
        return false;
    };
    let mut texts = annotations.values().filter_map(Value::as_str);
    texts.all(|text| !text.contains("<error") && !text.contains("<no value>"))
}

//! Roles, principals, doors and secrets on servers that ask who is there.
//!
//! Postgres with TLS and passwords, Kafka with an authorizer, SASL/SCRAM and client certificates; every
//! role and principal has exactly what `init` and `acl` give it, and everything is done with these.

mod brokers;
mod doors;
mod household;
mod roles;
mod strangers;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::household::{Household, PUBLISHED};
use super::feeds::none_pending;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::{cluster, wait};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "security",
    about: "least roles in Postgres and least rights in Kafka are enough, strangers get nowhere, secrets show nowhere and may change",
    group: Group::Proof,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(run(figures)),
};

const WITHIN: Duration = Duration::from_secs(30);
/// A type whose topic does not exist.
const LATE: &str = "compliance.late";

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder()
        .patient()
        .postgres(testbed::PostgresBuilder::tls)
        .kafka(household::users)
        .bare()
        .start()
        .await?;
    let mut house = Household::found(&stage)?;

    roles::make(&house)?;
    figures.add("statements", roles::judge(&house).await?);
    brokers::grant(&house)?;

    let relay = wrong_password_first(&mut house).await?;
    house.insert(&["transfers.settled", "ledger.posted", LATE])?;
    house.published(&relay, 2.0).await?;
    letters_come_back(&mut house, &relay).await?;
    none_pending(&stage).await?;
    let checked = house.outboxd(&["doctor"], &[])?;
    ensure!(checked.succeeded, "doctor: {}", checked.text);

    figures.add(
        "refused_to_strangers",
        strangers::get_nowhere(&house).await?,
    );
    new_postgres_password(&house, &relay).await?;
    figures.add("slow_connections", doors::hold(&mut house, &relay).await?);
    house.stop(relay)?;

    let relay = house.launch(house.with_certificate())?;
    house.ready(&relay).await?;
    house.insert(&["transfers.settled"])?;
    house.published(&relay, 1.0).await?;
    house.stop(relay)?;
    brokers::wider_is_found(&house)?;
    house.shows_no_secret(figures)?;
    Ok(())
}

/// The relay begins with a wrong password to Kafka, says so, and goes on once the file has the right one.
async fn wrong_password_first(house: &mut Household<'_>) -> Result<crate::relay::Relay> {
    let right = house.kafka_password.read()?;
    house.kafka_password.write("not-the-password-a1b2c3")?;
    let relay = house.launch(house.with_password())?;
    wait::until("the brokers refuse the password", WITHIN, async || {
        let status = house.get(&relay, "/status");
        Ok(status.is_ok_and(|(_, body)| body.contains("kafka-auth")))
    })
    .await
    .with_context(|| relay.log_text())?;
    house.kafka_password.write(&right)?;
    house.ready(&relay).await?;
    Ok(relay)
}

/// A dead letter is published again, on the word of an operator who may do nothing else.
async fn letters_come_back(house: &mut Household<'_>, relay: &crate::relay::Relay) -> Result<()> {
    wait::until("the event is a dead letter", WITHIN, async || {
        let listed = house.outboxd(&["dlq", "list"], &[])?;
        Ok(listed.text.contains(LATE))
    })
    .await
    .with_context(|| relay.log_text())?;
    cluster::create_topic(&house.stage.bootstrap(), LATE, 1, &[]).await?;
    let operator = house.as_operator();
    let replay = [
        "dlq",
        "replay",
        "--all",
        "--reason",
        "the topic is there",
        "--yes",
    ];
    let replayed = house.outboxd(&replay, &operator)?;
    ensure!(
        replayed.succeeded,
        "replay: {}\n{}",
        replayed.text,
        relay.log_text()
    );
    let count = house.metric(relay, PUBLISHED)?;
    ensure!(count >= 3.0, "{count} events are published");
    Ok(())
}

/// The password is changed in Postgres and in the file; the next connection has the new one.
async fn new_postgres_password(house: &Household<'_>, relay: &crate::relay::Relay) -> Result<()> {
    let stage = house.stage;
    let before = house.metric(relay, "outboxd_sessions_total")?;
    house.relay_password.write("second-relay-password-77aa")?;
    let sql = format!(
        "ALTER ROLE {} PASSWORD 'second-relay-password-77aa'",
        household::RELAY
    );
    stage.postgres.sql(DATABASE, &sql)?;
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}'",
        household::RELAY
    );
    stage.postgres.sql(DATABASE, &end)?;
    wait::until("a session with the new password", WITHIN, async || {
        Ok(house.metric(relay, "outboxd_sessions_total")? > before)
    })
    .await
    .with_context(|| relay.log_text())?;
    house.ready(relay).await?;
    let seen = house.metric(relay, PUBLISHED)?;
    house.insert(&["transfers.settled"])?;
    house.published(relay, seen + 1.0).await
}

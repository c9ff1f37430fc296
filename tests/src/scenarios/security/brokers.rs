//! `outboxd acl` against a real authorizer.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use producer::{AclBinding, AclEffect, AclOperation, AclPattern, AclResource, Admin};

use super::household::{Household, Said};
use crate::stage::{DATABASE, outboxd};

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `outboxd acl` as the brokers' administrator, who comes through the plain listener.
fn acl(house: &Household<'_>, extra: &[&str]) -> Result<Said> {
    let mut command = Command::new(outboxd()?);
    let url = house.stage.postgres.superuser_url(DATABASE);
    command.args(["acl", "--principal", "User:outboxd"]);
    command.args(["--consumer", "books=User:books:transfers."]);
    command.args(["--postgres", &url, "--kafka", &house.stage.bootstrap()]);
    house.run(command.args(extra))
}

/// Grants what is needed: missing before, exact behind, and nothing to do any more.
pub(super) fn grant(house: &Household<'_>) -> Result<()> {
    let printed = acl(house, &[])?;
    ensure!(
        printed.succeeded && printed.text.contains("kafka-acls.sh"),
        "{}",
        printed.text
    );
    let before = acl(house, &["--check"])?;
    let needed = printed.text.matches("kafka-acls.sh").count();
    let missing = before.text.matches("MISSING").count();
    ensure!(
        !before.succeeded && missing == needed,
        "{needed}: {}",
        before.text
    );
    let applied = acl(house, &["--apply", "--check"])?;
    ensure!(applied.succeeded, "{}", applied.text);
    ensure!(
        applied.text.matches("granted").count() == needed,
        "{}",
        applied.text
    );
    let again = acl(house, &["--apply"])?;
    ensure!(again.text.contains("nothing to do"), "{}", again.text);
    Ok(())
}

/// What goes beyond is found, each with its reason, and nothing else is.
pub(super) fn wider_is_found(house: &Household<'_>) -> Result<()> {
    let binding = |principal: &str, resource, pattern, name: &str, operation| AclBinding {
        principal: principal.to_owned(),
        resource,
        pattern,
        name: name.to_owned(),
        operation,
        effect: AclEffect::Allow,
        host: "*".to_owned(),
    };
    use AclOperation::{All, Read, Write};
    use AclPattern::{Literal, Prefixed};
    use AclResource::{Topic, TransactionalId};
    let wider = [
        binding("User:mallory", Topic, Literal, "*", Write),
        binding("User:mallory", TransactionalId, Prefixed, "out", Write),
        binding("User:*", Topic, Prefixed, "transfers.", Read),
        binding("User:outboxd", Topic, Literal, "elsewhere", All),
    ];
    let fine = [binding("User:audit", Topic, Prefixed, "transfers.", Read)];
    let bootstrap = house.stage.bootstrap();
    let admin = Admin::new([("bootstrap.servers", bootstrap.as_str())])?;
    let all = [&wider[..], &fine[..]].concat();
    let made = admin.create_acls(&all, PATIENCE);
    made.map_err(|error| anyhow::anyhow!("{error:?}"))?;

    let found = acl(house, &["--check"])?;
    ensure!(!found.succeeded, "{}", found.text);
    ensure!(
        found.text.matches("WIDER").count() == wider.len(),
        "{}",
        found.text
    );
    for binding in &wider {
        ensure!(
            found.text.contains(&format!("WIDER    {binding}: ")),
            "{binding}: {}",
            found.text
        );
    }
    ensure!(!found.text.contains("MISSING"), "{}", found.text);
    // Whoever may not read the lists is told what that takes.
    let relay = house.outboxd(&["acl", "--principal", "User:outboxd", "--check"], &[])?;
    ensure!(!relay.succeeded, "{}", relay.text);
    ensure!(
        relay.text.contains("Run it as an administrator"),
        "{}",
        relay.text
    );
    Ok(())
}

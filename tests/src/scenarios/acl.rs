//! What the relay may do with a topic or a group. Not a scenario: several use it.

use anyhow::{Result, ensure};
use testbed::KafkaBuilder;

use crate::stage::Stage;

/// Brokers that ask who may do what; without a rule, everybody may.
pub(super) fn authorizing(kafka: KafkaBuilder) -> KafkaBuilder {
    kafka
        .setting(
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        )
        .setting("allow.everyone.if.no.acl.found", "true")
}

/// The relay may see a topic and not write to it.
pub(super) fn deny_writing(stage: &Stage, topic: &str) -> Result<()> {
    // With a rule for it, what has none is forbidden.
    for operation in ["Describe", "DescribeConfigs", "Read"] {
        let rule = [
            "--add",
            "--allow-principal",
            "User:ANONYMOUS",
            "--operation",
            operation,
        ];
        change(stage, topic, &rule)?;
    }
    let rule = [
        "--add",
        "--deny-principal",
        "User:ANONYMOUS",
        "--operation",
        "Write",
    ];
    change(stage, topic, &rule)
}

/// Everybody may do everything with a topic again.
pub(super) fn grant_all(stage: &Stage, topic: &str) -> Result<()> {
    change(stage, topic, &["--remove", "--force"])
}

/// Nobody may ask how far a group is.
pub(super) fn seal_group(stage: &Stage, group: &str) -> Result<()> {
    let rule = [
        "--add",
        "--deny-principal",
        "User:ANONYMOUS",
        "--operation",
        "Describe",
    ];
    change_of(stage, ["--group", group], &rule)
}

fn change(stage: &Stage, topic: &str, rule: &[&str]) -> Result<()> {
    change_of(stage, ["--topic", topic], rule)
}

fn change_of(stage: &Stage, resource: [&str; 2], rule: &[&str]) -> Result<()> {
    let mut tool = stage.kafka.tool("org.apache.kafka.tools.AclCommand")?;
    let bootstrap = stage.bootstrap();
    tool.args(["--bootstrap-server", &bootstrap]).args(resource);
    let output = tool.args(rule).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{rule:?}: {said}");
    Ok(())
}

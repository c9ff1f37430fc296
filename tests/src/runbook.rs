//! Runbooks of docs/runbooks, run as they are written.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::relay::Relay;
use crate::stage::{DATABASE, Stage, outboxd};

/// Seconds that one block of commands may take: some start a JVM for each line.
const BLOCK_TAKES: &str = "180";

/// Kafka's own tools and the classes behind them.
const TOOLS: [(&str, &str); 5] = [
    ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand"),
    (
        "kafka-transactions.sh",
        "org.apache.kafka.tools.TransactionsCommand",
    ),
    (
        "kafka-consumer-groups.sh",
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    ),
    (
        "kafka-console-consumer.sh",
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
    ),
    ("kafka-acls.sh", "org.apache.kafka.tools.AclCommand"),
];

/// The folder of the runbooks.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbooks")
}

/// One runbook and what has been run of it.
pub struct Runbook {
    name: String,
    blocks: Vec<Block>,
}

struct Block {
    section: String,
    script: String,
    has_run: bool,
}

impl Runbook {
    /// Reads docs/runbooks/NAME.md.
    pub fn open(name: &str) -> Result<Self> {
        let file = folder().join(format!("{name}.md"));
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(Self {
            name: name.to_owned(),
            blocks: blocks(&text),
        })
    }

    /// Runs the blocks of a section in their order; all must succeed. What they print.
    pub async fn run(&mut self, section: &str, desk: &Desk) -> Result<String> {
        let mut printed = String::new();
        let mut found = false;
        for block in self.blocks.iter_mut().filter(|b| b.section == section) {
            found = true;
            block.has_run = true;
            let script = block.script.clone();
            let mut command = desk.command(&script);
            let output = tokio::task::spawn_blocking(move || command.output()).await??;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr);
            let (name, status) = (&self.name, output.status);
            ensure!(
                output.status.success(),
                "{name}, {section}: {status}\n{script}\n{said}{errors}"
            );
            printed += &said;
        }
        ensure!(found, "{} has no commands in section {section}", self.name);
        Ok(printed)
    }

    /// Every command of it must have been run.
    pub fn finish(self) -> Result<()> {
        match self.blocks.iter().find(|block| !block.has_run) {
            Some(Block {
                section, script, ..
            }) => {
                bail!(
                    "{}: commands of section {section} were not run:\n{script}",
                    self.name
                )
            }
            None => Ok(()),
        }
    }
}

/// The blocks that are marked as shell, each under its nearest heading.
fn blocks(text: &str) -> Vec<Block> {
    let (mut blocks, mut section) = (Vec::new(), String::new());
    let mut script: Option<String> = None;
    for line in text.lines() {
        let bare = line.trim_start();
        match &mut script {
            Some(lines) if bare.starts_with("```") => {
                blocks.push(Block {
                    section: section.clone(),
                    script: std::mem::take(lines),
                    has_run: false,
                });
                script = None;
            }
            Some(lines) => {
                lines.push_str(bare);
                lines.push('\n');
            }
            None if bare == "```sh" => script = Some(String::new()),
            None => {
                if let Some(heading) = line.strip_prefix("## ") {
                    heading.clone_into(&mut section);
                }
            }
        }
    }
    blocks
}

/// Where an operator works: outboxd, psql and Kafka's tools at hand, pointed at a stage.
pub struct Desk {
    path: String,
    folder: PathBuf,
    variables: Vec<(String, String)>,
}

impl Desk {
    /// A desk before this stage, looking at this relay. `configuration` is what the pipeline has beside the
    /// addresses.
    pub fn at(stage: &Stage, relay: &Relay, configuration: &str) -> Result<Self> {
        let folder = stage.folder().join("desk");
        fs::create_dir_all(&folder)?;
        let config = folder.join("outboxd.toml");
        let (url, bootstrap) = (stage.url(), stage.bootstrap());
        let pipeline =
            format!("[[pipelines]]\npostgres.url = {url:?}\nkafka.bootstrap = {bootstrap:?}\n");
        fs::write(&config, pipeline + configuration)?;
        for (name, class) in TOOLS {
            let tool = stage.kafka.tool(class)?;
            let words: Vec<_> = std::iter::once(tool.get_program())
                .chain(tool.get_args())
                .collect();
            let quoted: Vec<_> = words.iter().map(|word| quoted(word)).collect();
            let variables: String = tool.get_envs().filter_map(exported).collect();
            let body = format!("{variables}exec {} \"$@\"", quoted.join(" "));
            executable(&folder.join(name), &body)?;
        }
        let binaries = outboxd()?;
        let binaries = binaries.parent().context("outboxd has no folder")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut desk = Self {
            path: format!("{}:{}:{path}", folder.display(), binaries.display()),
            folder,
            variables: Vec::new(),
        };
        desk.set("OUTBOXD_CONFIG", &config.display().to_string());
        desk.set("ADMIN", &format!("http://{}", relay.admin()));
        desk.set("PGHOST", "127.0.0.1");
        desk.set("PGPORT", &stage.postgres.port().to_string());
        desk.set("PGUSER", "postgres");
        desk.set("PGPASSWORD", testbed::PASSWORD);
        desk.set("PGDATABASE", DATABASE);
        desk.set("BOOTSTRAP", &bootstrap);
        Ok(desk)
    }

    /// Looks at another relay from here on.
    pub fn look_at(&mut self, relay: &Relay) {
        self.set("ADMIN", &format!("http://{}", relay.admin()));
    }

    /// Sets a variable that a runbook leaves to its reader.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("timeout");
        command
            .args([BLOCK_TAKES, "bash", "-euo", "pipefail", "-c", script])
            .current_dir(&self.folder)
            .env("PATH", &self.path)
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

fn quoted(word: &OsStr) -> String {
    format!("'{}'", word.to_string_lossy())
}

/// A variable of a command as a line of a script.
fn exported((name, value): (&OsStr, Option<&OsStr>)) -> Option<String> {
    Some(format!(
        "export {}={}\n",
        name.to_string_lossy(),
        quoted(value?)
    ))
}

fn executable(file: &Path, body: &str) -> Result<()> {
    fs::write(file, format!("#!/bin/sh\n{body}\n"))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_under_their_headings() {
        let text = "# R\n\n## Check\n\n```sh\na\n```\ntext\n```text\nno\n```\n\n## Fix\n\n1. so\n\n   ```sh\n   b \\\n     c\n   ```\n";
        let found: Vec<_> = blocks(text)
            .into_iter()
            .map(|b| (b.section, b.script))
            .collect();
        assert_eq!(
            found,
            [
                ("Check".into(), "a\n".into()),
                ("Fix".into(), "b \\\nc\n".into())
            ]
        );
    }
}

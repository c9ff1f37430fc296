//! Kafka's jars, and how its programs are run from them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account;
use crate::cache;
use crate::error::{OnFile, Result};
use crate::kafka::java::Java;
use crate::kafka::training;
use crate::maven::{self, Goal};
use crate::process::{OnParentDeath, guarded};

/// The version of Kafka that the testbed runs.
pub const KAFKA_VERSION: &str = "4.3.0";

/// The client compiler alone starts a broker in two thirds of the time, and carried the same
/// 300,000 records of 500 bytes a second as the full one, with less processor time.
const JVM: [&str; 2] = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// Times in the log, and no list of all settings at each start.
const LOGGING: [&str; 3] = [
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config.AbstractConfig=warn",
];

/// Loaded classes in a file that the JVM maps (class data sharing): halves the start-up time.
#[derive(Debug, Clone)]
pub(crate) enum ClassArchive {
    None,
    /// Maps it; the JVM ignores one that does not fit.
    Use(PathBuf),
    /// Writes it when the program ends.
    Write(PathBuf),
}

#[derive(Debug, Clone)]
pub(crate) struct Distribution {
    java: PathBuf,
    class_path: String,
    archive: ClassArchive,
}

impl Distribution {
    /// Finds Java and Kafka, fetching the latter and making its class archive if need be.
    pub fn find() -> Result<Distribution> {
        let java = Java::find()?;
        let cache = cache::folder(account::for_postgres()?.as_ref())?;
        let jars = cache::installed(&cache, &format!("kafka-{KAFKA_VERSION}"), install)?;
        let class_path = class_path(&jars)?;
        let plain = Distribution {
            java: java.program,
            class_path,
            archive: ClassArchive::None,
        };
        let name = format!("kafka-{KAFKA_VERSION}-classes-{}", java.build);
        let archive = cache::installed(&cache, &name, |folder| {
            // A quicker start is all that is lost if this machine cannot make one.
            let file = folder.join(training::ARCHIVE);
            let writing = plain.clone().with(ClassArchive::Write(file.clone()));
            if training::write_archive(writing).is_err() {
                let _ = fs::remove_file(&file);
            }
            Ok(())
        })?
        .join(training::ARCHIVE);
        Ok(match archive.is_file() {
            true => plain.with(ClassArchive::Use(archive)),
            false => plain,
        })
    }

    /// A command that runs a main class and ends with this process.
    pub fn command(&self, jvm: &[String], class: &str) -> Result<Command> {
        let mut command = guarded(&self.java, None, OnParentDeath::Kill)?;
        command.args(JVM).args(LOGGING);
        match &self.archive {
            ClassArchive::None => {}
            ClassArchive::Use(file) => {
                command.arg(format!("-XX:SharedArchiveFile={}", file.display()));
            }
            ClassArchive::Write(file) => {
                command.arg(format!("-XX:ArchiveClassesAtExit={}", file.display()));
            }
        }
        command
            .args(jvm)
            .arg(class)
            .env("CLASSPATH", &self.class_path);
        Ok(command)
    }

    /// The tool that prepares log directories.
    pub fn formatter(&self) -> Result<Command> {
        self.tool("kafka.tools.StorageTool")
    }

    /// A command that runs a tool by its main class, with little memory and only warnings.
    pub fn tool(&self, class: &str) -> Result<Command> {
        let jvm = ["-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"];
        let reader = match &self.archive {
            // Only the broker in training may write it.
            ClassArchive::Write(_) => self.clone().with(ClassArchive::None),
            ClassArchive::None | ClassArchive::Use(_) => self.clone(),
        };
        reader.command(&jvm.map(str::to_owned), class)
    }

    fn with(self, archive: ClassArchive) -> Distribution {
        Distribution { archive, ..self }
    }
}

fn install(folder: &Path) -> Result<()> {
    let scratch = folder.join("fetch");
    cache::create_open(&scratch)?;
    maven::fetch(
        "kafka",
        Goal::Copy,
        &[("kafka.version", KAFKA_VERSION)],
        &scratch,
        folder,
    )?;
    fs::remove_dir_all(&scratch).on("remove", &scratch)
}

/// All jars in a fixed order, which class archives depend on.
fn class_path(folder: &Path) -> Result<String> {
    let entries = fs::read_dir(folder).on("read", folder)?;
    let mut jars: Vec<String> = entries
        .flatten()
        .map(|entry| entry.path().display().to_string())
        .filter(|path| path.ends_with(".jar"))
        .collect();
    jars.sort();
    Ok(jars.join(":"))
}

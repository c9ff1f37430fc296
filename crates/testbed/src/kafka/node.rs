//! The parts of a node that stay while its process comes and goes.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, OnFile, Result};
use crate::kafka::config::{Shape, server_properties};
use crate::kafka::distribution::Distribution;
use crate::kafka::probe::answers_api_versions;
use crate::kafka::security::Security;
use crate::log::LogPart;
use crate::process::ServerProcess;
use crate::run_folder::RunFolder;
use crate::tool;
use crate::wait::wait_for;

const READY_WITHIN: Duration = Duration::from_secs(180);
const FORMAT_WITHIN: Duration = Duration::from_secs(180);
/// Logged once the broker is registered, has caught up and is unfenced (`KafkaRaftServer`).
const STARTED: &str = "Kafka Server started";

#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub client: u16,
    pub controller: u16,
    /// Of the listener behind the proxy.
    pub proxied: Option<u16>,
    pub secure: Option<SecurePorts>,
}

/// Of the listeners that ask who is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SecurePorts {
    pub sasl: u16,
    pub tls: u16,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub id: u32,
    pub distribution: Distribution,
    pub jvm: Vec<String>,
    pub folder: RunFolder,
    pub ports: Ports,
    pub security: Option<Arc<Security>>,
}

/// A node's process that may not answer yet.
pub(crate) struct Starting {
    process: ServerProcess,
    log: LogPart,
}

impl Node {
    pub fn name(&self) -> String {
        format!("Kafka at {}", self.folder.path().display())
    }

    pub fn log(&self) -> PathBuf {
        self.folder.path().join("kafka.log")
    }

    fn properties(&self) -> PathBuf {
        self.folder.path().join("server.properties")
    }

    /// Writes the configuration and formats the log directory.
    pub fn prepare(
        &self,
        cluster_id: &str,
        advertised: Option<u16>,
        shape: &Shape<'_>,
    ) -> Result<()> {
        let path = self.properties();
        let data = self.folder.path().join("data");
        let secured = self.security.as_deref().map(Security::properties);
        let own: Vec<_> = secured.into_iter().flatten().collect();
        let own = [&own[..], shape.own].concat();
        let shape = Shape {
            own: &own,
            ..*shape
        };
        let text = server_properties(self.id, &self.ports, advertised, &data, &shape);
        fs::write(&path, text).on("write", &path)?;
        let mut format = self.distribution.formatter()?;
        format.args(["format", "-t", cluster_id, "-c"]).arg(&path);
        let users = self.security.as_deref().map(Security::format_arguments);
        format.args(users.into_iter().flatten());
        tool::run(
            format,
            &self.folder.path().join("format.log"),
            FORMAT_WITHIN,
        )
        .map(drop)
    }

    /// Starts the process; [`Starting::wait_until_ready`] tells when it can be used.
    pub fn spawn(&self) -> Result<Starting> {
        let mut command = self.distribution.command(&self.jvm, "kafka.Kafka")?;
        command.arg(self.properties());
        let log = LogPart::attach(&self.log(), &mut command)?;
        Ok(Starting {
            process: ServerProcess::spawn(command)?,
            log,
        })
    }
}

impl Starting {
    pub fn wait_until_ready(self, node: &Node) -> Result<ServerProcess> {
        let answer = wait_for(READY_WITHIN, || match self.process.exit_status() {
            Some(status) => Some(Err(self.process.early_end(node.name(), status, &self.log))),
            None => self.is_ready(node.ports.client).then_some(Ok(())),
        });
        let outcome = answer.unwrap_or_else(|| {
            let what = format!("start of {}", node.name());
            Err(Error::Timeout {
                what,
                within: READY_WITHIN,
                tail: self.log.tail(),
            })
        });
        outcome.map(|()| self.process)
    }

    fn is_ready(&self, port: u16) -> bool {
        self.log.contains(STARTED) && answers_api_versions(port)
    }
}

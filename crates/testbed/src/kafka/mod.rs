//! A throwaway Kafka: KRaft, each node broker and controller at once.

mod builder;
mod config;
mod distribution;
mod java;
mod node;
mod probe;
mod security;
mod training;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

pub use builder::KafkaBuilder;
pub use distribution::KAFKA_VERSION;

use crate::authority::Authority;
use crate::error::Result;
use crate::process::ServerProcess;
use crate::proxy::Proxy;
use crate::server::Server;
use node::Node;

/// A controlled shutdown waits for a controller, which may be gone.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A running, stopped or killed broker; ends and vanishes with this value.
///
/// All methods take `&self`, so one thread can disturb the broker that others use.
#[derive(Debug)]
pub struct Kafka {
    node: Node,
    proxy: Option<Proxy>,
    server: Server,
}

impl Kafka {
    /// Starts the default: one broker, no automatic topics, 512 MiB of heap.
    pub fn builder() -> KafkaBuilder {
        KafkaBuilder::new()
    }

    fn running(node: Node, proxy: Option<Proxy>, process: ServerProcess) -> Kafka {
        Kafka {
            server: Server::of(node.name(), node.log(), process),
            node,
            proxy,
        }
    }

    /// `127.0.0.1:port`; the same after every restart.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.node.ports.client)
    }

    /// The way through the proxy, if built with one; all later connections of a client that
    /// starts here go through it, too.
    pub fn proxied_bootstrap(&self) -> Option<String> {
        self.proxy
            .as_ref()
            .map(|proxy| format!("127.0.0.1:{}", proxy.port()))
    }

    /// `127.0.0.1:port` of the listener that takes names and passwords, if built with it.
    pub fn sasl_bootstrap(&self) -> Option<String> {
        let secure = self.node.ports.secure;
        secure.map(|ports| format!("127.0.0.1:{}", ports.sasl))
    }

    /// `127.0.0.1:port` of the listener that takes client certificates, if built with it.
    pub fn tls_bootstrap(&self) -> Option<String> {
        let secure = self.node.ports.secure;
        secure.map(|ports| format!("127.0.0.1:{}", ports.tls))
    }

    /// Who signs the certificates of brokers and clients, if built with such listeners.
    pub fn authority(&self) -> Option<&Authority> {
        self.node.security.as_deref().map(|s| &s.authority)
    }

    /// The proxy in front of this broker, if built with one.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// The node id: 1 for the first broker.
    pub fn node_id(&self) -> u32 {
        self.node.id
    }

    /// The JVM's process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.current().ok().map(|process| process.pid())
    }

    /// The broker's log; it grows over restarts.
    pub fn log_path(&self) -> PathBuf {
        self.node.log()
    }

    /// A command that runs one of Kafka's own tools by its main class, such as
    /// `org.apache.kafka.tools.TopicCommand`; add its arguments.
    ///
    /// # Errors
    /// When this machine lacks `setpriv`.
    pub fn tool(&self, class: &str) -> Result<Command> {
        self.node.distribution.tool(class)
    }

    /// SIGTERM, and after 20 s SIGKILL; returns how long it took. A paused broker is resumed.
    ///
    /// # Errors
    /// When it does not run, or survives even SIGKILL.
    pub fn stop(&self) -> Result<Duration> {
        let process = self.server.current()?;
        let asked = Instant::now();
        process.resume_tree();
        process.signal(Signal::TERM);
        match process.wait(STOP_WITHIN) {
            Some(_) => Ok(asked.elapsed()),
            None => self.kill9().map(|()| asked.elapsed()),
        }
    }

    /// Starts a stopped or killed broker with the same data and ports; ready when it returns.
    ///
    /// # Errors
    /// When it runs already, or is not ready within 180 s.
    pub fn start_again(&self) -> Result<()> {
        let start = || self.node.spawn()?.wait_until_ready(&self.node);
        self.server.start_again(start)
    }

    /// SIGKILL; the process is gone when it returns.
    ///
    /// # Errors
    /// When it does not run, or is still there after 10 s.
    pub fn kill9(&self) -> Result<()> {
        self.server.kill9()
    }

    /// SIGSTOP: connections stay open and nobody answers.
    ///
    /// # Errors
    /// When it does not run, or has not stopped after 10 s.
    pub fn pause(&self) -> Result<()> {
        self.server.pause()
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        self.server.resume()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Ok(process) = self.server.current() {
            process.kill_tree();
        }
    }
}

/// Several brokers of one cluster, each of which can be disturbed by itself.
#[derive(Debug)]
pub struct KafkaCluster {
    brokers: Vec<Kafka>,
}

impl KafkaCluster {
    /// Starts `nodes` brokers: replication factor `nodes`, in-sync replicas at least all but one.
    /// [`KafkaBuilder::start_cluster`] does the same with more choices.
    ///
    /// # Errors
    /// As [`KafkaBuilder::start`].
    pub fn start(nodes: u32) -> Result<KafkaCluster> {
        Kafka::builder().start_cluster(nodes)
    }

    fn of(brokers: Vec<Kafka>) -> KafkaCluster {
        KafkaCluster { brokers }
    }

    /// The brokers in the order of their node ids.
    pub fn brokers(&self) -> &[Kafka] {
        &self.brokers
    }

    /// The brokers, each on its own.
    pub fn into_brokers(self) -> Vec<Kafka> {
        self.brokers
    }

    /// All brokers, separated by commas.
    pub fn bootstrap(&self) -> String {
        let all: Vec<String> = self.brokers.iter().map(Kafka::bootstrap).collect();
        all.join(",")
    }

    /// All proxies, separated by commas, if built with them.
    pub fn proxied_bootstrap(&self) -> Option<String> {
        let all: Option<Vec<String>> = self.brokers.iter().map(Kafka::proxied_bootstrap).collect();
        all.map(|all| all.join(","))
    }
}

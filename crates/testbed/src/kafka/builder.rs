use std::iter;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kafka::config::Shape;
use crate::kafka::distribution::Distribution;
use crate::kafka::node::{Node, Ports, SecurePorts, Starting};
use crate::kafka::security::Security;
use crate::kafka::{Kafka, KafkaCluster};
use crate::port;
use crate::proxy::Proxy;
use crate::run_folder::RunFolder;

const DEFAULT_HEAP_MB: u32 = 512;
/// Somebody else may bind a port between our look and the broker's bind.
const PORT_TRIES: u32 = 5;

/// How a throwaway Kafka shall be; each method returns the builder.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `start`"]
pub struct KafkaBuilder {
    settings: Vec<(String, String)>,
    heap_mb: u32,
    jvm: Vec<String>,
    proxied: bool,
    secured: bool,
    users: Vec<(String, String)>,
    keep: bool,
}

impl KafkaBuilder {
    pub(super) fn new() -> KafkaBuilder {
        KafkaBuilder {
            settings: Vec::new(),
            heap_mb: DEFAULT_HEAP_MB,
            jvm: Vec::new(),
            proxied: false,
            secured: false,
            users: Vec::new(),
            keep: false,
        }
    }

    /// A line of `server.properties`; it wins over the defaults.
    pub fn setting(mut self, name: &str, value: &str) -> KafkaBuilder {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The most heap of each broker, in MiB; 512 unless told otherwise.
    pub fn heap_mb(mut self, mebibytes: u32) -> KafkaBuilder {
        self.heap_mb = mebibytes;
        self
    }

    /// An option for the brokers' JVM, after the defaults.
    pub fn jvm(mut self, option: &str) -> KafkaBuilder {
        self.jvm.push(option.to_owned());
        self
    }

    /// With a second listener that is advertised at a [`Proxy`] in front of it, so that a client
    /// which bootstraps through the proxy stays behind it; see [`Kafka::proxy`]. The proxy
    /// understands the protocol: see [`Proxy::swallow_responses`].
    pub fn proxied(mut self) -> KafkaBuilder {
        self.proxied = true;
        self
    }

    /// With an authorizer, and with two listeners more: [`Kafka::sasl_bootstrap`] takes names and
    /// passwords (`SASL_SSL`, SCRAM-SHA-512), [`Kafka::tls_bootstrap`] client certificates (`SSL`).
    /// Who comes through the plain listener may do everything, others what they have been granted.
    pub fn secured(mut self) -> KafkaBuilder {
        self.secured = true;
        self
    }

    /// A user of the listener that takes passwords; also [`secured`](KafkaBuilder::secured).
    pub fn user(mut self, name: &str, password: &str) -> KafkaBuilder {
        self.users.push((name.to_owned(), password.to_owned()));
        self.secured()
    }

    /// Leaves logs and data behind, as `TESTBED_KEEP=1` does for all servers.
    pub fn keep(mut self) -> KafkaBuilder {
        self.keep = true;
        self
    }

    /// Fetches Kafka if need be and starts one broker; ready when it returns.
    ///
    /// # Errors
    /// When Java 17 or Kafka cannot be had, or the broker is not ready within 180 s.
    pub fn start(self) -> Result<Kafka> {
        let mut brokers = self.launch(&Distribution::find()?, 1)?;
        brokers.pop().ok_or(Error::NotRunning {
            server: "Kafka".to_owned(),
        })
    }

    /// Starts `nodes` brokers (at least one): replication factor `nodes`, in-sync replicas at
    /// least all but one.
    ///
    /// # Errors
    /// As [`KafkaBuilder::start`].
    pub fn start_cluster(self, nodes: u32) -> Result<KafkaCluster> {
        self.launch(&Distribution::find()?, nodes.max(1))
            .map(KafkaCluster::of)
    }

    pub(super) fn launch(&self, distribution: &Distribution, nodes: u32) -> Result<Vec<Kafka>> {
        for _ in 0..PORT_TRIES {
            match self.launch_once(distribution, nodes) {
                Err(Error::PortTaken { .. }) => {}
                outcome => return outcome,
            }
        }
        Err(Error::NoPort { tries: PORT_TRIES })
    }

    fn launch_once(&self, distribution: &Distribution, nodes: u32) -> Result<Vec<Kafka>> {
        let security = match self.secured {
            true => Some(Arc::new(Security::make(&self.users)?)),
            false => None,
        };
        let drafts: Vec<(Node, Option<Proxy>)> = (1..=nodes)
            .map(|id| self.draft(distribution, id, security.clone()))
            .collect::<Result<_>>()?;
        let voter = |node: &Node| format!("{}@127.0.0.1:{}", node.id, node.ports.controller);
        let voters: Vec<String> = drafts.iter().map(|(node, _)| voter(node)).collect();
        let shape = Shape {
            voters: &voters.join(","),
            nodes,
            own: &self.settings,
        };
        let cluster_id = new_cluster_id();
        for (node, proxy) in &drafts {
            node.prepare(&cluster_id, proxy.as_ref().map(Proxy::port), &shape)?;
        }
        let spawn = |(node, proxy): (Node, Option<Proxy>)| Ok((node.spawn()?, node, proxy));
        let starting: Vec<(Starting, Node, Option<Proxy>)> =
            drafts.into_iter().map(spawn).collect::<Result<_>>()?;
        let ready = |(starting, node, proxy): (Starting, Node, Option<Proxy>)| {
            let process = starting.wait_until_ready(&node)?;
            Ok(Kafka::running(node, proxy, process))
        };
        starting.into_iter().map(ready).collect()
    }

    fn draft(
        &self,
        distribution: &Distribution,
        id: u32,
        security: Option<Arc<Security>>,
    ) -> Result<(Node, Option<Proxy>)> {
        let behind_proxy = if self.proxied {
            Some(port::free_port()?)
        } else {
            None
        };
        let upstream = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let proxy = behind_proxy
            .map(|port| Proxy::start_kafka(upstream(port)))
            .transpose()?;
        let ports = Ports {
            client: port::free_port()?,
            controller: port::free_port()?,
            proxied: behind_proxy,
            secure: match &security {
                Some(_) => Some(SecurePorts {
                    sasl: port::free_port()?,
                    tls: port::free_port()?,
                }),
                None => None,
            },
        };
        let heap = format!("-Xmx{}m", self.heap_mb);
        let jvm = iter::once(heap).chain(self.jvm.iter().cloned()).collect();
        let folder = RunFolder::create("kafka", self.keep, None)?;
        let node = Node {
            id,
            distribution: distribution.clone(),
            jvm,
            folder,
            ports,
            security,
        };
        Ok((node, proxy))
    }
}

/// 16 bytes in URL-safe base64 without padding, whose last character carries two bits only.
fn new_cluster_id() -> String {
    iter::repeat_with(fastrand::alphanumeric)
        .take(21)
        .chain(iter::once('A'))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_port_that_was_taken_meanwhile_is_told_from_other_failures() {
        let builder = KafkaBuilder::new();
        let (node, _) = builder
            .draft(&Distribution::find().unwrap(), 1, None)
            .unwrap();
        let _other = TcpListener::bind((Ipv4Addr::LOCALHOST, node.ports.client)).unwrap();
        let voters = format!("1@127.0.0.1:{}", node.ports.controller);
        let shape = Shape {
            voters: &voters,
            nodes: 1,
            own: &[],
        };
        node.prepare(&new_cluster_id(), None, &shape).unwrap();
        let outcome = node.spawn().unwrap().wait_until_ready(&node);
        assert!(matches!(outcome, Err(Error::PortTaken { .. })));
    }
}

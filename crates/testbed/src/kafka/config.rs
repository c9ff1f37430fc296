//! `server.properties` of one node that is broker and controller at once (KRaft, combined).

use std::path::Path;

use crate::kafka::node::Ports;

/// The parts of the configuration that the nodes of a cluster share.
pub(crate) struct Shape<'a> {
    pub voters: &'a str,
    pub nodes: u32,
    pub own: &'a [(String, String)],
}

/// For a name that is given twice the last value wins (`java.util.Properties`).
pub(crate) fn server_properties(
    id: u32,
    ports: &Ports,
    advertised: Option<u16>,
    data: &Path,
    shape: &Shape<'_>,
) -> String {
    let mut text = String::new();
    let mut set = |name: &str, value: &str| text.push_str(&format!("{name}={value}\n"));
    let replicas = shape.nodes.to_string();
    let in_sync_min = shape.nodes.saturating_sub(1).max(1).to_string();
    let listener = |name: &str, port: u16| format!("{name}://127.0.0.1:{port}");
    let mut listeners = vec![
        listener("PLAINTEXT", ports.client),
        listener("CONTROLLER", ports.controller),
    ];
    let mut public = vec![listener("PLAINTEXT", ports.client)];
    if let (Some(inner), Some(outer)) = (ports.proxied, advertised) {
        listeners.push(listener("PROXIED", inner));
        public.push(listener("PROXIED", outer));
    }
    if let Some(secure) = ports.secure {
        for (name, port) in [("SASL", secure.sasl), ("TLS", secure.tls)] {
            listeners.push(listener(name, port));
            public.push(listener(name, port));
        }
    }
    set("process.roles", "broker,controller");
    set("node.id", &id.to_string());
    set("controller.quorum.voters", shape.voters);
    set("controller.listener.names", "CONTROLLER");
    set("inter.broker.listener.name", "PLAINTEXT");
    set("listeners", &listeners.join(","));
    set("advertised.listeners", &public.join(","));
    let protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT,\
                     SASL:SASL_SSL,TLS:SSL";
    set("listener.security.protocol.map", protocols);
    set("log.dirs", &data.to_string_lossy());
    set("auto.create.topics.enable", "false");
    for topic in [
        "default",
        "offsets.topic",
        "transaction.state.log",
        "share.coordinator.state.topic",
    ] {
        set(&format!("{topic}.replication.factor"), &replicas);
    }
    for topic in [
        "",
        "transaction.state.log.",
        "share.coordinator.state.topic.",
    ] {
        let name = if topic.is_empty() {
            "min.insync.replicas"
        } else {
            "min.isr"
        };
        set(&format!("{topic}{name}"), &in_sync_min);
    }
    for topic in [
        "offsets.topic",
        "transaction.state.log",
        "share.coordinator.state.topic",
    ] {
        set(&format!("{topic}.num.partitions"), "5");
    }
    set("group.initial.rebalance.delay.ms", "0");
    // The default of 128 MiB is a quarter of the heap.
    set("log.cleaner.dedupe.buffer.size", "8388608");
    // A killed broker is replaced, or let in again, as soon as its session has ended.
    set("broker.heartbeat.interval.ms", "500");
    set("broker.session.timeout.ms", "3000");
    set("controller.quorum.election.timeout.ms", "300");
    set("controller.quorum.election.backoff.max.ms", "300");
    shape.own.iter().for_each(|(name, value)| set(name, value));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(nodes: u32, own: &[(String, String)]) -> String {
        let ports = Ports {
            client: 1,
            controller: 2,
            proxied: Some(3),
            secure: None,
        };
        let shape = Shape {
            voters: "1@127.0.0.1:2",
            nodes,
            own,
        };
        server_properties(1, &ports, Some(4), Path::new("/d"), &shape)
    }

    #[test]
    fn the_proxied_listener_is_advertised_at_the_proxy() {
        let text = properties(1, &[]);
        assert!(text.contains(
            "\nlisteners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2,PROXIED://127.0.0.1:3\n"
        ));
        assert!(
            text.contains("\nadvertised.listeners=PLAINTEXT://127.0.0.1:1,PROXIED://127.0.0.1:4\n")
        );
    }

    #[test]
    fn all_but_one_replica_must_be_in_sync() {
        for (nodes, expected) in [(1, "1"), (2, "1"), (3, "2")] {
            let text = properties(nodes, &[]);
            assert!(
                text.contains(&format!("\nmin.insync.replicas={expected}\n")),
                "{nodes}"
            );
            assert!(text.contains(&format!("\ntransaction.state.log.min.isr={expected}\n")));
            assert!(text.contains(&format!("\noffsets.topic.replication.factor={nodes}\n")));
        }
    }

    #[test]
    fn an_own_setting_comes_last_and_so_wins() {
        let own = [("auto.create.topics.enable".to_owned(), "true".to_owned())];
        assert!(properties(1, &own).ends_with("auto.create.topics.enable=true\n"));
    }
}

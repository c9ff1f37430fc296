//! The kinds of fault, by name.

use std::str::FromStr;

use anyhow::{Result, bail};
use testbed::{Api, Direction};

/// A connection of the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// To the database server: stream and catalog.
    Postgres,
    /// To every broker.
    Kafka,
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    /// Closed, and refused.
    Cut,
    /// Open, and nothing goes through.
    Frozen(Direction),
    /// Late.
    Delayed(Direction),
    /// Slow.
    Throttled(Direction),
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to the relay.
    RelayKill,
    /// SIGSTOP to the relay until another one has taken over; then it comes back as a zombie.
    RelayFreeze,
    /// SIGTERM to one broker, and a start.
    BrokerStop,
    /// SIGKILL to one broker, and a start.
    BrokerKill,
    /// `pg_ctl stop -m fast`, and a start.
    PostgresStop,
    /// `pg_ctl stop -m immediate`, and a start.
    PostgresImmediate,
    /// SIGKILL to all processes of the server, and a start.
    PostgresKill,
    /// Trouble on the network.
    Network(Link, Hindrance),
    /// A broker does what it was asked for, and the answer is lost.
    LostAnswer(Api),
    /// A commit or abort arrives when the relay that sent it is dead and another one has begun.
    LateEnd,
    /// All servers are away.
    Outage,
    /// A burst of rows of nearly 1 MiB, over a slow connection to Kafka.
    LargeRows,
    /// Every topic gets one more partition.
    MorePartitions,
}

use Direction::{Both, ToClient, ToServer};
use Hindrance::{Cut, Delayed, Frozen, Throttled};
use Link::{Kafka, Postgres};

const ALL: [(&str, Fault); 31] = [
    ("relay-kill", Fault::RelayKill),
    ("relay-freeze", Fault::RelayFreeze),
    ("broker-stop", Fault::BrokerStop),
    ("broker-kill", Fault::BrokerKill),
    ("postgres-stop", Fault::PostgresStop),
    ("postgres-immediate", Fault::PostgresImmediate),
    ("postgres-kill", Fault::PostgresKill),
    ("postgres-cut", Fault::Network(Postgres, Cut)),
    ("postgres-freeze", Fault::Network(Postgres, Frozen(Both))),
    (
        "postgres-freeze-in",
        Fault::Network(Postgres, Frozen(ToClient)),
    ),
    (
        "postgres-freeze-out",
        Fault::Network(Postgres, Frozen(ToServer)),
    ),
    (
        "postgres-delay-in",
        Fault::Network(Postgres, Delayed(ToClient)),
    ),
    (
        "postgres-delay-out",
        Fault::Network(Postgres, Delayed(ToServer)),
    ),
    (
        "postgres-throttle-in",
        Fault::Network(Postgres, Throttled(ToClient)),
    ),
    (
        "postgres-throttle-out",
        Fault::Network(Postgres, Throttled(ToServer)),
    ),
    ("kafka-cut", Fault::Network(Kafka, Cut)),
    ("kafka-freeze", Fault::Network(Kafka, Frozen(Both))),
    ("kafka-freeze-in", Fault::Network(Kafka, Frozen(ToClient))),
    ("kafka-freeze-out", Fault::Network(Kafka, Frozen(ToServer))),
    ("kafka-delay-in", Fault::Network(Kafka, Delayed(ToClient))),
    ("kafka-delay-out", Fault::Network(Kafka, Delayed(ToServer))),
    (
        "kafka-throttle-in",
        Fault::Network(Kafka, Throttled(ToClient)),
    ),
    (
        "kafka-throttle-out",
        Fault::Network(Kafka, Throttled(ToServer)),
    ),
    ("lost-end-txn", Fault::LostAnswer(Api::END_TXN)),
    ("lost-produce", Fault::LostAnswer(Api::PRODUCE)),
    (
        "lost-add-partitions",
        Fault::LostAnswer(Api::ADD_PARTITIONS_TO_TXN),
    ),
    (
        "lost-init-producer",
        Fault::LostAnswer(Api::INIT_PRODUCER_ID),
    ),
    ("late-end-txn", Fault::LateEnd),
    ("outage", Fault::Outage),
    ("large-rows", Fault::LargeRows),
    ("more-partitions", Fault::MorePartitions),
];

impl Fault {
    /// Every kind that this many brokers can be expected to survive.
    ///
    /// A broker without replicas that is killed while it ends a transaction may come back, take
    /// the transaction's partitions for deleted, and never end it (Kafka 4.3.0: "Couldn't find
    /// leader endpoint").
    pub fn all(brokers: u32) -> Vec<Self> {
        let left_out = match brokers {
            1 => Self::BrokerKill,
            _ => Self::BrokerStop,
        };
        let all = ALL.iter().map(|(_, fault)| *fault);
        all.filter(|fault| *fault != left_out).collect()
    }

    /// Its name in `FAULTS` and in reports.
    pub fn name(self) -> &'static str {
        let named = ALL.iter().find(|(_, fault)| *fault == self);
        named.map_or("?", |(name, _)| name)
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match ALL.iter().find(|(known, _)| *known == name) {
            Some((_, fault)) => Ok(*fault),
            None => {
                let names: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
                bail!("no fault is named {name:?}: {}", names.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        for (name, fault) in ALL {
            assert_eq!(name.parse::<Fault>().unwrap(), fault);
            assert_eq!(fault.name(), name);
        }
    }
}

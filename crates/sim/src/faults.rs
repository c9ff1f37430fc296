//! What goes wrong with whole processes, connections and servers.

use std::time::Duration;

use delivery::OnDeadLetter;

use crate::broker::{Access, Broker, DEAD_LETTER_TOPIC};
use crate::server::ConnectionId;
use crate::world::{ProcessId, World};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// kill -9 of a relay.
    Kill,
    /// SIGSTOP of a relay, and SIGCONT some time later.
    Freeze,
    /// SIGTERM to a relay.
    Terminate,
    /// Another relay is started beside the running one.
    Second,
    /// Packets of a connection no longer pass, and neither end is told.
    Cut,
    /// Such a cut of which the server has learnt, and another relay is started: the old one goes
    /// on with what it has received.
    Takeover,
    /// The server ends a connection.
    Disconnect,
    /// Only a session's catalog connection ends.
    Catalog,
    /// Postgres crashes.
    ServerCrash,
    /// Postgres is lost, and a standby that lags is promoted.
    Promotion,
    /// Postgres is stopped (fast).
    ServerStop,
    /// Kafka does not answer for a while.
    BrokerOutage,
    /// An operator adds a partition to every topic.
    MorePartitions,
    /// A topic can't be written to any more, or again.
    TopicTrouble,
    /// The dead-letter topic can't, for a while.
    DeadLetterTrouble,
    /// Somebody holds a lock on the outbox for a while.
    TableLock,
    /// Time passes with nobody doing anything: a machine that sleeps.
    TimeJump,
}

impl Fault {
    /// Each of them.
    pub const ALL: [Self; 17] = [
        Self::Kill,
        Self::Freeze,
        Self::Terminate,
        Self::Second,
        Self::Cut,
        Self::Takeover,
        Self::Disconnect,
        Self::Catalog,
        Self::ServerCrash,
        Self::Promotion,
        Self::ServerStop,
        Self::BrokerOutage,
        Self::MorePartitions,
        Self::TopicTrouble,
        Self::DeadLetterTrouble,
        Self::TableLock,
        Self::TimeJump,
    ];

    /// What the trace and the counts call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Terminate => "terminate",
            Self::Second => "second-relay",
            Self::Cut => "cut",
            Self::Takeover => "takeover",
            Self::Disconnect => "disconnect",
            Self::Catalog => "catalog-lost",
            Self::ServerCrash => "server-crash",
            Self::Promotion => "promotion",
            Self::ServerStop => "server-stop",
            Self::BrokerOutage => "broker-outage",
            Self::MorePartitions => "more-partitions",
            Self::TopicTrouble => "topic-trouble",
            Self::DeadLetterTrouble => "dead-letter-trouble",
            Self::TableLock => "table-lock",
            Self::TimeJump => "time-jump",
        }
    }
}

/// What the scheduler has to do after [`strike`], because it owns the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// Nothing.
    Done,
    /// Kill this process.
    Kill(ProcessId),
    /// Start another process.
    Start,
}

/// Relays at the same time, at most.
const MOST_PROCESSES: usize = 3;

/// Partitions of a topic, at most.
const MOST_PARTITIONS: usize = 6;

/// Lets a fault happen, where there is something for it to hit.
pub fn strike(fault: Fault, world: &mut World) -> Aftermath {
    let Some(aftermath) = hit(fault, world) else {
        return Aftermath::Done;
    };
    world.say(|| format!("FAULT {}", fault.name()));
    world.trace.count(fault.name());
    aftermath
}

fn hit(fault: Fault, world: &mut World) -> Option<Aftermath> {
    let ids: Vec<_> = world.processes.keys().copied().collect();
    let now = world.clock.elapsed();
    match fault {
        Fault::Kill => return world.dice.pick(&ids).map(Aftermath::Kill),
        Fault::Freeze => freeze(world.dice.pick(&ids)?, world),
        Fault::Terminate => {
            let id = world.dice.pick(&ids)?;
            world.processes.get_mut(&id)?.terminating = true;
        }
        Fault::Second if ids.len() < MOST_PROCESSES => return Some(Aftermath::Start),
        Fault::Second => return None,
        Fault::Takeover => {
            let id = some_connection(world)?;
            world.server.cut(id);
            world.server.release(id);
            if ids.len() < MOST_PROCESSES {
                return Some(Aftermath::Start);
            }
        }
        Fault::Cut => {
            let id = some_connection(world)?;
            world.server.cut(id);
        }
        Fault::Disconnect => {
            let id = some_connection(world)?;
            world.server.disconnect(id, &mut world.dice);
        }
        Fault::Catalog => {
            let id = some_connection(world)?;
            world.server.end_catalog(id);
        }
        Fault::ServerCrash => world.server.crash(&mut world.dice),
        Fault::Promotion if !world.server.promote(&mut world.dice) => return None,
        Fault::Promotion => {}
        Fault::ServerStop => world.server.stop(),
        Fault::BrokerOutage => {
            let until = now + Duration::from_millis(world.dice.number(5..4_000));
            world.broker.go_down(until);
        }
        Fault::MorePartitions if world.broker.partitions() >= MOST_PARTITIONS => return None,
        Fault::MorePartitions => world.broker.add_partitions(),
        Fault::TopicTrouble => topic_trouble(world)?,
        Fault::DeadLetterTrouble => dead_letter_trouble(world)?,
        Fault::TableLock => {
            let until = now + Duration::from_millis(world.dice.number(20..12_000));
            world.server.block_updates(until);
        }
        Fault::TimeJump => {
            let by = Duration::from_millis(world.dice.number(200..12_000));
            world.clock.advance(by);
        }
    }
    Some(Aftermath::Done)
}

fn topic_trouble(world: &mut World) -> Option<()> {
    if !world.adversity.fragile_topics {
        return None;
    }
    let topic = world.dice.pick(Broker::fragile_topics())?;
    let access = [Access::Usable, Access::Missing, Access::Denied];
    let access = world.dice.pick(&access)?;
    world.say(|| format!("{topic} is {access:?}"));
    world.broker.set_access(topic, access);
    Some(())
}

/// It ends when the fault strikes again, or in calm.
fn dead_letter_trouble(world: &mut World) -> Option<()> {
    if world.adversity.on_dead_letter == OnDeadLetter::Halt {
        return None;
    }
    let access = match world.broker.access(DEAD_LETTER_TOPIC) {
        Access::Usable => Access::Denied,
        Access::Missing | Access::Denied => Access::Usable,
    };
    world.say(|| format!("dead letters are {access:?}"));
    world.broker.set_access(DEAD_LETTER_TOPIC, access);
    Some(())
}

/// A process that is frozen for long enough loses its connections (`wal_sender_timeout`).
fn freeze(id: ProcessId, world: &mut World) {
    let until = world.clock.elapsed() + Duration::from_millis(world.dice.number(20..6_000));
    if let Some(process) = world.processes.get_mut(&id) {
        process.frozen_until = Some(until);
    }
    if world.dice.one_in(2) {
        for connection in world.server.connections_of(id) {
            world.server.disconnect(connection, &mut world.dice);
        }
    }
}

fn some_connection(world: &mut World) -> Option<ConnectionId> {
    let living = world.server.living_connections();
    world.dice.pick(&living)
}

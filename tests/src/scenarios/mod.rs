//! The registry: one file a scenario.

mod backlog;
mod blind_watch;
mod broker_outage;
mod fast_stop;
mod foreign_relay;
mod idle_slot;
mod large_transaction;
mod latency;
mod logs;
mod misconfiguration;
mod poison_stop;
mod postgres_restart;
mod publication_altered_midway;
mod publication_replaced;
mod rare_keepalives;
mod silent_host;
mod smoke;
mod standby_signals;
mod takeover;
mod tls;
mod topic_deleted;
mod tuning;

use crate::scenario::Scenario;

/// Every scenario.
pub static ALL: &[Scenario] = &[
    smoke::SCENARIO,
    idle_slot::SCENARIO,
    fast_stop::SCENARIO,
    postgres_restart::SCENARIO,
    broker_outage::SCENARIO,
    takeover::SCENARIO,
    silent_host::SCENARIO,
    standby_signals::SCENARIO,
    blind_watch::SCENARIO,
    rare_keepalives::SCENARIO,
    misconfiguration::SCENARIO,
    publication_replaced::SCENARIO,
    poison_stop::SCENARIO,
    publication_altered_midway::SCENARIO,
    foreign_relay::SCENARIO,
    topic_deleted::SCENARIO,
    tuning::SCENARIO,
    logs::SCENARIO,
    tls::SCENARIO,
    latency::SCENARIO,
    large_transaction::SCENARIO,
    backlog::SCENARIO,
];

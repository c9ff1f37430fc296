//! The registry: one file a scenario.

mod backlog;
mod broker_outage;
mod dead_peer;
mod endtxn_unknown;
mod fast_stop;
mod idle_slot;
mod keepalive_in_flight;
mod large_row;
mod large_transaction;
mod late_commit;
mod latency;
mod logs;
mod misconfiguration;
mod postgres_restart;
mod quiet_keepalives;
mod smoke;
mod stale_walsender;
mod takeover;
mod tls;
mod transaction_cut;
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
    misconfiguration::SCENARIO,
    tuning::SCENARIO,
    logs::SCENARIO,
    tls::SCENARIO,
    latency::SCENARIO,
    large_transaction::SCENARIO,
    backlog::SCENARIO,
    endtxn_unknown::SCENARIO,
    late_commit::SCENARIO,
    keepalive_in_flight::SCENARIO,
    dead_peer::SCENARIO,
    large_row::SCENARIO,
    transaction_cut::SCENARIO,
    stale_walsender::SCENARIO,
    quiet_keepalives::SCENARIO,
];

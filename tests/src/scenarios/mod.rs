//! The registry: one file a scenario.

mod backlog;
mod before_slot;
mod broker_outage;
mod checkpoint_topic;
mod checkpoints;
mod fast_stop;
mod idle_slot;
mod large_event;
mod large_transaction;
mod latency;
mod logs;
mod misconfiguration;
mod postgres_restart;
mod promotion_reuse;
mod publication_changes;
mod publication_flicker;
mod restart_storm;
mod restored;
mod row_shapes;
mod slot_identity;
mod slow_reader_memory;
mod smoke;
mod stopped;
mod takeover;
mod tls;
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
    slot_identity::SCENARIO,
    row_shapes::SCENARIO,
    restart_storm::SCENARIO,
    promotion_reuse::SCENARIO,
    restored::RESTORED,
    restored::RESTORED_BUSY,
    restored::RESTORED_UNUSED,
    checkpoint_topic::SCENARIO,
    publication_changes::SCENARIO,
    publication_flicker::SCENARIO,
    before_slot::SCENARIO,
    slow_reader_memory::SCENARIO,
    large_event::SCENARIO,
];

//! The registry: one file a scenario.

mod acl;
mod alerts;
mod audit;
mod backfill;
mod backlog;
mod before_slot;
mod blind_watch;
mod broker_outage;
mod checkpoint_topic;
mod checkpoints;
mod consumer_lag;
mod consumer_throughput;
mod dead_peer;
mod decrypted;
mod dlq;
mod dlq_denied;
mod duplicate_flood;
mod encryption;
mod endtxn_unknown;
mod exceptions_lost;
mod fast_stop;
mod feed_lost;
mod feeds;
mod foreign_consumers;
mod foreign_relay;
mod idle_slot;
mod keepalive_in_flight;
mod large_event;
mod large_row;
mod large_transaction;
mod late_commit;
mod latency;
mod ledger;
mod live_while_draining;
mod logs;
mod long_key;
mod many_pipelines;
mod misconfiguration;
mod park_key;
mod poison;
mod poison_stop;
mod postgres_restart;
mod promotion;
mod promotion_reuse;
mod publication_altered_midway;
mod publication_changes;
mod publication_flicker;
mod publication_replaced;
mod quiet_keepalives;
mod rare_keepalives;
mod refused;
mod replay;
mod restart_storm;
mod restored;
mod retention;
mod rolling_upgrade;
mod row_shapes;
mod runbooks;
mod security;
mod silent_host;
mod slot_identity;
mod slot_lost;
mod slow_reader_memory;
mod smoke;
mod stale_walsender;
mod standby_signals;
mod status_page;
mod stopped;
mod takeover;
mod tls;
mod topic_deleted;
mod tracing;
mod transaction_cut;
mod tuning;
mod write_back;
mod write_back_cost;
mod yielding;

use crate::scenario::Scenario;

/// Every scenario.
pub static ALL: &[Scenario] = &[
    smoke::SCENARIO,
    idle_slot::SCENARIO,
    fast_stop::SCENARIO,
    postgres_restart::SCENARIO,
    broker_outage::SCENARIO,
    takeover::SCENARIO,
    takeover::SHARED,
    yielding::YIELD,
    yielding::STAY,
    live_while_draining::SCENARIO,
    silent_host::SCENARIO,
    runbooks::FLOW,
    runbooks::LETTERS,
    runbooks::SLOT,
    runbooks::CHANGE,
    standby_signals::SCENARIO,
    status_page::SCENARIO,
    blind_watch::SCENARIO,
    rare_keepalives::SCENARIO,
    misconfiguration::SCENARIO,
    many_pipelines::SCENARIO,
    many_pipelines::FEW,
    publication_replaced::SCENARIO,
    poison_stop::SCENARIO,
    poison::SCENARIO,
    park_key::SCENARIO,
    refused::SCENARIO,
    dlq::SCENARIO,
    dlq_denied::SCENARIO,
    publication_altered_midway::SCENARIO,
    foreign_relay::SCENARIO,
    topic_deleted::SCENARIO,
    tuning::SCENARIO,
    logs::SCENARIO,
    encryption::SCENARIO,
    decrypted::SCENARIO,
    tls::SCENARIO,
    security::SCENARIO,
    latency::SCENARIO,
    large_transaction::SCENARIO,
    backlog::SCENARIO,
    slot_identity::SCENARIO,
    row_shapes::SCENARIO,
    restart_storm::SCENARIO,
    rolling_upgrade::SCENARIO,
    promotion_reuse::SCENARIO,
    restored::RESTORED,
    restored::RESTORED_BUSY,
    restored::RESTORED_UNUSED,
    checkpoint_topic::SCENARIO,
    exceptions_lost::SCENARIO,
    publication_changes::SCENARIO,
    publication_flicker::SCENARIO,
    before_slot::SCENARIO,
    backfill::SCENARIO,
    feed_lost::SCENARIO,
    slot_lost::SCENARIO,
    promotion::SCENARIO,
    replay::SCENARIO,
    audit::SCENARIO,
    retention::SCENARIO,
    slow_reader_memory::SCENARIO,
    large_event::SCENARIO,
    long_key::SCENARIO,
    endtxn_unknown::SCENARIO,
    late_commit::SCENARIO,
    keepalive_in_flight::SCENARIO,
    dead_peer::SCENARIO,
    large_row::SCENARIO,
    transaction_cut::SCENARIO,
    tracing::SCENARIO,
    stale_walsender::SCENARIO,
    quiet_keepalives::SCENARIO,
    write_back::SCENARIO,
    write_back_cost::SCENARIO,
    duplicate_flood::SCENARIO,
    consumer_throughput::SCENARIO,
    consumer_lag::SCENARIO,
    alerts::SCENARIO,
    foreign_consumers::SCENARIO,
    ledger::SCENARIO,
    ledger::SHORT,
];

//! The entries.

use super::{Exposed, Kind, Metric};

const PIPELINE: &[&str] = &["pipeline"];
const SERVICE: &[&str] = &["service"];
const BY_TOPIC: &[&str] = &["pipeline", "topic"];
const BY_CODE: &[&str] = &["pipeline", "code"];
const CONSUMED: &[&str] = &["service", "topic"];

type Text = &'static str;

const fn metric(
    kind: Kind,
    name: Text,
    labels: &'static [Text],
    unit: Text,
    meaning: Text,
) -> Metric {
    Metric {
        name,
        kind,
        labels,
        unit,
        meaning,
        exposed: Exposed::Always,
        alerts: &[],
    }
}

const fn gauge(name: Text, labels: &'static [Text], unit: Text, meaning: Text) -> Metric {
    metric(Kind::Gauge, name, labels, unit, meaning)
}

const fn counter(name: Text, labels: &'static [Text], unit: Text, meaning: Text) -> Metric {
    metric(Kind::Counter, name, labels, unit, meaning)
}

const fn histogram(name: Text, unit: Text, meaning: Text) -> Metric {
    metric(Kind::Histogram, name, PIPELINE, unit, meaning)
}

const fn consumed(name: Text, meaning: Text) -> Metric {
    counter(name, CONSUMED, "events", meaning).by_consumers()
}

macro_rules! table {
    ($($name:ident = $metric:expr;)*) => {
        $(pub(in crate::telemetry) const $name: Metric = $metric;)*

        /// Every metric.
        pub const METRICS: &[Metric] = &[$($name),*];
    };
}

table! {
    BACKLOG = gauge(
        "event_outbox_backlog", SERVICE, "events",
        "Committed events not yet durable in Kafka: exactly 0 when caught up, an estimate between",
    )
    .alerts(&["OutboxdBacklogOverSla"]);
    PUBLISH_LAG = gauge(
        "event_publish_lag_seconds", SERVICE, "seconds",
        "Age of the oldest committed event not yet durable in Kafka, from its commit or, if the \
         database's clock is ahead, from when it was seen; 0 when there is none; grows while it can't be known",
    )
    .alerts(&["OutboxdPublishLagOverSla"]);
    STALE = gauge(
        "event_outbox_stale", SERVICE, "0 or 1",
        "1 while backlog, lag and the slot's figures are not known: the catalog was last read more \
         than 5 s ago, or since the start nothing has come that tells",
    );
    SLA_BACKLOG = gauge(
        "outboxd_sla_backlog_events", SERVICE, "events",
        "`sla.backlog` of the configuration: a larger backlog is late",
    )
    .alerts(&["OutboxdBacklogOverSla"]);
    SLA_PUBLISH_LAG = gauge(
        "outboxd_sla_publish_lag_seconds", SERVICE, "seconds",
        "`sla.publish_lag` of the configuration: a longer lag is late",
    )
    .alerts(&["OutboxdPublishLagOverSla"]);

    READY = gauge(
        "outboxd_ready", PIPELINE, "0 or 1",
        "1 while `/ready` has no reason against this pipeline",
    )
    .alerts(&["OutboxdNotReady", "OutboxdStandbyNotReady"]);
    ROLE = gauge(
        "outboxd_role", &["pipeline", "role"], "0 or 1",
        "1 for the part that this relay has: `active`, `standby` or `candidate`",
    )
    .alerts(&["OutboxdNoActiveRelay", "OutboxdNotReady", "OutboxdStandbyNotReady"]);
    STATE = gauge(
        "outboxd_state", &["pipeline", "state"], "0 or 1",
        "1 for the state that the pipeline is in",
    );
    STOPPED = gauge(
        "outboxd_stopped", BY_CODE, "1",
        "1 while the pipeline is stopped, with the code that `outboxd explain` takes",
    )
    .once("the pipeline is stopped")
    .alerts(&["OutboxdSlotLost", "OutboxdPipelineStopped", "OutboxdNotReady", "OutboxdNoActiveRelay"]);
    SESSIONS = counter(
        "outboxd_sessions_total", PIPELINE, "sessions",
        "Sessions begun; in at-least-once mode each after the first may repeat events",
    );
    RETRIES = counter(
        "outboxd_retries_total", BY_CODE, "sessions",
        "Sessions that ended with a passing failure, by its code",
    )
    .once("a session has failed")
    .alerts(&["OutboxdRetriesBurning"]);
    RETRY_WAIT = histogram("outboxd_retry_wait_seconds", "seconds", "Waits before a retry, with jitter")
        .once("a session has failed");

    EVENTS = counter(
        "outboxd_events_published_total", BY_TOPIC, "events",
        "Events durable in Kafka, by the topic that they are in: those of feeds and dead letters, too",
    );
    BYTES = counter(
        "outboxd_published_bytes_total", BY_TOPIC, "bytes",
        "Keys and values of events durable in Kafka",
    );
    LATENCY = histogram(
        "outboxd_publish_latency_seconds", "seconds",
        "From the commit in Postgres to the commit in Kafka, per event of the stream, dead letters \
         included; events of feeds and replayed dead letters do not count",
    );
    WINDOW_EVENTS = histogram("outboxd_window_events", "events", "Events in a window");
    WINDOW_DURATION = histogram(
        "outboxd_window_duration_seconds", "seconds",
        "From handing a window to a producer to its commit",
    );
    IN_FLIGHT = gauge("outboxd_windows_in_flight", PIPELINE, "windows", "Windows in Kafka's hands");
    IN_FLIGHT_PEAK = gauge(
        "outboxd_windows_in_flight_peak", PIPELINE, "windows",
        "Most windows in Kafka's hands since the start",
    );
    DEAD_LETTERS = counter(
        "outboxd_dead_letters_total", &["pipeline", "service", "class"], "events",
        "Events that are durable in a dead-letter topic, `parked` ones and those that failed again among them",
    )
    .once("there has been a dead letter of the class")
    .alerts(&["OutboxdDeadLetters"]);
    REPLAYED = counter(
        "outboxd_replayed_events_total", PIPELINE, "events",
        "Dead letters that are published, by `dlq replay` or `dlq release`; what `outboxd replay` publishes is not counted here",
    )
    .once("a dead letter has been published");
    PARKED_KEYS = gauge(
        "outboxd_parked_keys", PIPELINE, "keys",
        "Keys whose events go to the dead letters until they are released",
    )
    .alerts(&["OutboxdParkedKeys"]);
    FEED_LEFT = gauge(
        "outboxd_feed_rows_left", PIPELINE, "rows",
        "Rows of a backfill, repair or replay that are still to be published and for which the stream waits; 0 without a feed",
    );
    FEED_MISSING = counter(
        "outboxd_feed_rows_missing_total", PIPELINE, "rows",
        "Rows of backfills, repairs and replays that had been deleted, or whose table is not configured \
         any more, before they were published; counted when the feed ends. The WARN names the ordinals",
    )
    .once("a feed has missed a row");

    WRITE_BACK_ROWS = counter(
        "outboxd_write_back_rows_total", &["pipeline", "outcome"], "rows",
        "Rows whose state was written: `sent`, `failed`; `passed-over` ones were gone or had another state already",
    );
    WRITE_BACK_DURATION = histogram(
        "outboxd_write_back_duration_seconds", "seconds",
        "Writing one batch of states",
    );
    WRITE_BACK_PENDING = gauge(
        "outboxd_write_back_pending", PIPELINE, "rows",
        "Rows that wait for their state to be written",
    );
    WRITE_BACK_ERRORS = counter(
        "outboxd_write_back_errors_total", BY_CODE, "tries",
        "Tries to write states that failed",
    )
    .once("a try has failed");
    PRUNED_ROWS = counter("outboxd_pruned_rows_total", PIPELINE, "rows", "Rows removed by retention")
        .once("retention has removed a row");

    SLOT_LAG = gauge(
        "outboxd_slot_lag_bytes", PIPELINE, "bytes",
        "WAL written since the slot's confirmed LSN",
    );
    SLOT_RETAINED = gauge(
        "outboxd_slot_retained_bytes", PIPELINE, "bytes",
        "WAL that the server keeps for the slot",
    )
    .alerts(&["OutboxdSlotWalHigh", "OutboxdSlotWalCritical", "OutboxdSlotWalUnbounded"]);
    SLOT_RETAINED_LIMIT = gauge(
        "outboxd_slot_retained_limit_bytes", PIPELINE, "bytes",
        "`max_slot_wal_keep_size` of the server: a slot that keeps more is lost",
    )
    .once("the server sets `max_slot_wal_keep_size`")
    .alerts(&["OutboxdSlotWalHigh", "OutboxdSlotWalCritical", "OutboxdSlotWalUnbounded"]);
    SLOT_UNCONFIRMED = gauge(
        "outboxd_slot_unconfirmed_seconds", PIPELINE, "seconds",
        "How long the oldest WAL beyond the slot's confirmed LSN has been known to be there",
    )
    .alerts(&["OutboxdSlotNotConfirmed"]);
    SLOT_AGE = gauge(
        "outboxd_slot_age_seconds", PIPELINE, "seconds",
        "Since the slot and the end of the WAL were last looked at: how old the figures about them are",
    );
    CONFIRMED_LSN = gauge(
        "outboxd_confirmed_lsn", PIPELINE, "bytes of WAL",
        "LSN confirmed to the server, as a number",
    );
    WAL_END_LSN = gauge(
        "outboxd_wal_end_lsn", PIPELINE, "bytes of WAL",
        "End of the server's WAL at the last look, as a number",
    );
    BUILD = gauge("outboxd_build", &["version"], "1", "Always 1; the version is a label");

    CONSUMER_LAG = gauge(
        "event_consumer_lag_seconds", CONSUMED, "seconds",
        "Age of the oldest event not yet handled; exactly 0 when caught up. `service` is the consuming one",
    )
    .once("`consumers` names the group; by services with the consumer library always")
    .alerts(&["OutboxdConsumerLag"]);
    CONSUMER_LAG_RECORDS = gauge(
        "event_consumer_lag_records", CONSUMED, "offsets",
        "Offsets from a group's next event to the end, markers of transactions among them; 0 when caught up, else an upper bound of its events",
    )
    .once("`consumers` names the group");
    CONSUMER_LAG_STALE = gauge(
        "event_consumer_lag_stale", &["service"], "0 or 1",
        "1 while a group's lag is not known; why stands in `/status`",
    )
    .once("`consumers` names the group");
    CONSUMER_HANDLED = consumed("event_consumer_handled_total", "Events handled");
    CONSUMER_DUPLICATES = consumed("event_consumer_duplicates_total", "Events that were handled before")
        .alerts(&["OutboxdDuplicateFlood"]);
    CONSUMER_SKIPPED = consumed(
        "event_consumer_skipped_total", "Events of a type without a handler, passed over",
    );
    CONSUMER_RETRIES = consumed(
        "event_consumer_retries_total", "Failures after which an event is tried again",
    );
    CONSUMER_DEAD_LETTERS = counter(
        "event_consumer_dead_letters_total", &["service", "topic", "class"], "events",
        "Events that became dead letters of a consumer",
    )
    .by_consumers()
    .alerts(&["OutboxdConsumerDeadLetters"]);
}

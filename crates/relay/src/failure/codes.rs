//! The table of error codes: the source of `outboxd explain` and of the error reference.

/// What a failure means for its pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It passes by itself: retried with backoff, without end.
    Transient,
    /// Another relay has the slot: this one stands by until that is free.
    StandBy,
    /// There is nothing to wait for: the next session goes about it otherwise.
    StartOver,
    /// A person must act. The pipeline holds its slot, loses nothing, and re-checks by itself.
    Stopped,
}

/// One kind of failure.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// Stable name.
    pub name: &'static str,
    /// What happens.
    pub severity: Severity,
    /// What it means.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

const fn transient(name: &'static str, cause: &'static str, remedy: &'static str) -> Code {
    code(name, Severity::Transient, cause, remedy)
}

const fn stand_by(name: &'static str, cause: &'static str, remedy: &'static str) -> Code {
    code(name, Severity::StandBy, cause, remedy)
}

const fn start_over(name: &'static str, cause: &'static str, remedy: &'static str) -> Code {
    code(name, Severity::StartOver, cause, remedy)
}

const fn stopped(name: &'static str, cause: &'static str, remedy: &'static str) -> Code {
    code(name, Severity::Stopped, cause, remedy)
}

const fn code(
    name: &'static str,
    severity: Severity,
    cause: &'static str,
    remedy: &'static str,
) -> Code {
    Code {
        name,
        severity,
        cause,
        remedy,
    }
}

/// The code with this name.
pub fn find(name: &str) -> Option<&'static Code> {
    CODES.iter().find(|code| code.name == name)
}

/// Every code. The first stands in for a name that is not in the table.
pub static CODES: &[Code] = &[
    stopped(
        "internal",
        "outboxd met a condition that it should not be able to meet.",
        "Restart it; nothing is lost. Report the log lines before this one.",
    ),
    // Passing by themselves.
    transient(
        "postgres-unreachable",
        "No configured server accepts a connection, or none of them is the primary.",
        "Check that the server runs and that host, port and firewall are right. outboxd reconnects by itself.",
    ),
    transient(
        "postgres-lost",
        "The connection to Postgres broke.",
        "Nothing, if the server was restarted: outboxd reconnects by itself. If it repeats, look at the server's log.",
    ),
    transient(
        "postgres-silent",
        "The server has sent nothing, not even a keepalive, for longer than wal_sender_timeout, or has not answered a query in 12 s.",
        "Check whether the server or the network between is frozen. outboxd reconnects by itself.",
    ),
    transient(
        "catalog-blocked",
        "A look at the catalog was cancelled, mostly because it had waited 10 s for a lock on an outbox table or its sequence, as ALTER TABLE, VACUUM FULL and LOCK TABLE take it. Nothing is confirmed meanwhile, so WAL piles up.",
        "Find who holds the lock (pg_locks, pg_blocking_pids) and end that transaction, or wait for it. outboxd goes on by itself.",
    ),
    transient(
        "postgres-shutdown",
        "The server is shutting down or starting up.",
        "Nothing: outboxd lets it stop and reconnects when it is back.",
    ),
    stand_by(
        "slot-active",
        "Another session holds the replication slot: another outboxd, or one that has just died.",
        "Nothing, if this is a standby or a restart: outboxd waits for the slot. Otherwise find the holder with: SELECT active_pid FROM pg_replication_slots.",
    ),
    stand_by(
        "yielded",
        "This relay was cut off from Kafka while a standby was not, and has left the slot to it.",
        "Check the network between this relay's host and the brokers. It stands by, and takes the slot again when that is free.",
    ),
    transient(
        "backfill-unfinished",
        "A first start with a backfill did not come to its end, so which rows come before the slot's stream is not known. Nothing has been published.",
        "Nothing: outboxd drops the slot and begins the first start anew.",
    ),
    transient(
        "kafka-unreachable",
        "No broker answers.",
        "Check that the brokers run and that kafka.bootstrap and the firewall are right. outboxd goes on when they are back; the slot holds.",
    ),
    transient(
        "kafka-delivery",
        "Kafka did not take a window: a timeout, too few in-sync replicas, or a moved leader.",
        "Check the brokers' health. The window is published again, exactly once, from the slot.",
    ),
    transient(
        "kafka-fenced",
        "Another producer has taken over the transactional ids, or the broker timed the transaction out.",
        "Nothing, after a takeover. If two relays run with the same pipeline name against different slots, rename one.",
    ),
    transient(
        "topic-refused",
        "The brokers refused a window because a topic does not exist any more or may not be written to any more.",
        "Nothing, if that is on purpose: outboxd asks about the topics again, and sends what can't be published to the dead letters. Otherwise make the topic, or grant WRITE on it.",
    ),
    start_over(
        "window-refused",
        "The brokers refused a window for what is in it, which no look at its topics had shown.",
        "Nothing: outboxd publishes it again in ever smaller parts, and sends the event that is at fault to the dead letters.",
    ),
    start_over(
        "batch-limit",
        "A topic takes only smaller batches of records than outboxd makes.",
        "Nothing: outboxd goes on with smaller batches. Raise the topic's max.message.bytes if throughput matters.",
    ),
    start_over(
        "write-back-behind",
        "More rows than write_back.max_pending waited for their state to be written back. The table can be written again.",
        "Nothing: the slot sends these rows again; they are not published twice.",
    ),
    // Postgres set-up.
    stopped(
        "postgres-auth",
        "Postgres refuses the role or its password, or pg_hba.conf has no entry for it.",
        "Correct user and password (a password of the file or of OUTBOXD_POSTGRES_PASSWORD goes before PGPASSWORD), or add a pg_hba.conf entry for this database and role, then reload the server.",
    ),
    stopped(
        "postgres-tls",
        "The TLS connection to Postgres could not be verified or established.",
        "Check sslmode and sslrootcert against the server's certificate and its name.",
    ),
    stopped(
        "database-missing",
        "The database of the connection URL does not exist.",
        "Correct the database name in the connection URL, or create the database.",
    ),
    stopped(
        "replication-denied",
        "The role may not stream: it lacks the REPLICATION attribute.",
        "Run as a superuser: ALTER ROLE <role> REPLICATION;",
    ),
    stopped(
        "permission-denied",
        "The role lacks a privilege that outboxd needs.",
        "Run `outboxd init --role <role>` as an administrator: it shows the grants that the role needs; --apply runs them.",
    ),
    stopped(
        "wal-level",
        "The server's wal_level is below logical, so it can't decode changes.",
        "Run: ALTER SYSTEM SET wal_level = 'logical'; then restart the server.",
    ),
    stopped(
        "slots-exhausted",
        "The server has no free replication slot or walsender.",
        "Raise max_replication_slots or max_wal_senders and restart the server, or drop a slot that nobody needs.",
    ),
    stopped(
        "table-missing",
        "A configured outbox table does not exist.",
        "Create it (`outboxd init` prints the SQL, --apply runs it), or correct schema and table in the configuration.",
    ),
    stopped(
        "publication-missing",
        "The publication does not exist. Rows committed without it can't be read from the WAL.",
        "Create it with `outboxd init --apply`. If it existed before, outboxd then stops with publication-changed: rows written meanwhile are not in the stream.",
    ),
    stopped(
        "publication-table",
        "A configured table is not in the publication, so its rows would be passed over in silence.",
        "Run: ALTER PUBLICATION <publication> ADD TABLE <table>; for a partitioned table also SET (publish_via_partition_root = true).",
    ),
    stopped(
        "publication-insert",
        "The publication does not publish inserts.",
        "Run: ALTER PUBLICATION <publication> SET (publish = 'insert');",
    ),
    stopped(
        "publication-changed",
        "The publication was altered, or it or a table in it was dropped and made again. Rows written meanwhile may be missing in the stream, even if it looks as before.",
        "`outboxd repair` shows which rows are not in the topics, and with --apply publishes them and goes on with a new slot. If none is missing, start with --accept-publication and the token of the message instead: it accepts this one state of the publication, and nothing is published for it.",
    ),
    stopped(
        "exceptions-lost",
        "Partition 1 of the checkpoint topic has lost records, by deletion or by retention: it says which keys are parked, and which rows are still to be told of their dead letters.",
        "`outboxd dlq list --class parked` names events of keys that were parked. Restore the partition if you can. Otherwise start with --accept-exceptions and the token of the message: keys that are missing are published again from here on, ahead of their parked events, and rows whose dead letter is missing may stay PENDING. Then correct the topic: `outboxd doctor` checks it.",
    ),
    // Write-back and retention.
    transient(
        "write-back-blocked",
        "Outbox rows can't be changed for the moment: the table or a row is locked, the database is read-only or overloaded, a commit waits for a synchronous standby, or a standby of synchronized_standby_slots has not received the states. Publishing goes on, the slot holds.",
        "Find who holds the lock (pg_locks, pg_blocking_pids), make the database writable again, or bring the standby back (pg_stat_replication). outboxd goes on by itself.",
    ),
    stopped(
        "write-back-columns",
        "A column that write-back needs does not exist, or can't be updated: it is generated or part of a partition key.",
        "Add the columns of sql/outbox.sql to the table, map them with columns.state, columns.attempts and columns.last_error, or set write_back = \"off\" for the table.",
    ),
    stopped(
        "write-back-refused",
        "Postgres refuses to change outbox rows: a constraint, a trigger, or the type of a column. Publishing goes on, but the slot is not confirmed past those rows.",
        "Repair what the message names: state must take SENT and FAILED. Or set write_back = \"off\" for the table and restart. outboxd tries again by itself.",
    ),
    stopped(
        "retention-unproven",
        "Rows can't be proven to be durable in Kafka, so none is removed: states are not written back, and the slot has not been confirmed up to them.",
        "Start the relay, or wait until it has caught up, and run prune again.",
    ),
    stopped(
        "retention-earlier-rows",
        "Without states, a row counts as published because the slot's stream had it. But the table held rows when the slot was made, or a repair did not look at all of its rows, or a changed publication was accepted, or the slot was made by a relay that did not record this: such rows may never have been published, so none is removed.",
        "Compare table and topics, then run prune with --accept-earlier-rows: it removes those, too. For removal without a person, set write_back = \"all\" and set the rows that are known to be published to SENT; or have the rows from before published: backfill.rows = \"all\" at the first start, repair --since with a time before all rows.",
    ),
    stopped(
        "retention-columns",
        "The table has no column for the time of the event, so the age of a row is not known.",
        "Map a timestamptz column with columns.occurred_at, or leave retention.period out.",
    ),
    // Requests, feeds and repairs.
    stopped(
        "control-missing",
        "The tables of schema outboxd do not exist: backfill, repair, replay and dlq keep their rows and requests there.",
        "Create them with `outboxd init --apply`, which also adds outboxd.control to the publication.",
    ),
    stopped(
        "feed-lost",
        "Rows that are to be published before the stream are not in outboxd.feed_rows: somebody deleted them, or the promoted server never had them. Which events they were is not known from there.",
        "Run `outboxd repair --anyway`: it finds the rows of the tables that are in no topic, and with --apply publishes them.",
    ),
    stopped(
        "repair-too-large",
        "More rows may be unpublished than a repair can hold in memory.",
        "Give --since TIMESTAMP: rows of older events are taken as published. Or set write_back = \"all\", so that the state of rows tells.",
    ),
    stopped(
        "repair-unfinished",
        "`outboxd repair --apply` was begun and did not come to its end. Nothing is published until it does.",
        "Run `outboxd repair --apply` again: it begins anew, with what it knew before.",
    ),
    // Slot and identity.
    stopped(
        "slot-missing",
        "The replication slot was dropped. WAL written since is not held for outboxd.",
        "Rows committed since the recorded LSN may be unpublished: `outboxd repair` shows them, and with --apply publishes them and goes on with a new slot.",
    ),
    stopped(
        "slot-lost",
        "The server has invalidated the slot, usually because it kept more WAL than max_slot_wal_keep_size allows.",
        "Raise max_slot_wal_keep_size. Rows committed since the recorded LSN may be unpublished: `outboxd repair` shows them, and with --apply publishes them and goes on with a new slot.",
    ),
    stopped(
        "slot-foreign",
        "The slot of that name is not a pgoutput slot of this database.",
        "Choose another slot name (postgres.slot), or drop the slot if nobody uses it: SELECT pg_drop_replication_slot('<slot>');",
    ),
    stopped(
        "slot-ahead",
        "The slot was advanced past the checkpoint by somebody else, or was dropped and made again, or the checkpoint topic was restored from an older state.",
        "The rows between the two LSNs may be unpublished: `outboxd repair` shows them, and with --apply publishes them and goes on with a new slot.",
    ),
    stopped(
        "slot-without-record",
        "The slot exists but the checkpoint topic knows nothing of it: the topic was lost, or the slot was made by hand.",
        "If the slot was made for outboxd and nothing has been read from it, run with --adopt-slot. If the checkpoint topic was lost, `outboxd repair` shows which rows are not in the topics, and with --apply publishes them and goes on with a new slot.",
    ),
    stopped(
        "foreign-system",
        "The checkpoint was written for another cluster, database or slot.",
        "Point outboxd at the database that it served before, or give this pipeline another name.",
    ),
    stopped(
        "timeline-lost",
        "The server's history does not contain the timeline of the checkpoint: it is not a descendant of the server that was streamed.",
        "Point outboxd at the right server. If this one is right, `outboxd repair` shows which rows are not in the topics and which events have no row here; with --apply it publishes the rows and goes on with a new slot.",
    ),
    stopped(
        "wal-behind",
        "The server's WAL ends before what has been published: it was restored from a backup or a snapshot.",
        "Events were published for rows that this server does not have: `outboxd repair` lists them, and rows that are not in the topics; with --apply it publishes those and goes on with a new slot.",
    ),
    stopped(
        "transaction-missing",
        "The slot says that the last published transaction must come again, but it did not.",
        "The server was restored, or the publication was narrowed. `outboxd repair --anyway` shows which rows are not in the topics and which events have no row here; with --apply it publishes the rows and goes on with a new slot.",
    ),
    stopped(
        "transaction-foreign",
        "Another transaction stands at the LSN of the last published one: the server was restored and reuses LSNs.",
        "`outboxd repair --anyway` shows which rows are not in the topics and which events have no row here; with --apply it publishes the rows and goes on with a new slot.",
    ),
    stopped(
        "fingerprint-changed",
        "The publication changed while a transaction was published in part, so its rows can't be counted any more.",
        "Restore the publication as it was (tables, row filters, publish_via_partition_root) until that transaction is through.",
    ),
    // Commands.
    stopped(
        "audit-disk",
        "An audit could not write down or read back what it compares.",
        "Set TMPDIR to a folder with room: it takes about 250 bytes for each row and each record of the time. Or audit a shorter time.",
    ),
    // Keys.
    stopped(
        "keyring",
        "The keyring for decrypt.topics can't be read, or is no keyring.",
        "Correct decrypt.keyring_file, or let outboxd's user read the file; `outboxd keys check FILE` says what is wrong with its content. outboxd then goes on by itself.",
    ),
    // Rows.
    stopped(
        "mapping",
        "The configured columns do not fit the table.",
        "Correct [pipelines.tables.columns], or add the column to the table.",
    ),
    stopped(
        "unpublishable-event",
        "A row can't become an event.",
        "Correct the mapping, topics.allow or the row's producer. Or set on_dead_letter of the table to continue or park-key: the event then goes to the dead letters.",
    ),
    stopped(
        "undecryptable-event",
        "An event is to be published in the clear (decrypt.topics), and its payload can't be decrypted: the keyring lacks its key, or the ciphertext is not what was written for it.",
        "Give the relay a keyring with the key that the message names: outboxd then goes on by itself. Or set on_dead_letter of the table to continue or park-key: the event then goes to the dead letters, encrypted as it is.",
    ),
    stopped(
        "event-too-large",
        "An event is larger than event.max_bytes, or than the topic's max.message.bytes.",
        "Raise event.max_bytes together with the topic's max.message.bytes, or make the payload smaller.",
    ),
    stopped(
        "dead-letter-topic",
        "The topic for events that can't be published is missing, or may not be used. A pipeline that has such an event stops before it.",
        "Run `outboxd init --apply`, which makes the topic, or grant WRITE and DESCRIBE on it to the relay, READ and DESCRIBE to who gives `dlq` commands. outboxd then goes on by itself.",
    ),
    stopped(
        "dead-letter-surge",
        "So many events can't be published that something else must be wrong, such as a mapping, an ACL or a deployment of the service.",
        "Mend the cause: outboxd goes on by itself once the event that it stopped at can be published. If the events really are bad, raise dead_letter.max_per_minute and restart outboxd.",
    ),
    stopped(
        "parked-keys",
        "More keys would be parked than park.max_keys allows.",
        "Raise park.max_keys and restart outboxd; then repair the cause and release keys with `outboxd dlq release`, which comes after the event that it stops at.",
    ),
    stopped(
        "protocol",
        "The server sent what the replication protocol does not allow, or what this version does not know.",
        "Check the server's version against the compatibility table. Report the message.",
    ),
    // Kafka set-up.
    stopped(
        "kafka-config",
        "librdkafka refuses a property of the configuration.",
        "Correct kafka.properties.",
    ),
    stopped(
        "kafka-auth",
        "The brokers refuse the credentials or the TLS handshake.",
        "Correct the SASL or TLS properties under kafka.properties.",
    ),
    stopped(
        "topic-missing",
        "A topic does not exist. Topics are never created by accident.",
        "Run `outboxd init --apply`, for a topic of events with --topic <name>; or create it yourself.",
    ),
    stopped(
        "topic-denied",
        "The principal may not write to a topic.",
        "Grant WRITE and DESCRIBE on the topic to outboxd's principal.",
    ),
    stopped(
        "transactional-id-denied",
        "The principal may not use the transactional ids.",
        "Grant WRITE and DESCRIBE on transactional ids with the pipeline's prefix, or set mode = \"at-least-once\".",
    ),
    stopped(
        "consumer-group-unknown",
        "A consumer group whose lag is to be exported has committed no offset: there is no such group, it has not handled anything yet, or its offsets have expired.",
        "Check group under [[pipelines.consumers]] and start the consumer. Events are published all the same; outboxd asks again in each round.",
    ),
    stopped(
        "consumer-group-denied",
        "The principal may not ask how far a consumer group is.",
        "Grant DESCRIBE on the group to outboxd's principal. Events are published all the same.",
    ),
    stopped(
        "consumer-topic-denied",
        "The principal may not read a topic of a consumer group whose lag is to be exported.",
        "Grant DESCRIBE and READ on the topic to outboxd's principal. Events are published all the same.",
    ),
    stopped(
        "consumer-topic-missing",
        "No topic fits those of a consumer group whose lag is to be exported, or the principal may not see it.",
        "Check topics under [[pipelines.consumers]]; grant DESCRIBE and READ on them to outboxd's principal. Events are published all the same.",
    ),
    stopped(
        "consumer-offsets",
        "A consumer group has committed an offset behind the end of a partition: the topic was made again, or has lost records.",
        "Reset the group's offsets with kafka-consumer-groups.sh --reset-offsets, or wait until it has committed new ones. Events are published all the same.",
    ),
    stopped(
        "checkpoint-topic",
        "The checkpoint topic does not have the shape that it must have: two partitions, compacted.",
        "Correct it as the message says; `outboxd init` shows the right settings.",
    ),
    stopped(
        "checkpoint-blocked",
        "A transaction on the checkpoint topic stays open though every producer of this pipeline has been fenced: the brokers lost its end, or something else writes to the topic. Committed readers of its partitions stand still.",
        "Find it with kafka-transactions.sh find-hanging and abort it in all of its partitions; outboxd then publishes its window again by itself.",
    ),
    stopped(
        "checkpoint-unreadable",
        "The newest checkpoint can't be read by this version.",
        "Run the version that wrote it, or a newer one.",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_kebab_case() {
        let names: BTreeSet<_> = CODES.iter().map(|c| c.name).collect();
        assert_eq!(names.len(), CODES.len());
        for name in names {
            assert!(
                name.chars().all(|c| c.is_ascii_lowercase() || c == '-'),
                "{name}"
            );
        }
    }
}

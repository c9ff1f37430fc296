//! Keys of one pipeline.

use std::time::Duration;

use super::super::allowed::Allowed;
use super::super::draft::PipelineDraft;
use super::super::field::Field;
use super::super::pipeline::Rows;
use super::table::is_identifier;
use super::{Key, key, open_key};

const fn millis(min: u64, max: u64) -> Allowed {
    Allowed::Time(Duration::from_millis(min), Duration::from_millis(max))
}

/// Keys under `[[pipelines]]`.
pub(in super::super) static PIPELINE: &[Key<PipelineDraft>] = &[
    key(
        "name",
        |p| Field::Text(&mut p.name),
        Allowed::Texts("1 to 40 of a-z, 0-9, _ and -", is_pipeline_name),
        "Name of the pipeline in logs, metrics and Kafka. Unique in the file.",
    ),
    key(
        "mode",
        |p| Field::Choice(&mut p.mode),
        Allowed::Anything,
        "`exactly-once` publishes in transactions that carry the checkpoint; `at-least-once` \
         publishes without them, and a crash may repeat events.",
    ),
    key(
        "sink",
        |p| Field::Choice(&mut p.sink),
        Allowed::Anything,
        "`stdout` writes JSON lines instead of publishing and keeps no checkpoint: for trying out.",
    ),
    key(
        "concurrency",
        |p| Field::Whole(&mut p.concurrency),
        Allowed::Whole(1, 16),
        "Transactional producers in the ring: while one commits, the next ones publish. Order \
         stays.",
    ),
    open_key(
        "postgres.url",
        |p| Field::MaybeSecret(&mut p.postgres.url),
        Allowed::Anything,
        "Connection URL as libpq knows it, also with several hosts: \
         `postgres://user@host1:5432,host2/database?sslmode=verify-full`. Either this, or the \
         separate keys below; a later source (environment, flag) overrides an earlier one part by \
         part.",
        "required, unless `hosts` and `database` are given",
        "\"postgres://outboxd@localhost:5432/outboxd\"",
    ),
    open_key(
        "postgres.hosts",
        |p| Field::List(&mut p.postgres.hosts),
        Allowed::NonEmpty,
        "Servers to try in turn, each `host`, `host:port`, or the folder of a Unix socket.",
        "from the URL",
        "[\"db1.internal:5432\", \"db2.internal:5432\"]",
    ),
    open_key(
        "postgres.user",
        |p| Field::MaybeText(&mut p.postgres.user),
        IDENTIFIER,
        "Role that connects; it needs REPLICATION.",
        "from the URL, else `outboxd`",
        "\"outboxd\"",
    ),
    open_key(
        "postgres.password",
        |p| Field::MaybeSecret(&mut p.postgres.password),
        Allowed::Anything,
        "Its password.",
        "from the URL, else `PGPASSWORD`",
        "{ env = \"DB_PASSWORD\" }",
    ),
    open_key(
        "postgres.password_file",
        |p| Field::MaybePath(&mut p.postgres.password_file),
        Allowed::NonEmpty,
        "File that holds the password and nothing else; a line end is dropped. It is read again for \
         each connection.",
        "no file",
        "\"/run/secrets/outboxd-password\"",
    ),
    open_key(
        "postgres.write_back_user",
        |p| Field::MaybeText(&mut p.postgres.write_back_user),
        IDENTIFIER,
        "Role that writes states back and removes old rows, where the one that streams shall not: \
         `outboxd init` then grants it what that takes.",
        "the role that connects",
        "\"outboxd_write_back\"",
    ),
    open_key(
        "postgres.write_back_password",
        |p| Field::MaybeSecret(&mut p.postgres.write_back_password),
        Allowed::Anything,
        "Its password.",
        "none",
        "{ file = \"/run/secrets/outboxd-write-back\" }",
    ),
    open_key(
        "postgres.database",
        |p| Field::MaybeText(&mut p.postgres.database),
        IDENTIFIER,
        "Database that holds the outbox tables.",
        "from the URL",
        "\"payments\"",
    ),
    open_key(
        "postgres.application_name",
        |p| Field::MaybeText(&mut p.postgres.application_name),
        IDENTIFIER,
        "Name of the sessions in `pg_stat_activity` and `pg_stat_replication`.",
        "from the URL, else `outboxd`",
        "\"outboxd\"",
    ),
    open_key(
        "postgres.sslmode",
        |p| Field::Choice(&mut p.postgres.sslmode),
        Allowed::Anything,
        "`verify-full` checks certificate and name of the server, `verify-ca` the certificate, \
         `require` neither; `disable` sends plain text.",
        "from the URL, else `verify-full`, or `disable` when every host is a Unix socket or loopback",
        "\"verify-full\"",
    ),
    open_key(
        "postgres.sslrootcert",
        |p| Field::MaybePath(&mut p.postgres.sslrootcert),
        Allowed::NonEmpty,
        "PEM file of the authorities that may sign the server's certificate.",
        "from the URL, else the well-known public ones",
        "\"/etc/outboxd/postgres-ca.pem\"",
    ),
    open_key(
        "postgres.sslcert",
        |p| Field::MaybePath(&mut p.postgres.sslcert),
        Allowed::NonEmpty,
        "PEM file of a client certificate; needs `sslkey`.",
        "from the URL, else none",
        "\"/etc/outboxd/postgres-client.pem\"",
    ),
    open_key(
        "postgres.sslkey",
        |p| Field::MaybePath(&mut p.postgres.sslkey),
        Allowed::NonEmpty,
        "PEM file of the client certificate's key.",
        "from the URL, else none",
        "\"/etc/outboxd/postgres-client.key\"",
    ),
    key(
        "postgres.slot",
        |p| Field::Text(&mut p.postgres.slot),
        Allowed::Texts("1 to 63 of a-z, 0-9 and _", is_slot_name),
        "Replication slot. Slots belong to the whole server, so each pipeline of a server needs \
         its own.",
    ),
    key(
        "postgres.publication",
        |p| Field::Text(&mut p.postgres.publication),
        IDENTIFIER,
        "Publication that covers the tables, as in the catalog.",
    ),
    key(
        "postgres.failover_slot",
        |p| Field::Flag(&mut p.postgres.failover_slot),
        Allowed::Anything,
        "Make the slot a failover slot, which standbys with `sync_replication_slots` keep a copy of; \
         on 17 and later.",
    ),
    key(
        "postgres.connect_timeout",
        |p| Field::Time(&mut p.postgres.connect_timeout),
        millis(100, 300_000),
        "Time allowed for connecting to one host.",
    ),
    key(
        "postgres.wal_sender_timeout",
        |p| Field::Time(&mut p.postgres.wal_sender_timeout),
        millis(2_000, 600_000),
        "Silence after which server and relay each give the replication connection up. It is set \
         on the relay's own session only.",
    ),
    open_key(
        "kafka.bootstrap",
        |p| Field::MaybeText(&mut p.kafka.bootstrap),
        Allowed::Texts("host:port, several separated by commas", is_bootstrap),
        "Brokers to ask first.",
        "required, unless `sink` is `stdout`",
        "\"localhost:9092\"",
    ),
    key(
        "kafka.checkpoint_topic",
        |p| Field::Text(&mut p.kafka.checkpoint_topic),
        Allowed::Texts("a topic name; {name} is the pipeline's", is_topic_template),
        "Compacted topic of the checkpoints. Nothing else may write to it.",
    ),
    key(
        "kafka.transactional_id_prefix",
        |p| Field::Text(&mut p.kafka.transactional_id_prefix),
        Allowed::Texts(
            "1 to 249 of a-z, A-Z, 0-9, ., _ and -; {name} is the pipeline's",
            is_topic_template,
        ),
        "Beginning of the transactional ids, for ACLs.",
    ),
    key(
        "kafka.transaction_timeout",
        |p| Field::Time(&mut p.kafka.transaction_timeout),
        millis(1_000, 900_000),
        "After this time the broker aborts a transaction that a dead relay left open. It must not \
         exceed the broker's transaction.max.timeout.ms.",
    ),
    open_key(
        "kafka.properties",
        |p| Field::Properties(&mut p.kafka.properties),
        Allowed::Anything,
        "librdkafka properties, passed through. Those that would break a guarantee are refused. \
         As a variable: the prefix, then the property in upper case with _ for each dot.",
        "none",
        "{ \"linger.ms\" = 5, \"sasl.password\" = { env = \"KAFKA_PASSWORD\" } }",
    ),
    key(
        "kafka.topics.partitions",
        |p| Field::Whole(&mut p.kafka.topics.partitions),
        Allowed::Whole(1, 10_000),
        "Partitions of the event topics that `init` creates.",
    ),
    open_key(
        "kafka.topics.replication_factor",
        |p| Field::Whole(&mut p.kafka.topics.replication_factor),
        Allowed::Whole(1, 100),
        "Replicas of the topics that `init` creates.",
        "3, or as many as there are brokers",
        "3",
    ),
    open_key(
        "kafka.topics.min_insync_replicas",
        |p| Field::Whole(&mut p.kafka.topics.min_insync_replicas),
        Allowed::Whole(1, 100),
        "`min.insync.replicas` of the topics that `init` creates.",
        "one less than the replicas, at least 1",
        "2",
    ),
    key(
        "topics.allow",
        |p| Field::List(&mut p.topics.allow),
        Allowed::NonEmpty,
        "Topics that routing may use; `*` stands for any characters, and `[\"*\"]` allows all that \
         are not denied.",
    ),
    key(
        "topics.deny",
        |p| Field::List(&mut p.topics.deny),
        Allowed::Texts("topic names", is_topic_name),
        "Topics that routing refuses though they are allowed. The checkpoint topics of all pipelines are always among \
         them.",
    ),
    key(
        "decrypt.topics",
        |p| Field::List(&mut p.decrypt.topics),
        Allowed::NonEmpty,
        "Topics whose events are published in the clear if their payload, or fields of it, are \
         encrypted; `*` stands for any characters. Everything else passes through as it is.",
    ),
    open_key(
        "decrypt.keyring_file",
        |p| Field::MaybePath(&mut p.decrypt.keyring_file),
        Allowed::NonEmpty,
        "File of the keyring for that (`outboxd keys generate`). A change of the file takes effect \
         within about a second.",
        "required with `decrypt.topics`, unless `decrypt.keyring` is given",
        "\"/run/secrets/outbox-keyring.json\"",
    ),
    open_key(
        "decrypt.keyring",
        |p| Field::MaybeSecret(&mut p.decrypt.keyring),
        Allowed::Anything,
        "The keyring itself, in the place of a file.",
        "none",
        "{ env = \"OUTBOX_KEYRING\" }",
    ),
    key(
        "batch.max_events",
        |p| Field::Whole(&mut p.batch.max_events),
        Allowed::Whole(1, 1_000_000),
        "Events after which a window closes.",
    ),
    key(
        "batch.max_bytes",
        |p| Field::Bytes(&mut p.batch.max_bytes),
        Allowed::Bytes(1 << 10, 64 << 20),
        "Bytes after which a window closes; memory follows it.",
    ),
    key(
        "batch.max_wait",
        |p| Field::Time(&mut p.batch.max_wait),
        millis(0, 10_000),
        "Age of the oldest event at which a window closes under load. With nothing else at hand a \
         window closes at once.",
    ),
    key(
        "event.max_bytes",
        |p| Field::Bytes(&mut p.event.max_bytes),
        Allowed::Bytes(1 << 10, 64 << 20),
        "Largest event that is published, key, value and headers together. Not above the brokers' \
         message.max.bytes.",
    ),
    key(
        "retry.initial_backoff",
        |p| Field::Time(&mut p.retry.initial_backoff),
        millis(1, 3_600_000),
        "Upper bound of the first pause after a failure. Each pause is random between zero and its \
         bound.",
    ),
    key(
        "retry.max_backoff",
        |p| Field::Time(&mut p.retry.max_backoff),
        millis(1, 3_600_000),
        "Upper bound of every pause.",
    ),
    key(
        "retry.multiplier",
        |p| Field::Factor(&mut p.retry.multiplier),
        Allowed::Factor(1.0, 10.0),
        "Growth of the bound from one pause to the next.",
    ),
    key(
        "retry.max_retries",
        |p| Field::Whole(&mut p.retry.max_retries),
        Allowed::Whole(0, 1_000),
        "Further attempts on a failure that may be permanent. While Kafka or the network is down \
         the relay retries without end.",
    ),
    key(
        "sla.publish_lag",
        |p| Field::Time(&mut p.sla.publish_lag),
        millis(1, 86_400_000),
        "Age of the oldest unpublished event above which the pipeline counts as late.",
    ),
    key(
        "sla.backlog",
        |p| Field::Whole(&mut p.sla.backlog),
        Allowed::Whole(0, 1_000_000_000_000),
        "Unpublished events above which the pipeline counts as late.",
    ),
    key(
        "dead_letter.max_bytes",
        |p| Field::Bytes(&mut p.dead_letter_bounds.max_bytes),
        Allowed::Bytes(1 << 10, 64 << 20),
        "Largest dead letter, if its topic takes that. A larger event is only described there: its \
         row stays in the table.",
    ),
    key(
        "dead_letter.max_per_minute",
        |p| Field::Whole(&mut p.dead_letter_bounds.max_per_minute),
        Allowed::Whole(1, 100_000_000),
        "More dead letters in a minute stop the pipeline: something else must be wrong. Parked \
         events do not count.",
    ),
    key(
        "park.max_keys",
        |p| Field::Whole(&mut p.dead_letter_bounds.max_parked_keys),
        Allowed::Whole(1, 1_000_000),
        "More parked keys stop the pipeline.",
    ),
    key(
        "write_back.max_pending",
        |p| Field::Whole(&mut p.write_back.max_pending),
        Allowed::Whole(10_000, 10_000_000),
        "Rows that wait for their state to be written back, at about 80 bytes each. While the \
         table can't be written, publishing goes on; beyond this number the rows are left in the \
         WAL and streamed again later.",
    ),
    open_key(
        "retention.period",
        |p| Field::MaybeTime(&mut p.retention.period),
        millis(60_000, 3_153_600_000_000),
        "Age at which published rows are removed from the tables, by the active relay or by \
         `outboxd prune`. It takes a column for the time of the event.",
        "rows are kept",
        "\"168h\"",
    ),
    key(
        "retention.interval",
        |p| Field::Time(&mut p.retention.interval),
        millis(1_000, 86_400_000),
        "From the end of one round of removing to the next.",
    ),
    key(
        "retention.batch",
        |p| Field::Whole(&mut p.retention.batch),
        Allowed::Whole(1, 100_000),
        "Most rows that one statement removes.",
    ),
    key(
        "retention.pause",
        |p| Field::Time(&mut p.retention.pause),
        millis(0, 60_000),
        "Pause after a statement that has removed rows.",
    ),
    key(
        "backfill.rows",
        |p| Field::Text(&mut p.backfill.rows),
        Allowed::Texts(
            "none, pending, all, or since: and a time such as since:2026-01-31T10:00:00Z",
            is_backfill,
        ),
        "Rows that are in the tables before the slot is made, and are published first: those whose \
         `state` is PENDING, all, or those that occurred since a time. Only at the first start.",
    ),
    open_key(
        "backfill.order_by",
        |p| Field::MaybeText(&mut p.backfill.order_by),
        IDENTIFIER,
        "Column of the order in which they are published, table after table; the id decides between \
         equals.",
        "`columns.seq`, else `columns.occurred_at`, else the id",
        "\"created_at\"",
    ),
    key(
        "consumer_lag.interval",
        |p| Field::Time(&mut p.consumer_lag.interval),
        millis(200, 60_000),
        "From one round of questions about `consumers` to the next.",
    ),
    key(
        "consumer_lag.max_fetches",
        |p| Field::Whole(&mut p.consumer_lag.max_fetches),
        Allowed::Whole(1, 10_000),
        "Partitions that are read from in one round, one record each. The others have their turn in \
         the next rounds.",
    ),
];

const IDENTIFIER: Allowed = Allowed::Texts("an identifier of 1 to 63 bytes", is_identifier);

fn is_pipeline_name(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text
            .chars()
            .all(|c| is_lower_or_digit(c) || "_-".contains(c))
}

fn is_backfill(text: &str) -> bool {
    Rows::read(text).is_some()
}

fn is_slot_name(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.chars().all(|c| is_lower_or_digit(c) || c == '_')
}

fn is_lower_or_digit(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Kafka's rule for topics (`org.apache.kafka.common.internals.Topic`), with room for the
/// pipeline's name; topics of the brokers themselves begin with `__`.
fn is_topic_template(text: &str) -> bool {
    let name = text.replace("{name}", "n");
    (1..=249).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        && name != "."
        && name != ".."
        && !name.starts_with("__")
}

pub(in super::super) fn is_topic_name(text: &str) -> bool {
    !text.contains('{') && is_topic_template(text)
}

fn is_bootstrap(text: &str) -> bool {
    text.split(',').all(|broker| {
        broker.trim().rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && host
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-[]:%".contains(c))
                && port.parse::<u16>().is_ok_and(|port| port != 0)
        })
    })
}

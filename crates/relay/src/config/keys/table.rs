//! Keys of one outbox table.

use super::super::allowed::Allowed;
use super::super::draft::TableDraft;
use super::super::field::Field;
use super::{Key, key, open_key};

const IDENTIFIER: Allowed = Allowed::Texts("an identifier of 1 to 63 bytes", is_identifier);

/// Keys under `[[pipelines.tables]]`.
pub(in super::super) static TABLE: &[Key<TableDraft>] = &[
    key(
        "schema",
        |t| Field::Text(&mut t.schema),
        IDENTIFIER,
        "Schema of the table, as in the catalog (not folded to lower case).",
    ),
    key(
        "table",
        |t| Field::Text(&mut t.table),
        IDENTIFIER,
        "Name of the table, as in the catalog. Each table stands once in a pipeline.",
    ),
    open_key(
        "service",
        |t| Field::MaybeText(&mut t.service),
        Allowed::Texts("1 to 100 characters without control characters", is_label),
        "Service that writes the table: the `service` label of the metrics.",
        "the name of the table",
        "\"payments\"",
    ),
    key(
        "topic",
        |t| Field::Text(&mut t.topic),
        Allowed::NonEmpty,
        "Template of the topic: `{type}` is the event type, `{type.domain}` its part before the \
         first dot, `{service}` the service, any other `{name}` the column of that name.",
    ),
    open_key(
        "key",
        |t| Field::MaybeText(&mut t.key),
        IDENTIFIER,
        "Column that gives the record key, by which Kafka keeps order. Where it is NULL the record \
         has no key.",
        "the transfer id, else the event id",
        "\"aggregate_id\"",
    ),
    key(
        "format",
        |t| Field::Choice(&mut t.format),
        Allowed::Anything,
        "`envelope` publishes eventId, type, occurredAt, transferId and payload; `payload` \
         publishes the payload alone, with the rest in headers.",
    ),
    key(
        "dead_letter_topic",
        |t| Field::Text(&mut t.dead_letter.topic),
        Allowed::NonEmpty,
        "Topic of the events that can't be published; `{service}` is the service.",
    ),
    key(
        "on_dead_letter",
        |t| Field::Choice(&mut t.dead_letter.on_dead_letter),
        Allowed::Anything,
        "What happens behind a dead letter: `continue` goes on, `park-key` sends later events of the \
         same key after it until `outboxd dlq release`, `halt` stops the pipeline instead.",
    ),
    key(
        "write_back",
        |t| Field::Choice(&mut t.state.mode),
        Allowed::Anything,
        "`all` writes SENT or FAILED into the state of a row once that is durable in Kafka, \
         `failures` only FAILED, `off` nothing: then the relay needs no right on rows.",
    ),
    open_key(
        "header_columns",
        |t| Field::HeaderColumns(&mut t.header_columns),
        Allowed::Anything,
        "Record headers from columns of their own: the header's name, then the column.",
        "no header",
        "{ traceparent = \"trace_parent\" }",
    ),
    key(
        "columns.id",
        |t| Field::Text(&mut t.columns.id),
        IDENTIFIER,
        "Column of the event's id, unique in the table, and over all tables whose topics one consumer reads.",
    ),
    key(
        "columns.event_type",
        |t| Field::Text(&mut t.columns.event_type),
        IDENTIFIER,
        "Column of the event's type, such as `transfers.settled`.",
    ),
    open_key(
        "columns.transfer_id",
        |t| Field::MaybeColumn(&mut t.columns.transfer_id),
        IDENTIFIER,
        "Column of the transfer that the event belongs to. For this and the other optional \
         columns an empty string says that there is none.",
        "`transfer_id`, if the table has it",
        "\"transfer_id\"",
    ),
    key(
        "columns.payload",
        |t| Field::Text(&mut t.columns.payload),
        IDENTIFIER,
        "Column of the payload, JSON, which is passed on unchanged.",
    ),
    open_key(
        "columns.headers",
        |t| Field::MaybeColumn(&mut t.columns.headers),
        IDENTIFIER,
        "Column of further record headers, a flat JSON object.",
        "`headers`, if the table has it",
        "\"headers\"",
    ),
    open_key(
        "columns.occurred_at",
        |t| Field::MaybeColumn(&mut t.columns.occurred_at),
        IDENTIFIER,
        "Column of the time of the event. Without one it is the commit time.",
        "`created_at`, if the table has it",
        "\"created_at\"",
    ),
    open_key(
        "columns.seq",
        |t| Field::MaybeColumn(&mut t.columns.seq),
        IDENTIFIER,
        "Identity column from which the backlog is counted. Without one the backlog is an \
         estimate.",
        "`seq`, if the table has it",
        "\"seq\"",
    ),
    key(
        "columns.state",
        |t| Field::Text(&mut t.state.state),
        IDENTIFIER,
        "Column that says PENDING, SENT or FAILED, which the relay writes. Not part of a partition \
         key, and best without an index.",
    ),
    open_key(
        "columns.attempts",
        |t| Field::MaybeColumn(&mut t.state.attempts),
        IDENTIFIER,
        "Column of the number of attempts, which the relay writes.",
        "`attempts`, if the table has it",
        "\"attempts\"",
    ),
    open_key(
        "columns.last_error",
        |t| Field::MaybeColumn(&mut t.state.last_error),
        IDENTIFIER,
        "Column of the reason why a row could not be published, which the relay writes.",
        "`last_error`, if the table has it",
        "\"last_error\"",
    ),
];

/// What Postgres keeps of a name: 63 bytes (`NAMEDATALEN` - 1).
pub(super) fn is_identifier(text: &str) -> bool {
    (1..=63).contains(&text.len()) && !text.contains('\0')
}

pub(super) fn is_label(text: &str) -> bool {
    (1..=100).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

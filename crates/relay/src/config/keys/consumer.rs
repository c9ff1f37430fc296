//! Keys of one consumer group.

use super::super::allowed::Allowed;
use super::super::draft::ConsumerDraft;
use super::super::field::Field;
use super::table::is_label;
use super::{Key, key, open_key};

/// Keys under `[[pipelines.consumers]]`.
pub(in super::super) static CONSUMER: &[Key<ConsumerDraft>] = &[
    open_key(
        "group",
        |c| Field::MaybeText(&mut c.group),
        Allowed::Texts("1 to 255 characters without control characters", is_group),
        "Consumer group (`group.id`) whose lag the active relay exports, whatever its language. It \
         takes DESCRIBE on the group and READ on its topics.",
        "required",
        "\"ledger\"",
    ),
    open_key(
        "service",
        |c| Field::MaybeText(&mut c.service),
        Allowed::Texts("1 to 100 characters without control characters", is_label),
        "Service that consumes: the `service` label of its metrics. Unique in the file.",
        "the group",
        "\"ledger\"",
    ),
    open_key(
        "topics",
        |c| Field::List(&mut c.topics),
        Allowed::NonEmpty,
        "Topics that the group reads; `*` stands for any characters.",
        "those for which the group has committed offsets",
        "[\"transfers.*\"]",
    ),
    key(
        "offset_reset",
        |c| Field::Choice(&mut c.offset_reset),
        Allowed::Anything,
        "Its `auto.offset.reset`: of a partition without a committed offset, `earliest` counts what \
         is kept there as not handled, `latest` nothing.",
    ),
];

fn is_group(text: &str) -> bool {
    (1..=255).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

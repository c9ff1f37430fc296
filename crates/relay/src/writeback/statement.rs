//! The statements that write outcomes back. Nothing but state columns is touched, so that without an
//! index on them the new version of a row stays on its page (HOT). Only a row that is not yet in its new
//! state is touched, so that repeating a statement does nothing.

use super::table::Outbox;

/// For rows that are published; `$1` are their ids in text form.
pub(super) fn sent(outbox: &Outbox) -> String {
    to_sent(outbox, "= 'PENDING'")
}

/// For rows that are published whatever they say; `$1` are their ids in text form.
pub(super) fn revived(outbox: &Outbox) -> String {
    to_sent(outbox, "<> 'SENT'")
}

/// For rows that are published by now, where nothing is said of those that never failed; `$1` are their
/// ids in text form.
pub(super) fn recovered(outbox: &Outbox) -> String {
    to_sent(outbox, "= 'FAILED'")
}

fn to_sent(outbox: &Outbox, before: &str) -> String {
    let Outbox {
        name,
        id,
        id_type,
        state,
        ..
    } = outbox;
    let attempts = set(outbox.attempts.as_deref(), "1");
    let error = set(outbox.last_error.as_deref(), "NULL");
    format!(
        "UPDATE {name} SET {state} = 'SENT'{attempts}{error} \
         WHERE {id} = ANY ($1::text[]::{id_type}[]) AND {state} {before}"
    )
}

/// For rows that can't be published; `$1` are their ids in text form, `$2` the numbers of attempts,
/// `$3` the errors.
pub(super) fn failed(outbox: &Outbox) -> String {
    let Outbox {
        name,
        id,
        id_type,
        state,
        ..
    } = outbox;
    let attempts = set(outbox.attempts.as_deref(), "failed.attempts");
    let error = set(outbox.last_error.as_deref(), "failed.error");
    format!(
        "UPDATE {name} AS outbox SET {state} = 'FAILED'{attempts}{error} \
         FROM unnest($1::text[]::{id_type}[], $2::int4[], $3::text[]) AS failed (id, attempts, error) \
         WHERE outbox.{id} = failed.id AND outbox.{state} = 'PENDING'"
    )
}

fn set(column: Option<&str>, value: &str) -> String {
    column.map_or_else(String::new, |column| format!(", {column} = {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Outbox {
        Outbox {
            name: "\"s\".\"t\"".into(),
            id: "\"Id\"".into(),
            id_type: "uuid".into(),
            state: "\"state\"".into(),
            attempts: Some("\"tries\"".into()),
            last_error: None,
        }
    }

    #[test]
    fn only_pending_rows_and_mapped_columns_are_touched() {
        assert_eq!(
            sent(&outbox()),
            "UPDATE \"s\".\"t\" SET \"state\" = 'SENT', \"tries\" = 1 \
             WHERE \"Id\" = ANY ($1::text[]::uuid[]) AND \"state\" = 'PENDING'"
        );
        assert_eq!(
            failed(&outbox()),
            "UPDATE \"s\".\"t\" AS outbox SET \"state\" = 'FAILED', \"tries\" = failed.attempts \
             FROM unnest($1::text[]::uuid[], $2::int4[], $3::text[]) AS failed (id, attempts, error) \
             WHERE outbox.\"Id\" = failed.id AND outbox.\"state\" = 'PENDING'"
        );
    }
}

//! Requests to the relay: rows of `outboxd.control`. They reach it through the WAL, in their place
//! among the events, and are carried out exactly once.

use std::time::Duration;

use clap::Args;
use pgoutput::Lsn;
use serde_json::Value;

use super::problem::Problem;
use super::progress::Progress;
use crate::config::{Pipeline, parse_duration};
use crate::failure::Failure;
use crate::feed::{self, Connection};

/// How a message ends, without the last three characters, whose SQLSTATE says that a value does not have
/// the form of its type.
const MALFORMED: &str = "(SQLSTATE 22";

const OPERATOR: &str = "Give the command as an operator, with --postgres postgres://OPERATOR@HOST/DATABASE \
     and the password in OUTBOXD_POSTGRES_PASSWORD, which goes before one of the configuration. \
     `outboxd init --apply --operator-role OPERATOR`, run by an administrator, gives an existing role \
     what it needs.";

/// What there is to do where a request has not brought about what was asked for.
pub(super) const AGAIN: &str = "Look at the reasons with `outboxd dlq list`, repair what they name, and give the command \
     again, with another --request-id or none.";

/// Whether a command returns only when its request is carried out.
#[derive(Args)]
pub(super) struct Waiting {
    /// Do not wait until the relay has carried it out.
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait, such as 60s or 5m.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5m")]
    pub timeout: Duration,
}

/// Connects to where requests are written down; refused where no relay would hear of them.
pub(super) async fn open(pipeline: &Pipeline, what: &str) -> Result<Connection, Failure> {
    let connection = Connection::open(&pipeline.postgres).await?;
    feed::require(&connection, what).await?;
    feed::require_published(&connection, &pipeline.postgres.publication).await?;
    Ok(connection)
}

/// What kept a request from being written down. The relay's role, which the configuration names, may not
/// give requests; an operator's role may.
pub(super) fn refused(failure: Failure) -> Problem {
    let mut problem = Problem::from(failure);
    if problem.code == Some("permission-denied") {
        OPERATOR.clone_into(&mut problem.remedy);
    } else if problem.message.contains(MALFORMED) {
        problem.code = None;
        "Write --id as the id column of the table has it.".clone_into(&mut problem.remedy);
    }
    problem
}

/// Writes a request down. `false` if there is one with this id.
pub(super) async fn insert(
    connection: &Connection,
    pipeline: &Pipeline,
    id: &str,
    reason: &str,
    command: &Value,
) -> Result<bool, Failure> {
    let sql = "INSERT INTO outboxd.control (request_id, slot, reason, command) \
               VALUES ($1::text::uuid, $4, $2, $3::text::jsonb) ON CONFLICT DO NOTHING";
    let command = command.to_string();
    let slot = pipeline.slot_name();
    let rows = connection
        .change(sql, &[&id, &reason, &command, &slot])
        .await?;
    Ok(rows == 1)
}

/// The command of the request with this id, if there is one. One to another relay is a mistake.
pub(super) async fn find(
    connection: &Connection,
    pipeline: &Pipeline,
    id: &str,
) -> Result<Option<Value>, Problem> {
    let sql = "SELECT command::text, slot FROM outboxd.control WHERE request_id = $1::text::uuid";
    let rows = connection.rows(sql, &[&id]).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let (command, slot): (String, String) = (row.get(0), row.get(1));
    if slot != pipeline.slot_name() {
        return Err(Problem::new(
            format!("request {id} was given to the relay of slot {slot:?}"),
            "Give another --request-id, or none.",
        ));
    }
    let command = serde_json::from_str(&command)
        .map_err(|e| Failure::caused("internal", "reading a request", &e))?;
    Ok(Some(command))
}

/// Waits until the slot is confirmed beyond `committed`, at or after the end of the request's commit:
/// then it has been carried out.
pub(super) async fn await_confirmed(
    connection: &Connection,
    pipeline: &Pipeline,
    committed: Lsn,
    patience: Duration,
) -> Result<(), Problem> {
    let slot = pipeline.slot_name();
    let _progress = Progress::start("waiting for the relay to carry the request out");
    if feed::confirmed(connection, &slot, committed, patience).await? {
        return Ok(());
    }
    let holder = connection.holder(&slot).await?;
    Err(not_yet(holder.is_some(), patience))
}

/// What is wrong where events of a request could not be published.
pub(super) fn shortfall(failed: u64) -> Option<Problem> {
    let message = format!("{failed} events failed again, and are new dead letters");
    (failed > 0).then(|| Problem::new(message, AGAIN))
}

fn not_yet(is_read: bool, patience: Duration) -> Problem {
    if is_read {
        return Problem::new(
            format!("the request is written down, but was not carried out in {patience:?}"),
            "Nothing, if the relay is getting on: it carries the request out. Look at `outboxd \
             status`; do not give the command again.",
        );
    }
    Problem::new(
        format!(
            "the request is written down, but was not carried out in {patience:?}: no relay reads \
             from the slot"
        ),
        "Start `outboxd run`, which carries the request out; do not give the command again.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_give_requests_is_told_who_may() {
        let of = |code| refused(Failure::new(code, "")).remedy;
        assert!(of("permission-denied").contains("--operator-role"));
        let id = Failure::new(
            "postgres-lost",
            "ERROR: invalid input syntax (SQLSTATE 22P02)",
        );
        assert!(refused(id).remedy.contains("--id"));
        assert_eq!(
            of("postgres-lost"),
            Failure::new("postgres-lost", "").code.remedy
        );
    }
}

//! What the inboxes of consumers say.

use tokio_postgres::error::SqlState;

use super::story::{ConsumerStory, Handled, Story};
use crate::config::Postgres;
use crate::failure::Failure;
use crate::source;
use crate::source::catalog::Catalog;
use crate::sql::rfc3339;

const BEYOND: &str = "SELECT consumer FROM public.inbox_offsets \
     WHERE topic = $1 AND partition_id = $2 AND next_offset > $3 ORDER BY consumer";

/// Looks into a consumer's database. That it can't be looked into is part of the story.
pub(super) async fn look(database: &Postgres, story: &Story) -> ConsumerStory {
    let hosts: Vec<_> = database.hosts.iter().map(ToString::to_string).collect();
    let mut consumer = ConsumerStory {
        database: format!("{}/{}", hosts.join(","), database.database),
        ..ConsumerStory::default()
    };
    match handled(database, story).await {
        Ok(handled) => consumer.handled = handled,
        Err(failure) => consumer.failure = Some(failure.to_string()),
    }
    consumer
}

async fn handled(database: &Postgres, story: &Story) -> Result<Vec<Handled>, Failure> {
    let catalog = source::primary(database).await?;
    let mut handled = Vec::new();
    let by_id = catalog.client().query(&by_id(), &[&story.event_id]).await;
    let by_id = present(by_id)?;
    for row in by_id.iter().flatten() {
        handled.push(Handled {
            consumer: row.get(0),
            at: row.get(1),
            place: None,
        });
    }
    let by_offset = by_offset(&catalog, story, &mut handled).await?;
    if by_id.is_none() && by_offset == Offsets::None {
        let message = "the database has neither public.inbox nor public.inbox_offsets";
        return Err(Failure::new("table-missing", message));
    }
    Ok(handled)
}

/// The consumers one by one: each is a look into the primary key, which begins with the consumer.
fn by_id() -> String {
    let at = rfc3339("i.processed_at");
    format!(
        "WITH RECURSIVE consumers(name) AS ( \
           (SELECT consumer FROM public.inbox ORDER BY consumer LIMIT 1) \
           UNION ALL SELECT (SELECT i.consumer FROM public.inbox i \
             WHERE i.consumer > consumers.name ORDER BY i.consumer LIMIT 1) \
           FROM consumers WHERE consumers.name IS NOT NULL) \
         SELECT i.consumer, {at} \
         FROM consumers JOIN public.inbox i ON i.consumer = consumers.name AND i.event_id = $1 \
         ORDER BY i.processed_at"
    )
}

/// Whether a consumer's database stores offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offsets {
    Stored,
    None,
}

async fn by_offset(
    catalog: &Catalog,
    story: &Story,
    handled: &mut Vec<Handled>,
) -> Result<Offsets, Failure> {
    let present_table = "SELECT to_regclass('public.inbox_offsets') IS NOT NULL";
    if !catalog.one(present_table, &[]).await?.get::<_, bool>(0) {
        return Ok(Offsets::None);
    }
    for record in &story.records {
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&record.topic, &record.partition, &record.offset];
        let rows = catalog.client().query(BEYOND, &params).await;
        for row in present(rows)?.iter().flatten() {
            handled.push(Handled {
                consumer: row.get(0),
                at: None,
                place: Some(record.place.clone()),
            });
        }
    }
    Ok(Offsets::Stored)
}

/// The rows; `None` if there is no such table.
fn present(
    rows: Result<Vec<tokio_postgres::Row>, tokio_postgres::Error>,
) -> Result<Option<Vec<tokio_postgres::Row>>, Failure> {
    match rows {
        Ok(rows) => Ok(Some(rows)),
        Err(e) if e.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
        Err(e) => Err(source::failure("reading a consumer's inbox", &e)),
    }
}

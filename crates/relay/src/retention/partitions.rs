//! Whole partitions of a partitioned table.

use tokio_postgres::Client;

use super::round::{Extent, KeptPartition};
use super::table::Aged;
use crate::failure::Failure;
use crate::sql::qualified;
use crate::writeback::error::classify;

const LEAVES: &str = "SELECT n.nspname::text, c.relname::text, pn.nspname::text, p.relname::text \
     FROM pg_partition_tree($1::oid) t \
     JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_class p ON p.oid = t.parentrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace \
     WHERE t.isleaf AND c.relkind = 'r' ORDER BY c.oid";

/// What became of the partitions.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub dropped: Vec<String>,
    pub kept: Vec<KeptPartition>,
}

/// Drops every partition that holds rows, all of them durable and old. An empty one may be there
/// for rows to come.
pub(super) async fn go_through(
    client: &Client,
    aged: &Aged,
    cutoff: &str,
    proof: &str,
    extent: Extent,
) -> Result<Outcome, Failure> {
    let leaves = client.query(LEAVES, &[&aged.oid]).await;
    let leaves = leaves.map_err(|e| classify("looking for partitions", &e))?;
    let mut outcome = Outcome::default();
    for row in leaves {
        let text = |column: usize| row.get::<_, String>(column);
        let leaf = Leaf {
            shown: format!("{}.{}", text(0), text(1)),
            name: qualified(&text(0), &text(1)),
            parent: qualified(&text(2), &text(3)),
            is_young: format!("({} < {cutoff}) IS NOT TRUE", aged.time),
            is_unproven: format!("({proof}) IS NOT TRUE"),
        };
        match leaf.judge(client).await? {
            Verdict::Empty | Verdict::Young => {}
            Verdict::Unproven(rows) => outcome.kept.push(KeptPartition {
                partition: leaf.shown,
                rows,
            }),
            Verdict::Old => {
                if extent == Extent::Count || leaf.drop(client).await? {
                    outcome.dropped.push(leaf.shown);
                }
            }
        }
    }
    Ok(outcome)
}

struct Leaf {
    shown: String,
    name: String,
    parent: String,
    is_young: String,
    is_unproven: String,
}

enum Verdict {
    Empty,
    Young,
    /// So many old rows are not known to be durable.
    Unproven(i64),
    Old,
}

impl Leaf {
    async fn judge(&self, client: &Client) -> Result<Verdict, Failure> {
        let Self {
            name,
            is_young,
            is_unproven,
            ..
        } = self;
        let sql = format!(
            "SELECT EXISTS (SELECT FROM ONLY {name}), \
               EXISTS (SELECT FROM ONLY {name} WHERE {is_young})"
        );
        let row = query_one(client, &sql).await?;
        if !row.get::<_, bool>(0) {
            return Ok(Verdict::Empty);
        }
        if row.get(1) {
            return Ok(Verdict::Young);
        }
        let sql = format!("SELECT count(*) FROM ONLY {name} WHERE {is_unproven}");
        Ok(match query_one(client, &sql).await?.get(0) {
            0 => Verdict::Old,
            rows => Verdict::Unproven(rows),
        })
    }

    /// Rows are looked at once more, while nobody can write to this partition. Only the moment of
    /// detaching locks the whole table.
    async fn drop(&self, client: &Client) -> Result<bool, Failure> {
        let Self { name, parent, .. } = self;
        let run = async |sql: &str| {
            let done = client.batch_execute(sql).await;
            done.map_err(|e| classify(&format!("dropping partition {}", self.shown), &e))
        };
        let dropping = async {
            run(&format!("BEGIN; LOCK TABLE ONLY {name} IN SHARE MODE")).await?;
            let is_old = matches!(self.judge(client).await?, Verdict::Old);
            if is_old {
                let detach = format!("ALTER TABLE ONLY {parent} DETACH PARTITION {name}");
                run(&format!("{detach}; DROP TABLE {name}; COMMIT")).await?;
            } else {
                run("ROLLBACK").await?;
            }
            Ok(is_old)
        };
        let dropped = dropping.await;
        if dropped.is_err() {
            let _ = run("ROLLBACK").await;
        }
        dropped
    }
}

async fn query_one(client: &Client, sql: &str) -> Result<tokio_postgres::Row, Failure> {
    let row = client.query_one(sql, &[]).await;
    row.map_err(|e| classify("looking at a partition", &e))
}

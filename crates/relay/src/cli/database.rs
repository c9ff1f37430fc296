//! The database as the operator commands see it.

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use crate::config::{Host, Postgres};
use crate::failure::Failure;
use crate::source::catalog::Catalog;

/// Whether role `r` of `pg_roles` may stream. Where the attribute can't be given, as on RDS, members
/// of a role may.
pub(super) const MAY_STREAM: &str = "(r.rolsuper OR r.rolreplication OR EXISTS ( \
     SELECT 1 FROM pg_roles g WHERE g.rolname = 'rds_replication' \
       AND pg_has_role(r.oid, g.oid, 'MEMBER')))";

pub(super) use crate::sql::quote;

/// A host and what came of connecting to it.
pub(super) struct Visit {
    pub host: Host,
    pub outcome: Result<Server, Failure>,
}

/// A server that lets us in.
pub(super) struct Server {
    pub catalog: Catalog,
    pub is_primary: bool,
}

/// Connects to every configured host, in order.
pub(super) async fn visit(postgres: &Postgres) -> Vec<Visit> {
    let mut visits = Vec::with_capacity(postgres.hosts.len());
    for host in &postgres.hosts {
        visits.push(Visit {
            host: host.clone(),
            outcome: connect(postgres, host).await,
        });
    }
    visits
}

async fn connect(postgres: &Postgres, host: &Host) -> Result<Server, Failure> {
    let catalog = Catalog::connect(postgres, host).await?;
    let row = one(&catalog, "SELECT NOT pg_is_in_recovery()", &[]).await?;
    Ok(Server {
        is_primary: row.get(0),
        catalog,
    })
}

/// The first primary; without one, why the hosts are of no use.
pub(super) async fn primary(postgres: &Postgres) -> Result<Catalog, Failure> {
    let mut refusal = None;
    for visit in visit(postgres).await {
        match visit.outcome {
            Ok(server) if server.is_primary => return Ok(server.catalog),
            Ok(_) => {
                let message = format!("{} is a standby, not the primary", visit.host);
                refusal = refusal.or(Some(Failure::new("postgres-unreachable", message)));
            }
            Err(failure) => refusal = Some(failure),
        }
    }
    Err(refusal.unwrap_or_else(|| Failure::new("postgres-unreachable", "no host is configured")))
}

/// All rows of a query.
pub(super) async fn all(
    catalog: &Catalog,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Failure> {
    let rows = catalog.client().query(sql, params).await;
    rows.map_err(|e| failure("querying the catalog", &e))
}

/// The only row of a query.
pub(super) async fn one(
    catalog: &Catalog,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Row, Failure> {
    let row = catalog.client().query_one(sql, params).await;
    row.map_err(|e| failure("querying the catalog", &e))
}

fn failure(attempt: &str, error: &tokio_postgres::Error) -> Failure {
    let code = match error.code() {
        Some(state) if *state == SqlState::INSUFFICIENT_PRIVILEGE => "permission-denied",
        Some(_) | None => "postgres-lost",
    };
    Failure::caused(code, attempt, error)
}

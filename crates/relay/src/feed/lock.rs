//! Who is making the slot.
//!
//! A slot that is made with a feed is free while the rows of the feed are gathered. Relays that
//! look meanwhile must not begin with it, nor fence whoever is at work. What makes that safe is the
//! record in the checkpoint topic; the lock keeps two of them from undoing each other's work.

use super::Connection;
use crate::config::Postgres;
use crate::failure::Failure;
use crate::source::catalog::Catalog;

/// First key of the advisory lock; the second one is made of the slot's name.
const FAMILY: i32 = 0x6f75_7462;

/// The right to make the slot, or to make another in its place; it ends with its connection.
pub struct Lock {
    _connection: Connection,
}

impl Lock {
    /// Takes it, if nobody has it.
    pub async fn take(postgres: &Postgres, slot: &str) -> Result<Self, Failure> {
        let connection = Connection::open(postgres).await?;
        let sql = "SELECT pg_try_advisory_lock($1, hashtext($2))";
        let rows = connection.rows(sql, &[&FAMILY, &slot]).await?;
        match rows.first().map(|row| row.get(0)) {
            Some(true) => Ok(Self {
                _connection: connection,
            }),
            Some(false) | None => Err(in_the_making(slot)),
        }
    }
}

/// Refuses to go on while somebody has the lock.
pub async fn held(catalog: &Catalog, slot: &str) -> Result<(), Failure> {
    let sql = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
               AND classid::bigint = $1::int::bigint AND objsubid = 2 \
               AND objid::bigint = hashtext($2)::bigint & 4294967295)";
    match catalog.one(sql, &[&FAMILY, &slot]).await?.get(0) {
        true => Err(in_the_making(slot)),
        false => Ok(()),
    }
}

fn in_the_making(slot: &str) -> Failure {
    let message = format!("replication slot {slot:?} is being made by another process");
    Failure::new("slot-active", message)
}

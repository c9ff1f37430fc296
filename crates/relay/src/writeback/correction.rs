//! Outcomes written by somebody who is not the relay, and who tries only once.

use std::collections::BTreeMap;

use delivery::Marks;
use envelope::TableId;

use super::batch::gather;
use super::modes;
use super::session::{Server, Session, Updated};
use crate::config::{Pipeline, WriteBack};
use crate::failure::Failure;

/// A connection that writes what the relay would have written.
pub struct Correction {
    session: Session,
    modes: BTreeMap<TableId, WriteBack>,
}

impl Correction {
    /// Connects to the server and looks at the tables.
    pub async fn open(pipeline: &Pipeline, server: &Server) -> Result<Self, Failure> {
        Ok(Self {
            session: Session::open(pipeline, server).await?,
            modes: modes(pipeline),
        })
    }

    /// Writes outcomes of rows whose transactions are long over; how many rows did not say so yet.
    pub async fn write(&self, marks: &Marks) -> Result<u64, Failure> {
        let mut rows = 0;
        for (table, outcomes) in gather(std::iter::once(marks), &self.modes) {
            let Updated { sent, failed, .. } = self.session.update(table, &outcomes).await?;
            rows += sent + failed;
        }
        Ok(rows)
    }
}

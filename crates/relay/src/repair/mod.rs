//! Repair: what a lost slot, checkpoint or server has left unpublished is found and published.
//!
//! ```text
//!  diagnosis ─► suspects (rows that may be unpublished) ─► topics (which of them are there)
//!                                                              │
//!      plan: shown        apply: new slot, feed of the rest ◄──┘
//! ```
//!
//! The topics are the proof: a row whose event is not found in them is unpublished. Which rows are
//! looked for is told by their state or, where no state is kept, by their time.

mod apply;
mod diagnosis;
mod proof;
mod seen;
mod survey;
mod suspects;

pub use apply::{Done, apply};
pub use diagnosis::{Diagnosis, Reach};
pub use survey::{Phantoms, Plan, RowName, TableReport, Ways};

use crate::config::Pipeline;
use crate::failure::Failure;
use crate::feed::{self, Connection};
use crate::topics::Open;
use crate::{sink, source};

use self::survey::Survey;

/// How far a repair has got.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Rows are looked for that may be unpublished.
    Tables,
    /// So many records of the topics were looked at.
    Records(u64),
    /// What is unpublished is written down.
    Gathering,
    /// Rows that are published take their state.
    Marking,
}

/// What would be done, without changing or fencing anything. `None` if there is nothing to repair.
pub async fn plan(
    pipeline: &Pipeline,
    ways: &Ways,
    tell: impl Fn(Step),
) -> Result<Option<Plan>, Failure> {
    let session = source::connect(pipeline).await?;
    let checkpoint = sink::read_latest(pipeline).await?.checkpoint;
    let diagnosis = diagnosis::diagnose(checkpoint.as_ref(), &session.facts, ways)?;
    let Some(diagnosis) = diagnosis else {
        return Ok(None);
    };
    let holder = session.catalog.holder(&pipeline.slot_name()).await?;
    let connection = Connection::open(&pipeline.postgres).await?;
    connection
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let has_feeds = feed::present(&session.catalog).await?;
    tell(Step::Tables);
    let mut survey = Survey::take(pipeline, &connection, diagnosis, ways, has_feeds).await?;
    survey
        .read_topics(&connection, Open::PassedOver, &tell)
        .await?;
    let mut plan = survey.plan(&connection, ways.list).await?;
    plan.holder = holder.map(|holder| holder.to_string());
    plan.has_schema = has_feeds;
    Ok(Some(plan))
}

//! Looks at the catalog about once a second: is the publication intact, where does the WAL end,
//! how many rows have been written.

use std::sync::Arc;
use std::time::Duration;

use delivery::{Consent, Coverage};
use envelope::TableSpec;
use pgoutput::Lsn;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Context, yielding};
use crate::failure::Failure;
use crate::source::SILENT;
use crate::source::catalog::{Catalog, SlotUse};
use crate::source::publication::PublicationFacts;
use crate::telemetry::Vitals;

const INTERVAL: Duration = Duration::from_secs(1);

/// What the watcher saw.
#[derive(Debug)]
pub(super) enum Sighting {
    /// The publication is intact.
    Verified {
        /// End of the WAL before the look.
        lsn: Lsn,
        /// Rows written so far, per table; `None` where it can't be known.
        counters: Vec<Option<i64>>,
        /// What the slot costs.
        slot: SlotUse,
    },
    /// The pipeline must stop.
    Refused(Failure),
    /// The catalog connection has ended, or nothing comes over it any more; or a standby is to go
    /// on instead.
    Ended(Failure),
}

/// What is looked at.
struct Watched {
    publication: String,
    /// As it was when the session began.
    coverage: Coverage,
    tables: Vec<TableSpec>,
    slot: String,
    /// Told of looks that fail.
    vitals: Arc<Vitals>,
}

/// Looks at the catalog in a task of its own, which ends with it.
pub(super) struct Watcher {
    sightings: mpsc::Receiver<Sighting>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Starts looking.
    pub fn start(context: &Context, catalog: Catalog, coverage: Coverage) -> Self {
        let pipeline = &context.pipeline;
        let (sender, sightings) = mpsc::channel(8);
        let watched = Watched {
            publication: pipeline.postgres.publication.clone(),
            coverage,
            tables: pipeline.tables.clone(),
            slot: pipeline.slot_name(),
            vitals: Arc::clone(&context.vitals),
        };
        let yielding = yielding::due(pipeline.clone(), Arc::clone(&context.vitals));
        let task = tokio::spawn(async move {
            let looking = run(catalog, watched, sender.clone());
            tokio::select! {
                () = looking => {}
                failure = yielding => {
                    let _ = sender.send(Sighting::Ended(failure)).await;
                }
            }
        });
        Self { sightings, task }
    }

    /// What was seen next; cancel-safe.
    pub async fn sighting(&mut self) -> Sighting {
        let ended = || Failure::new("postgres-lost", "the catalog watcher ended");
        self.sightings
            .recv()
            .await
            .unwrap_or_else(|| Sighting::Ended(ended()))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Looks until the connection ends or a look finds a reason to stop.
async fn run(catalog: Catalog, watched: Watched, sightings: mpsc::Sender<Sighting>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            failure = catalog.ended() => {
                let _ = sightings.send(Sighting::Ended(failure)).await;
                return;
            }
        }
        let sighting = tokio::select! {
            looked = look(&catalog, &watched) => looked,
            failure = catalog.ended() => Err(failure),
        };
        let sighting = match sighting {
            Ok(sighting) => sighting,
            Err(failure) if ends_session(&failure) => Sighting::Ended(failure),
            // A look that fails for a passing reason confirms nothing; the next one may succeed.
            Err(failure) if failure.is_transient() => {
                tracing::debug!(%failure, "catalog not readable");
                watched.vitals.look_failed(&failure);
                continue;
            }
            Err(failure) => Sighting::Refused(failure),
        };
        if sightings.send(sighting).await.is_err() {
            return;
        }
    }
}

/// On a connection that does not answer, no later look would succeed.
fn ends_session(failure: &Failure) -> bool {
    ["postgres-shutdown", SILENT].contains(&failure.code.name)
}

async fn look(catalog: &Catalog, watched: &Watched) -> Result<Sighting, Failure> {
    let tables = &watched.tables;
    let counters = catalog.rows_written(tables).await?;
    // The LSN comes first: the look after it vouches for all WAL before it.
    let lsn = catalog.wal_end().await?;
    let now = PublicationFacts::read(catalog, &watched.publication).await?;
    now.check(catalog, tables).await?;
    let now = now.coverage(tables);
    delivery::check_coverage(&watched.coverage, &now, Consent::default())?;
    let slot = catalog.slot_use(&watched.slot).await?;
    Ok(Sighting::Verified {
        lsn,
        counters,
        slot,
    })
}

//! How long consumers wait after a fault until events come that were committed after it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use pgoutput::{Lsn, Position};

use crate::reader::Reader;
use crate::stage::{Stage, TOPICS};
use crate::wait;

const STEP: Duration = Duration::from_millis(20);

/// A consumer of all event topics.
pub struct Consumer {
    awaited: Arc<Mutex<Awaited>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// The first event at or beyond an LSN.
#[derive(Default)]
struct Awaited {
    from: Option<Lsn>,
    came: Option<Instant>,
}

/// Something that was done to the active relay.
pub struct Fault {
    /// When.
    pub at: Instant,
}

impl Consumer {
    /// Reads everything from the beginning.
    pub fn start(stage: &Stage) -> Result<Self> {
        let reader = Reader::open(&stage.bootstrap(), &TOPICS)?;
        let (awaited, ended) = (
            Arc::<Mutex<Awaited>>::default(),
            Arc::<AtomicBool>::default(),
        );
        let (seen, over) = (Arc::clone(&awaited), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                // Nothing comes while the brokers are away.
                let Ok(Some(record)) = reader.next(STEP) else {
                    continue;
                };
                let position: Position = record.position.parse()?;
                let mut awaited = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if awaited
                    .from
                    .is_some_and(|from| position.commit_lsn.0 >= from)
                {
                    awaited.came.get_or_insert_with(Instant::now);
                }
            }
            Ok(())
        });
        Ok(Self {
            awaited,
            ended,
            thread: Some(thread),
        })
    }

    /// Does it, and begins to wait for what is committed afterwards: the relay that it is done to
    /// can't have published that.
    pub fn strike(&self, stage: &Stage, fault: impl FnOnce() -> Result<()>) -> Result<Fault> {
        let at = Instant::now();
        fault()?;
        let end = stage.value("SELECT pg_current_wal_insert_lsn()")?;
        let from = end.parse().map_err(|e| anyhow!("{end}: {e}"))?;
        *self.lock() = Awaited {
            from: Some(from),
            came: None,
        };
        Ok(Fault { at })
    }

    /// From the fault to the first event committed after it; `meanwhile` is called while it is
    /// awaited.
    pub async fn downtime(
        &self,
        fault: &Fault,
        within: Duration,
        mut meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<Duration> {
        let mut came = None;
        let what = "events flow again";
        wait::until(
            what,
            within.saturating_sub(fault.at.elapsed()),
            async || {
                meanwhile()?;
                came = self.lock().came;
                Ok(came.is_some())
            },
        )
        .await?;
        Ok(came.map_or(within, |came| came.duration_since(fault.at)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Awaited> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends; what went wrong on the way.
    pub fn stop(mut self) -> Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        let thread = self.thread.take().map(JoinHandle::join);
        match thread {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(anyhow!("the consumer panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

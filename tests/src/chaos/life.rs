//! Relays, one after the other, each with settings of its own.

use std::ops::Deref;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::relay::Relay;
use crate::stage::Stage;
use crate::wait;

/// Time for a relay to publish again once a fault has ended.
pub(super) const RECOVERED_WITHIN: Duration = Duration::from_secs(180);

/// Events and bytes after which a window closes: the default, and smaller ones.
const WINDOWS: [(&str, &str); 3] = [("10000", "4MiB"), ("100", "4MiB"), ("1000", "1MiB")];

/// A running relay.
pub(super) struct Life(Relay);

impl Deref for Life {
    type Target = Relay;

    fn deref(&self) -> &Relay {
        &self.0
    }
}

impl Life {
    /// The relay publishes, or does so again.
    pub async fn flows(&self) -> Result<()> {
        const PUBLISHED: &str = "outboxd_events_published_total";
        self.ready().await?;
        let before = self.count(PUBLISHED, "")?;
        let more = wait::until("events flow", RECOVERED_WITHIN, async || {
            Ok(self.count(PUBLISHED, "")? > before)
        });
        more.await.map(drop).with_context(|| self.log_text())
    }
}

/// How relays are started, and what they have used.
pub(super) struct Lives {
    mode: String,
    /// Of every relay; without it each has another one.
    concurrency: Option<u32>,
    /// How many were started.
    pub begun: u32,
    /// The most memory that one took, in KiB.
    pub peak_kib: u64,
}

impl Lives {
    pub fn new(mode: &str, concurrency: Option<u32>) -> Self {
        Self {
            mode: mode.to_owned(),
            concurrency,
            begun: 0,
            peak_kib: 0,
        }
    }

    /// Starts a relay with another concurrency and other limits of a window than the last one.
    pub fn begin(&mut self, stage: &Stage, random: &mut fastrand::Rng) -> Result<Life> {
        let concurrency = self.concurrency.unwrap_or_else(|| random.u32(1..=4));
        let windows = *random.choice(&WINDOWS).context("no windows")?;
        self.start(stage, concurrency, windows)
    }

    /// Starts one that catches up.
    pub fn begin_last(&mut self, stage: &Stage) -> Result<Life> {
        self.start(stage, self.concurrency.unwrap_or(2), WINDOWS[0])
    }

    fn start(
        &mut self,
        stage: &Stage,
        concurrency: u32,
        (events, bytes): (&str, &str),
    ) -> Result<Life> {
        self.begun += 1;
        let flags = [
            "--mode",
            &self.mode,
            "--concurrency",
            &concurrency.to_string(),
        ];
        let limits = [
            ("OUTBOXD_BATCH_MAX_EVENTS", events),
            ("OUTBOXD_BATCH_MAX_BYTES", bytes),
        ];
        stage.launch_with(&flags, &limits).map(Life)
    }

    /// SIGTERM.
    pub async fn retire(&mut self, relay: Life) -> Result<()> {
        self.peak_kib = self.peak_kib.max(relay.vm_hwm_kib()?);
        relay.0.stop().await.map(drop)
    }

    /// SIGKILL.
    pub fn end(&mut self, relay: Life) -> Result<()> {
        self.peak_kib = self.peak_kib.max(relay.vm_hwm_kib()?);
        relay.program().kill9();
        Ok(())
    }
}

//! Flags of the command line into a draft.

use std::fmt;
use std::path::PathBuf;

use super::draft::Draft;
use super::error::{Faults, Place};
use super::field::Sources;
use super::keys::{GLOBAL, PIPELINE, find};
use super::secret::REDACTED;
use super::value::Value;

/// Settings of the command line, as text: they are checked with everything else. They override
/// every other source and apply to every pipeline.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config`: the TOML file. Without it and `OUTBOXD_CONFIG` there is none.
    pub config: Option<PathBuf>,
    /// `--postgres`: connection URL. Other users of the machine can see flags, so a password is
    /// better kept elsewhere.
    pub postgres: Option<String>,
    /// `--kafka`: brokers, `host:port`.
    pub kafka: Option<String>,
    /// `--mode`.
    pub mode: Option<String>,
    /// `--sink`.
    pub sink: Option<String>,
    /// `--concurrency`.
    pub concurrency: Option<String>,
    /// `--slot`.
    pub slot: Option<String>,
    /// `--publication`.
    pub publication: Option<String>,
    /// `--admin-listen`: address and port.
    pub admin_listen: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--log-events`.
    pub log_events: Option<bool>,
}

impl fmt::Debug for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Overrides");
        debug.field("config", &self.config);
        for (_, flag, path, value) in self.texts() {
            let shown = if path == "postgres.url" {
                REDACTED
            } else {
                &*value
            };
            debug.field(flag, &shown);
        }
        debug.finish()
    }
}

/// Whether a flag concerns the process or every pipeline.
#[derive(Clone, Copy)]
enum Reach {
    Process,
    Pipelines,
}

impl Overrides {
    /// The flags that were given, with the paths of their keys.
    fn texts(&self) -> impl Iterator<Item = (Reach, &'static str, &'static str, String)> {
        let events = self.log_events.map(|events| events.to_string());
        let (process, pipelines) = (Reach::Process, Reach::Pipelines);
        [
            (
                pipelines,
                "--postgres",
                "postgres.url",
                self.postgres.clone(),
            ),
            (pipelines, "--kafka", "kafka.bootstrap", self.kafka.clone()),
            (pipelines, "--mode", "mode", self.mode.clone()),
            (pipelines, "--sink", "sink", self.sink.clone()),
            (
                pipelines,
                "--concurrency",
                "concurrency",
                self.concurrency.clone(),
            ),
            (pipelines, "--slot", "postgres.slot", self.slot.clone()),
            (
                pipelines,
                "--publication",
                "postgres.publication",
                self.publication.clone(),
            ),
            (
                process,
                "--admin-listen",
                "admin.listen",
                self.admin_listen.clone(),
            ),
            (
                process,
                "--log-format",
                "log.format",
                self.log_format.clone(),
            ),
            (process, "--log-level", "log.level", self.log_level.clone()),
            (process, "--log-events", "log.events", events),
        ]
        .into_iter()
        .filter_map(|(reach, flag, path, value)| Some((reach, flag, path, value?)))
    }
}

/// Applies the flags.
pub(super) fn read(
    overrides: &Overrides,
    draft: &mut Draft,
    sources: &Sources<'_>,
    faults: &mut Faults,
) {
    for (reach, flag, path, text) in overrides.texts() {
        let place = Place::Flag(flag);
        let value = Value::Untyped(text);
        match reach {
            Reach::Process => {
                if let Some(key) = find(GLOBAL, path) {
                    draft.global.set(key, value, &place, sources, faults);
                }
            }
            Reach::Pipelines => {
                let Some(key) = find(PIPELINE, path) else {
                    continue;
                };
                for pipeline in &mut draft.pipelines {
                    pipeline
                        .settings
                        .set(key, value.clone(), &place, sources, faults);
                }
            }
        }
    }
}

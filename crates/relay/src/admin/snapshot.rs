//! What /status says and the status page draws.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::Shown;
use crate::telemetry::{Figures, Status, Step};

/// Everything of a moment.
#[derive(Serialize)]
pub(super) struct Snapshot {
    version: &'static str,
    at_ms: u64,
    pipelines: Vec<Pipeline>,
}

#[derive(Serialize)]
struct Pipeline {
    #[serde(flatten)]
    status: Status,
    activity: Recent,
}

#[derive(Serialize)]
struct Recent {
    #[serde(flatten)]
    figures: Figures,
    /// Left out where they are what they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<Step>>,
}

impl Snapshot {
    /// As it is now.
    pub fn of(shown: &Shown, steps: Wanted) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let pipelines = shown.pipelines.iter();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            at_ms: u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
            pipelines: pipelines
                .map(|(vitals, metrics)| Pipeline {
                    status: vitals.status(),
                    activity: Recent {
                        figures: metrics.activity().figures(),
                        steps: match steps {
                            Wanted::Steps => Some(metrics.activity().steps()),
                            Wanted::Present => None,
                        },
                    },
                })
                .collect(),
        }
    }
}

/// How much of it.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    /// The last quarter of an hour as well.
    Steps,
    /// The figures of now.
    Present,
}

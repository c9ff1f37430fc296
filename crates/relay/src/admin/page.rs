//! The status page: one document without anything from elsewhere, drawn from the same data as /status and kept
//! up to date by server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Shown;
use super::snapshot::{Snapshot, Wanted};
use crate::telemetry::STEP;

const PAGE: &str = include_str!("page.html");
/// Where the data of the first drawing goes.
const FIRST: &str = "{{first}}";
const UPDATE: Duration = Duration::from_secs(1);
/// Pages that are kept up to date at the same time: each costs a connection and a kilobyte a second.
pub(super) const MOST_WATCHERS: usize = 32;

/// The page asks nobody but the relay, and runs no script but its own.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`
pub(super) async fn page(State(shown): State<Shown>) -> Response {
    let first = serde_json::to_string(&Snapshot::of(&shown, Wanted::Steps)).unwrap_or_default();
    // So that no text of an error can end the element that it stands in.
    let first = first.replace('<', "\\u003c");
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
    ];
    (headers, Html(PAGE.replacen(FIRST, &first, 1))).into_response()
}

/// `GET /updates`: what the page draws, once a second.
pub(super) async fn updates(State(shown): State<Shown>) -> Response {
    let Ok(place) = Arc::clone(&shown.watchers).try_acquire_owned() else {
        let text = "as many pages as the relay serves are open: close one";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let watcher = Watcher::new(shown, place);
    let events = stream::unfold(watcher, async |mut watcher| {
        let event = watcher.next().await;
        Some((Ok::<_, Infallible>(event), watcher))
    });
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

/// An open page.
struct Watcher {
    shown: Shown,
    clock: Interval,
    /// Updates until the steps are sent again.
    until_steps: u64,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    fn new(shown: Shown, place: OwnedSemaphorePermit) -> Self {
        let mut clock = interval(UPDATE);
        // A page that was not listening wants the present, not what it has missed.
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            shown,
            clock,
            until_steps: 0,
            _place: place,
        }
    }

    async fn next(&mut self) -> Event {
        self.clock.tick().await;
        let wanted = match self.until_steps {
            0 => Wanted::Steps,
            _ => Wanted::Present,
        };
        self.until_steps = match wanted {
            Wanted::Steps => STEP.as_secs() - 1,
            Wanted::Present => self.until_steps - 1,
        };
        let data = serde_json::to_string(&Snapshot::of(&self.shown, wanted));
        Event::default().data(data.unwrap_or_default())
    }
}

/// Ends a step of every pipeline when it is due, for as long as the process runs.
pub(super) async fn count_steps(shown: Shown) {
    let mut clock = interval(STEP);
    clock.tick().await;
    loop {
        clock.tick().await;
        for (vitals, metrics) in shown.pipelines.iter() {
            metrics.activity().end_step(vitals.publish_lag_seconds());
        }
    }
}

/// Places for open pages.
pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MOST_WATCHERS))
}

//! The admin endpoints: up from the first moment, whatever the pipelines do.

mod access;
mod page;
mod server;
mod snapshot;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use self::access::Access;
use self::snapshot::{Snapshot, Wanted};
use crate::config::Admin;
use crate::telemetry::{Metrics, PipelineMetrics, Readiness, Role, Vitals};

/// What the endpoints show.
#[derive(Clone)]
pub struct Shown {
    /// Every metric.
    pub metrics: Metrics,
    /// Each pipeline's vitals and metrics.
    pub pipelines: Arc<Vec<(Arc<Vitals>, PipelineMetrics)>>,
    /// Places for status pages that are kept up to date.
    watchers: Arc<Semaphore>,
}

impl Shown {
    /// Shows these.
    pub fn new(metrics: Metrics, pipelines: Vec<(Arc<Vitals>, PipelineMetrics)>) -> Self {
        Self {
            metrics,
            pipelines: Arc::new(pipelines),
            watchers: page::places(),
        }
    }

    fn vitals(&self) -> impl Iterator<Item = &Vitals> {
        self.pipelines.iter().map(|(vitals, _)| &**vitals)
    }
}

/// Listens; port 0 chooses a free one.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

pub use tls::{Tls, TlsError};

/// Serves until the process ends, to whoever the configuration admits.
pub async fn serve(listener: TcpListener, shown: Shown, admin: &Admin, tls: Option<Tls>) {
    tokio::spawn(page::count_steps(shown.clone()));
    let router = Router::new()
        .route("/", get(page::page))
        .route("/updates", get(page::updates))
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .route("/status", get(status))
        .with_state(shown)
        .layer(from_fn_with_state(Access::of(admin), access::check));
    server::serve(listener, router, tls).await;
}

/// 200 while the loops turn; a pipeline that waits or is stopped is alive.
async fn live(State(shown): State<Shown>) -> Response {
    let hung: Vec<_> = shown
        .vitals()
        .filter(|v| !v.is_alive())
        .map(Vitals::pipeline)
        .collect();
    let status = if hung.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(json!({ "live": hung.is_empty(), "hung": hung })),
    )
        .into_response()
}

/// 200 only when events can flow in every pipeline.
async fn ready(State(shown): State<Shown>) -> Response {
    let pipelines: Vec<Readiness> = shown.vitals().map(Vitals::readiness).collect();
    let ready = pipelines.iter().all(|p| p.ready);
    let role = common_role(&pipelines);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(json!({ "ready": ready, "role": role, "pipelines": pipelines })),
    )
        .into_response()
}

/// That of all pipelines; where they differ, that of the process among other relays.
fn common_role(pipelines: &[Readiness]) -> Role {
    let mut roles = pipelines.iter().map(|p| p.role);
    let Some(first) = roles.next() else {
        return Role::Candidate;
    };
    match roles.all(|role| role == first) {
        true => first,
        false if pipelines.iter().any(|p| p.role == Role::Active) => Role::Active,
        false => Role::Candidate,
    }
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = shown.metrics.expose(&shown.pipelines);
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn version() -> Json<serde_json::Value> {
    Json(json!({ "name": "outboxd", "version": env!("CARGO_PKG_VERSION") }))
}

async fn status(State(shown): State<Shown>) -> Json<Snapshot> {
    Json(Snapshot::of(&shown, Wanted::Present))
}

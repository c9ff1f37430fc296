//! Connections of the admin endpoints, bounded in number, size and time.
//!
//! Bodies of requests are never read: no endpoint takes one, and a connection whose request has one is
//! closed behind the answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_io_timeout::TimeoutStream;

use super::tls::Tls;

/// Scrapers, probes and open status pages are a dozen; the relay needs the rest of the process's file
/// descriptors itself (1024 on many systems).
const CONNECTIONS_MAX: usize = 128;
/// From the first byte of a request, or the last one of the answer before it, to the end of its header.
const HEADER_WITHIN: Duration = Duration::from_secs(10);
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// A client that takes nothing of an answer for this long is given up.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// Of a request's header; browsers send about one.
const HEADER_BYTES: usize = 16 << 10;
const HEADER_LINES: usize = 64;
/// While no connection can be accepted, because the process has no file descriptor left, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the process ends. One connection too many ends the oldest one, so that whoever holds
/// connections open keeps no probe out.
pub(super) async fn serve(listener: TcpListener, router: Router, tls: Option<Tls>) {
    let tls = tls.map(Arc::new);
    let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(CONNECTIONS_MAX);
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::debug!(%error, "an admin connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if open.len() >= CONNECTIONS_MAX {
            open.retain(|connection| !connection.is_finished());
        }
        if open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let connection = tokio::spawn(connection(socket, router.clone(), tls.clone()));
        open.push_back(connection.abort_handle());
    }
}

async fn connection(socket: TcpStream, router: Router, tls: Option<Arc<Tls>>) {
    let mut socket = TimeoutStream::new(socket);
    socket.set_write_timeout(Some(TAKEN_WITHIN));
    let socket = Box::pin(socket);
    let Some(tls) = tls else {
        return converse(socket, router).await;
    };
    let handshake = tls.acceptor().accept(socket);
    match tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await {
        Ok(Ok(socket)) => converse(socket, router).await,
        Ok(Err(error)) => {
            tracing::debug!(%error, "an admin connection failed in its TLS handshake")
        }
        Err(_) => tracing::debug!("an admin connection took too long for its TLS handshake"),
    }
}

async fn converse<S>(socket: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WITHIN)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADER_LINES)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection was given up");
    }
}

//! The replication stream over pgwire-replication.
//!
//! Its known traps, and what is done about them:
//! * a bare drop leaves a worker that reads on and holds the slot: [`PgStream`] aborts on drop;
//! * a stop does not send the last confirmed LSN: [`PgStream::close`] waits until it has been sent;
//! * there is no dead-peer timeout: the driver's watchdog ends a silent stream;
//! * the channel is bounded by count: it is kept short, so that few large rows are in it.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use delivery::ConfirmedLsn;
use pgoutput::{Begin, Commit, CommitLsn, EndLsn, Lsn, PgTimestamp};
use pgwire_replication::{PgWireError, ReplicationClient, ReplicationEvent};

use super::{Frame, WalSource, error};
use crate::failure::Failure;

/// Frames between the socket and the state machine. Each may hold one row, so this bounds memory
/// to that many of the largest rows; more of them would not raise throughput, as both ends run on
/// one thread.
pub(super) const BUFFERED_FRAMES: usize = 32;
/// How often a raised LSN is reported at most.
pub(super) const STATUS_INTERVAL: Duration = Duration::from_millis(200);
/// A server that has caught up sends a keepalive before it sleeps (`WalSndWaitForWal`). That many
/// frames without one mean that more is coming.
const BEHIND_FRAMES: u32 = 500;
const FEEDBACK_POLL: Duration = Duration::from_millis(5);

/// A started replication stream, which holds the slot.
pub struct PgStream {
    client: Option<ReplicationClient>,
    confirmed: Option<Lsn>,
    frames_since_keepalive: u32,
}

impl PgStream {
    pub(super) fn new(client: ReplicationClient) -> Self {
        Self {
            client: Some(client),
            confirmed: None,
            frames_since_keepalive: 0,
        }
    }

    /// Ends the stream; first, within `patience`, the last confirmed LSN is sent.
    pub async fn close(mut self, patience: Duration) {
        let sent = tokio::time::timeout(patience, self.confirmed_is_sent()).await;
        if sent.is_err() {
            tracing::debug!("the last confirmed LSN was not sent before the stream closed");
        }
        if let Some(mut client) = self.client.take() {
            client.stop();
            let _ = tokio::time::timeout(patience, client.shutdown()).await;
            client.abort();
        }
    }

    async fn confirmed_is_sent(&mut self) {
        let (Some(client), Some(confirmed)) = (&self.client, self.confirmed) else {
            return;
        };
        let metrics = client.metrics();
        while metrics.last_applied_lsn().as_u64() < confirmed.as_u64() && client.is_running() {
            tokio::time::sleep(FEEDBACK_POLL).await;
        }
    }

    fn received(
        &mut self,
        event: Result<Option<ReplicationEvent>, PgWireError>,
    ) -> Result<Frame, Failure> {
        self.frames_since_keepalive = match event {
            Ok(Some(ReplicationEvent::KeepAlive { .. })) => 0,
            _ => self.frames_since_keepalive.saturating_add(1),
        };
        match event {
            Ok(Some(event)) => frame(event),
            Ok(None) => Err(ended()),
            Err(e) => Err(error::replication("streaming", &e)),
        }
    }
}

impl Drop for PgStream {
    fn drop(&mut self) {
        if let Some(client) = &mut self.client {
            client.abort();
        }
    }
}

fn ended() -> Failure {
    Failure::new("postgres-lost", "the server ended the replication stream")
}

impl WalSource for PgStream {
    async fn next(&mut self) -> Result<Frame, Failure> {
        match &mut self.client {
            Some(client) => {
                let event = client.recv().await;
                self.received(event)
            }
            None => Err(ended()),
        }
    }

    fn try_next(&mut self) -> Option<Result<Frame, Failure>> {
        let polled = {
            let client = self.client.as_mut()?;
            let mut context = Context::from_waker(Waker::noop());
            std::pin::pin!(client.recv()).poll(&mut context)
        };
        match polled {
            Poll::Ready(event) => Some(self.received(event)),
            Poll::Pending => None,
        }
    }

    fn is_behind(&self) -> bool {
        self.frames_since_keepalive > BEHIND_FRAMES
    }

    fn confirm(&mut self, lsn: ConfirmedLsn) {
        self.confirmed = Some(lsn.lsn());
        if let Some(client) = &self.client {
            client.update_applied_lsn(pgwire_replication::Lsn::from_u64(lsn.lsn().as_u64()));
        }
    }
}

fn frame(event: ReplicationEvent) -> Result<Frame, Failure> {
    let lsn = |lsn: pgwire_replication::Lsn| Lsn::from(lsn.as_u64());
    Ok(match event {
        ReplicationEvent::KeepAlive {
            wal_end,
            reply_requested,
            ..
        } => Frame::Keepalive {
            wal_end: lsn(wal_end),
            reply_requested,
        },
        ReplicationEvent::Begin {
            final_lsn,
            xid,
            commit_time_micros,
        } => Frame::Begin(Begin {
            final_lsn: CommitLsn(lsn(final_lsn)),
            commit_time: PgTimestamp(commit_time_micros),
            xid,
        }),
        ReplicationEvent::Commit {
            lsn: commit,
            end_lsn,
            commit_time_micros,
        } => Frame::Commit(Commit {
            flags: 0,
            commit_lsn: CommitLsn(lsn(commit)),
            end_lsn: EndLsn(lsn(end_lsn)),
            commit_time: PgTimestamp(commit_time_micros),
        }),
        ReplicationEvent::Message { transactional, .. } => Frame::Logical { transactional },
        ReplicationEvent::XLogData { data, .. } => Frame::Message(data),
        ReplicationEvent::StoppedAt { .. } => return Err(ended()),
    })
}

//! Where changes come from: the replication stream, and the catalog beside it.

pub mod catalog;
mod connect;
mod error;
pub mod link;
pub mod presence;
pub mod publication;
mod stream;
mod tls;

use bytes::Bytes;
use delivery::{ConfirmedLsn, Delivery};
use pgoutput::Lsn;
use std::time::Instant;

use crate::failure::Failure;

pub use connect::{MadeSlot, Session, SlotForm, connect, primary};
pub(crate) use error::{SILENT, catalog as failure, silent};
pub use stream::PgStream;

/// One thing that the stream says.
#[derive(Debug)]
pub enum Frame {
    /// The server has sent everything that commits below `wal_end`.
    Keepalive {
        /// The server's place in the WAL.
        wal_end: Lsn,
        /// The server wants to hear from us now.
        reply_requested: bool,
    },
    /// A transaction begins.
    Begin(pgoutput::Begin),
    /// A transaction ends.
    Commit(pgoutput::Commit),
    /// A logical message; its content is not kept.
    Logical {
        /// Part of a transaction, and so counted in its positions.
        transactional: bool,
    },
    /// Any other pgoutput message, as it came.
    Message(Bytes),
}

/// A replication stream that has been started.
pub trait WalSource {
    /// The next frame; cancel-safe.
    fn next(&mut self) -> impl Future<Output = Result<Frame, Failure>>;
    /// A frame that is at hand.
    fn try_next(&mut self) -> Option<Result<Frame, Failure>>;
    /// Whether the server is known to have more to send.
    fn is_behind(&self) -> bool;
    /// Reports an LSN as flushed, at the next status update.
    fn confirm(&mut self, lsn: ConfirmedLsn);
}

/// Hands a frame to the state machine.
pub fn feed(frame: Frame, delivery: &mut Delivery, now: Instant) -> Result<(), Failure> {
    use pgoutput::Message;
    match frame {
        Frame::Keepalive {
            wal_end,
            reply_requested,
        } => {
            delivery.handle_keepalive(wal_end, reply_requested, now)?;
        }
        Frame::Begin(begin) => delivery.handle_message(Message::Begin(begin), now)?,
        Frame::Commit(commit) => delivery.handle_message(Message::Commit(commit), now)?,
        Frame::Logical { transactional } => {
            let message = pgoutput::LogicalMessage {
                transactional,
                lsn: Lsn::INVALID,
                prefix: "",
                content: &[],
            };
            delivery.handle_message(Message::Logical(message), now)?;
        }
        Frame::Message(bytes) => {
            let message = pgoutput::parse(&bytes)
                .map_err(|e| Failure::caused("protocol", "decoding a change", &e))?;
            delivery.handle_message(message, now)?;
        }
    }
    Ok(())
}

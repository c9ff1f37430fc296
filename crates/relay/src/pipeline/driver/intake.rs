//! What is taken in: frames of the stream, and what is published besides it.

use std::time::{Duration, Instant};

use pgoutput::Lsn;

use super::Driver;
use crate::failure::Failure;
use crate::feed::Fed;
use crate::pipeline::service::{Served, hand_in};
use crate::source::{self, Frame, WalSource};

/// Frames taken in before the sink's reports are looked at again.
const FRAMES_PER_TURN: usize = 256;
/// While behind, the walsender sends every message by itself, and answering each with a wake-up
/// costs more than handling it: after this long there is a socket full of them.
const REST: Duration = Duration::from_micros(300);

/// What was tried to get another frame.
#[derive(Clone, Copy)]
enum Tries {
    Read,
    Yielded,
    Rested,
}

impl Driver<'_> {
    /// Takes a frame in, and what else is at hand.
    pub(super) async fn take_in(&mut self, first: Frame) -> Result<(), Failure> {
        let now = Instant::now();
        self.heard = now;
        self.note(&first);
        source::feed(first, &mut self.delivery, now)?;
        let mut tries = Tries::Read;
        for _ in 0..FRAMES_PER_TURN {
            if !self.delivery.wants_input() {
                return Ok(());
            }
            if let Some(frame) = self.stream.try_next() {
                let frame = frame?;
                self.note(&frame);
                source::feed(frame, &mut self.delivery, now)?;
                tries = Tries::Read;
                continue;
            }
            tries = match tries {
                // The reader runs on this thread too: it may have more once it had its turn.
                Tries::Read => Tries::Yielded,
                Tries::Yielded if self.stream.is_behind() => {
                    // Blocks the reader, on purpose.
                    std::thread::sleep(REST);
                    Tries::Rested
                }
                Tries::Rested if self.stream.is_behind() => return Ok(()),
                Tries::Yielded | Tries::Rested => {
                    self.delivery.handle_source_idle(Instant::now());
                    self.took_all = true;
                    return Ok(());
                }
            };
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn note(&mut self, frame: &Frame) {
        match frame {
            Frame::Keepalive { wal_end, .. } => {
                self.context.vitals.progressed();
                self.backlog.streamed_to(*wal_end);
                self.reached = self.reached.max(*wal_end);
            }
            // A slot that is confirmed beyond the commit has the transaction behind it.
            Frame::Begin(begin) => {
                let beyond = Lsn::from(begin.final_lsn.0.as_u64() + 1);
                self.reached = self.reached.max(beyond);
            }
            Frame::Commit(_) | Frame::Logical { .. } | Frame::Message(_) => {}
        }
    }

    pub(super) fn served(&mut self, served: Result<Served, Failure>) -> Result<(), Failure> {
        let now = Instant::now();
        match served? {
            Served::Letter(letter, dropped) => {
                hand_in(&mut self.delivery, &letter, dropped, now)?;
            }
            Served::Fed(fed) => self.fed(fed, now)?,
            Served::End => {
                self.service = None;
                self.delivery.handle_served(now);
            }
        }
        Ok(())
    }

    fn fed(&mut self, fed: Fed, now: Instant) -> Result<(), Failure> {
        match fed {
            Fed::Relation(relation) => self.delivery.handle_fed_relation(&relation)?,
            Fed::Row(row) => self.delivery.handle_fed_row(&row.as_fed()?, now)?,
            Fed::End { missing } => {
                self.service = None;
                self.context.metrics.feed_missing(missing);
                self.delivery.handle_feed_end(now);
            }
        }
        Ok(())
    }
}

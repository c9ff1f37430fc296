//! One way of a link: what is forwarded there, and when.

use std::time::{Duration, Instant};

use crate::proxy::Direction;

/// The way of one writer; [`Direction`] without "both".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

impl Way {
    pub const BOTH: [Way; 2] = [Way::ToServer, Way::ToClient];

    pub fn is_in(self, direction: Direction) -> bool {
        match direction {
            Direction::ToServer => self == Way::ToServer,
            Direction::ToClient => self == Way::ToClient,
            Direction::Both => true,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Lane {
    pub frozen: bool,
    pub delay: Duration,
    pub bytes_per_s: Option<u64>,
    /// When a throttled lane has sent all that it promised so far.
    busy_until: Instant,
}

impl Lane {
    pub fn new() -> Lane {
        Lane {
            frozen: false,
            delay: Duration::ZERO,
            bytes_per_s: None,
            busy_until: Instant::now(),
        }
    }

    /// How large a piece a writer should ask leave for: a twentieth of a second's worth.
    pub fn piece_bytes(&self) -> usize {
        let piece = self
            .bytes_per_s
            .and_then(|rate| usize::try_from(rate / 20).ok());
        piece.unwrap_or(usize::MAX).max(1)
    }

    /// When the bytes may go on, none while frozen. A throttled lane is booked once.
    pub fn due(
        &mut self,
        arrived: Instant,
        bytes: usize,
        now: Instant,
        booked: &mut Option<Instant>,
    ) -> Option<Instant> {
        if self.frozen {
            return None;
        }
        let delayed = arrived + self.delay;
        let Some(rate) = self.bytes_per_s else {
            return Some(delayed);
        };
        let sent = booked.get_or_insert_with(|| {
            let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
            self.busy_until = self.busy_until.max(now) + takes;
            self.busy_until
        });
        Some(delayed.max(*sent))
    }
}

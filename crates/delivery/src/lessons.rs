//! What one session has learned and the next need not learn again. Nothing of it is needed to be
//! right: a relay that is killed learns it anew.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use pgoutput::{Begin, CommitLsn, PgTimestamp, Position};

use crate::breaker::Breaker;
use crate::topics::Topics;
use crate::verdict::{Class, Verdict};
use crate::{Halt, RefusedEvent, RetryPolicy};

/// Refused events that are remembered at most.
const MAX_REFUSED: usize = 10_000;
/// Requests that are remembered: of those that one session may have to carry out again.
const MAX_REQUESTS: usize = 1_000;

/// Transactions that are vouched for: each has more rows than may wait for the tables.
pub(crate) const VOUCHED_MAX: usize = 1_000;

/// Topics, refused events, and how carefully to go on.
#[derive(Debug)]
pub struct Lessons {
    pub(crate) topics: Topics,
    pub(crate) breaker: Breaker,
    /// Events that the brokers refused: when they were alone in their window, or by name.
    /// Each with its id, for places in feeds and on restored servers are used again.
    refused: BTreeMap<Position, (String, Verdict)>,
    /// After a window was refused: so many events in the next one, alone in Kafka's hands, until
    /// the one that is at fault is found.
    pub(crate) caution: Option<usize>,
    /// A transaction at which a session was stopped: what comes before it is to be durable first.
    pub(crate) barrier: Option<CommitLsn>,
    /// Transactions that came before the checkpoint's one, each with more rows than are held until that
    /// one comes. Where one comes again, the history is the same up to there.
    vouched: VecDeque<Begin>,
    /// Requests for which refusals were forgotten.
    requests: VecDeque<String>,
    /// The server's, in the session before.
    timeline: Option<u32>,
}

impl Lessons {
    /// Nothing has been learned. Refusals of a topic must be repeated `max_retries` times.
    pub fn new(policy: RetryPolicy, max_retries: u32) -> Self {
        Self {
            topics: Topics::new(policy, max_retries),
            breaker: Breaker::default(),
            refused: BTreeMap::new(),
            caution: None,
            barrier: None,
            vouched: VecDeque::new(),
            requests: VecDeque::new(),
            timeline: None,
        }
    }

    /// A session begins. On another timeline LSNs are those of other events.
    pub(crate) fn renew(mut self, timeline: u32, now: Instant) -> Self {
        self.topics.renew(now);
        if self.timeline.replace(timeline) != Some(timeline) {
            self.refused.clear();
            self.barrier = None;
            self.vouched.clear();
            self.breaker.forget_counted();
        }
        self
    }

    /// A window was refused that no probe had warned of. `alone` is the event in it, if it was the
    /// only one in Kafka's hands.
    pub(crate) fn refused(
        &mut self,
        events: usize,
        alone: Option<(Position, String)>,
        reason: &str,
        wall: PgTimestamp,
    ) {
        match alone {
            Some((position, id)) if events == 1 => self.blame(
                RefusedEvent {
                    position,
                    id,
                    reason: reason.to_owned(),
                },
                wall,
            ),
            Some(_) | None => self.caution = Some((events / 2).max(1)),
        }
    }

    /// These are the events that the brokers refuse. If they are too many to be remembered, the next
    /// windows are smaller.
    pub(crate) fn named(&mut self, events: &[RefusedEvent], wall: PgTimestamp) {
        if self.refused.len() + events.len() > MAX_REFUSED {
            self.caution = Some((events.len() / 2).max(1));
        }
        for event in events {
            self.blame(event.clone(), wall);
        }
    }

    /// The pipeline stops until its cause is repaired, which the next session is to notice.
    pub(crate) fn halted_by(&mut self, halt: &Halt) {
        self.topics.forget_refusals();
        if matches!(halt, Halt::Refused { .. }) {
            self.refused.clear();
        }
    }

    fn blame(&mut self, event: RefusedEvent, wall: PgTimestamp) {
        if self.refused.len() >= MAX_REFUSED {
            self.refused.pop_first();
        }
        let verdict = Verdict::certain(Class::Refused, event.reason, wall);
        self.refused.insert(event.position, (event.id, verdict));
    }

    /// Whether it is known that the brokers refuse an event.
    pub(crate) fn refusal_of(&self, position: Position, id: &str) -> Option<&Verdict> {
        let (refused, verdict) = self.refused.get(&position)?;
        (refused == id).then_some(verdict)
    }

    /// Everything that commits before `lsn` is durable.
    pub(crate) fn passed(&mut self, lsn: CommitLsn) {
        self.breaker.passed(lsn);
        self.barrier = self.barrier.filter(|barrier| *barrier >= lsn);
    }

    /// The checkpoint's transaction has come behind these.
    pub(crate) fn vouch_for(&mut self, outgrown: Vec<Begin>) {
        for begin in outgrown {
            if self.vouches_for(&begin) {
                continue;
            }
            if self.vouched.len() >= VOUCHED_MAX {
                self.vouched.pop_front();
            }
            self.vouched.push_back(begin);
        }
    }

    /// Whether an earlier session has seen that very transaction in the history of the checkpoint.
    pub(crate) fn vouches_for(&self, begin: &Begin) -> bool {
        self.vouched.contains(begin)
    }

    /// An operator asks for what was refused: it may have been repaired. Asked once, for what is
    /// refused while a request is carried out would be refused for ever.
    pub(crate) fn repaired_by(&mut self, request: &str) {
        if self.requests.iter().any(|known| known == request) {
            return;
        }
        self.topics.forget_refusals();
        self.refused.clear();
        if self.requests.len() >= MAX_REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(request.to_owned());
    }

    /// A window got through.
    pub(crate) fn got_through(&mut self, max_events: usize) {
        self.caution = self.caution.map(|n| n * 2).filter(|n| *n < max_events);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pgoutput::Lsn;

    use super::*;

    #[test]
    fn where_too_many_are_named_the_next_windows_are_smaller() {
        let policy = RetryPolicy {
            initial: Duration::ZERO,
            max: Duration::ZERO,
            multiplier: 1.0,
        };
        let mut lessons = Lessons::new(policy, 0);
        let event = |index| RefusedEvent {
            position: Position {
                commit_lsn: CommitLsn(Lsn::from(10)),
                index,
            },
            id: String::new(),
            reason: String::new(),
        };
        let named = |count: u64| (0..count).map(event).collect::<Vec<_>>();
        lessons.named(&named(9_000), PgTimestamp(0));
        assert_eq!(lessons.caution, None);
        lessons.named(&named(12_000), PgTimestamp(0));
        assert_eq!(lessons.caution, Some(6_000));
        assert_eq!(lessons.refused.len(), MAX_REFUSED);
    }
}

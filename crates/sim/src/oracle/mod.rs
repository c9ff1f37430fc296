//! The judge. It reads the log that services wrote, what the server heard, and what consumers of
//! the broker see, and nothing of the relay.

mod expectation;
mod order;

use std::collections::BTreeMap;

use delivery::{Checkpoint, Kind};
use pgoutput::Lsn;

use expectation::Expectation;

use crate::Violation;
use crate::broker::{Broker, RecordId};
use crate::server::{ConnectionId, Notice, Server};
use crate::setup::Mode;

/// Watches a run and judges its end.
#[derive(Debug)]
pub struct Oracle {
    mode: Mode,
    expectation: Expectation,
    timeline: u32,
    notices_seen: usize,
    durable_seen: usize,
    /// The newest committed checkpoint.
    checkpoint: Option<(RecordId, Checkpoint)>,
    /// What each connection reported last.
    reported: BTreeMap<ConnectionId, Lsn>,
    /// Up to where each connection has looked at the publication.
    verified: BTreeMap<ConnectionId, Lsn>,
}

impl Oracle {
    /// Of a run that has not begun.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            expectation: Expectation::default(),
            timeline: 1,
            notices_seen: 0,
            durable_seen: 0,
            checkpoint: None,
            reported: BTreeMap::new(),
            verified: BTreeMap::new(),
        }
    }

    /// Takes in what is new; after every step, so that nothing is reported before it is durable.
    pub fn observe(&mut self, server: &Server, broker: &Broker) -> Result<(), Violation> {
        self.follow(server);
        self.expectation.extend(&server.history);
        while let Some(id) = broker.durable().get(self.durable_seen) {
            self.durable_seen += 1;
            self.became_durable(*id, broker)?;
        }
        while let Some(notice) = server.notices().get(self.notices_seen) {
            self.notices_seen += 1;
            self.heard(*notice)?;
        }
        Ok(())
    }

    /// Whether every committed event is durable.
    pub fn is_complete(&self) -> bool {
        self.expectation.first_missing().is_none()
    }

    /// How many events there are.
    pub fn events(&self) -> usize {
        self.expectation.events().len()
    }

    /// What consumers see in the end. `sessions`: in at-least-once mode a second one may repeat.
    pub fn judge(
        &self,
        broker: &Broker,
        least_max_bytes: usize,
        sessions: u64,
    ) -> Result<(), Violation> {
        if let Some(missing) = self.expectation.first_missing() {
            return Err(Violation::Lost(missing.position));
        }
        let repeats = self.mode == Mode::AtLeastOnce && sessions > 1;
        order::check(&self.expectation, broker, repeats)?;
        match self.mode {
            Mode::ExactlyOnce => order::check_atomicity(&self.expectation, broker, least_max_bytes),
            Mode::AtLeastOnce => Ok(()),
        }
    }

    /// What a promoted server never had need not arrive.
    fn follow(&mut self, server: &Server) {
        if self.timeline != server.timeline()
            && let Some(last) = server.switches().last()
        {
            self.timeline = server.timeline();
            self.expectation.branch_off(last.ends_at, &server.history);
        }
    }

    fn became_durable(&mut self, id: RecordId, broker: &Broker) -> Result<(), Violation> {
        if id.partition != broker.checkpoints() {
            return self.expectation.arrived(id, broker);
        }
        let value = broker.record(id).message.value.as_deref();
        let checkpoint = Checkpoint::decode(value.unwrap_or_default());
        let checkpoint = checkpoint.map_err(|e| Violation::Stopped(e.to_string()))?;
        let last = self.checkpoint.replace((id, checkpoint.clone()));
        match last {
            Some((before, last)) if id < before || is_behind(&checkpoint, &last) => {
                Err(Violation::CheckpointBack {
                    now: describe(&checkpoint),
                    before: describe(&last),
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn heard(&mut self, notice: Notice) -> Result<(), Violation> {
        match notice {
            Notice::SlotCreated(at) => {
                self.expectation.start(at);
                Ok(())
            }
            Notice::Looked(connection, lsn) => {
                let verified = self.verified.entry(connection).or_insert(lsn);
                *verified = lsn.max(*verified);
                Ok(())
            }
            Notice::Feedback(connection, lsn) => self.confirmed(connection, lsn),
        }
    }

    fn confirmed(&mut self, connection: ConnectionId, confirmed: Lsn) -> Result<(), Violation> {
        let before = self.reported.insert(connection, confirmed);
        let before = before.unwrap_or(Lsn::INVALID);
        if before > confirmed {
            return Err(Violation::ConfirmedBack { confirmed, before });
        }
        if let Some(missing) = self.expectation.first_missing()
            && missing.position.commit_lsn.0 < confirmed
        {
            return Err(Violation::ConfirmedUndelivered {
                confirmed,
                missing: missing.position,
            });
        }
        let checkpoint = self.checkpoint.as_ref().map(|(_, c)| c.confirmed_up_to);
        let checkpoint = checkpoint.unwrap_or(Lsn::INVALID);
        if checkpoint < confirmed {
            return Err(Violation::ConfirmedUnrecorded {
                confirmed,
                checkpoint,
            });
        }
        let verified = self.verified.get(&connection).copied();
        let verified = verified.unwrap_or(Lsn::INVALID);
        if verified < confirmed {
            return Err(Violation::ConfirmedUnverified {
                confirmed,
                verified,
            });
        }
        Ok(())
    }
}

/// One linear checkpoint: on one timeline it never covers less than before, nor starts over.
fn is_behind(now: &Checkpoint, before: &Checkpoint) -> bool {
    if now.identity.timeline != before.identity.timeline {
        return now.identity.timeline < before.identity.timeline;
    }
    let place = |c: &Checkpoint| c.position.map(|p| (p.commit_lsn, p.index, p.complete));
    now.confirmed_up_to < before.confirmed_up_to
        || place(now) < place(before)
        || (now.kind == Kind::Intent && before.kind != Kind::Intent)
}

fn describe(checkpoint: &Checkpoint) -> String {
    let position = checkpoint.position.map(|p| (p.commit_lsn.0, p.index));
    format!("{} {position:?}", checkpoint.confirmed_up_to)
}

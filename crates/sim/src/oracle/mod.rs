//! The judge. It reads the log that services wrote, what the server heard, and what consumers of
//! the broker see, and nothing of the relay.

mod burials;
mod demands;
mod expectation;
mod order;
mod promptness;
mod rows;

use std::collections::BTreeMap;
use std::time::Duration;

use delivery::{Checkpoint, Kind, OnDeadLetter};
use pgoutput::{Lsn, Position};

use expectation::Expectation;
use order::Bounds;
use promptness::Promptness;
use rows::Told;

use crate::Violation;
use crate::adversity::Adversity;
use crate::broker::{Broker, RecordId};
use crate::server::{ConnectionId, Notice, Server};
use crate::setup::Mode;
use crate::world::World;

/// Watches a run and judges its end.
#[derive(Debug)]
pub struct Oracle {
    mode: Mode,
    adversity: Adversity,
    expectation: Expectation,
    told: Told,
    branches_seen: usize,
    promptness: Promptness,
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
    pub fn new(mode: Mode, adversity: Adversity) -> Self {
        Self {
            mode,
            adversity,
            told: Told::new(adversity.write_back, mode == Mode::ExactlyOnce),
            expectation: Expectation::new(mode == Mode::ExactlyOnce),
            branches_seen: 0,
            promptness: Promptness::default(),
            notices_seen: 0,
            durable_seen: 0,
            checkpoint: None,
            reported: BTreeMap::new(),
            verified: BTreeMap::new(),
        }
    }

    /// Takes in what is new; after every step, so that nothing is reported before it is durable.
    pub fn observe(
        &mut self,
        server: &Server,
        broker: &Broker,
        now: Duration,
    ) -> Result<(), Violation> {
        self.follow(server);
        self.expectation.extend(&server.history);
        let durable_before = self.durable_seen;
        while let Some(id) = broker.durable().get(self.durable_seen) {
            self.durable_seen += 1;
            self.became_durable(*id, broker)?;
        }
        if self.durable_seen > durable_before {
            self.check_recorded(server)?;
            self.check_requests(server)?;
            self.check_parked(&broker.durable()[durable_before..], broker)?;
        }
        while let Some(notice) = server.notices().get(self.notices_seen) {
            self.notices_seen += 1;
            self.heard(*notice, server, now)?;
        }
        self.promptness.check(server, now)
    }

    /// From here on nothing goes wrong; the relay records progress at least so often.
    pub fn keep_calm(&mut self, checkpoint_interval: Duration) {
        self.promptness.keep_calm(checkpoint_interval);
    }

    /// Whether every committed event is durable.
    pub fn is_complete(&self) -> bool {
        self.expectation.first_missing().is_none()
    }

    /// Whether nothing that the server said is still to be confirmed.
    pub fn is_answered(&self) -> bool {
        self.promptness.is_answered()
    }

    /// How many events there are.
    pub fn events(&self) -> usize {
        self.expectation.events().len()
    }

    /// What consumers see in the end. After a stop, what did not arrive is not judged here:
    /// whether anything was skipped, the checkpoint and the slot have told.
    pub fn judge(&self, world: &World) -> Result<(), Violation> {
        let broker = &world.broker;
        let sessions = world.trace.counts().get("sessions").copied();
        let happened = |what| world.trace.counts().contains_key(what);
        let bounds = Bounds {
            is_complete: !world.has_stopped,
            // A second session may repeat what the first did not record.
            keys_move: happened("more-partitions"),
            repeats: self.mode == Mode::AtLeastOnce && sessions.unwrap_or_default() > 1,
        };
        order::check(&self.expectation, broker, bounds)?;
        if bounds.is_complete && !broker.forgot {
            self.told.judge(&self.expectation, &world.server)?;
        }
        // A window that is refused is found in pieces.
        let was_refused = world.trace.counts().contains_key("window-refused");
        match self.mode {
            Mode::ExactlyOnce if was_refused => Ok(()),
            Mode::ExactlyOnce => {
                order::check_atomicity(&self.expectation, broker, world.least_max_bytes)
            }
            Mode::AtLeastOnce => Ok(()),
        }
    }

    /// What a server that was promoted or restored never had need not arrive.
    fn follow(&mut self, server: &Server) {
        while let Some(ends_at) = server.branches().get(self.branches_seen) {
            self.branches_seen += 1;
            self.expectation.branch_off(*ends_at, &server.history);
            self.told.forget_from(self.expectation.events().len());
        }
    }

    /// What the newest checkpoint covers is durable. One of a past timeline speaks of another log,
    /// and so does any that is older than a restore.
    fn check_recorded(&self, server: &Server) -> Result<(), Violation> {
        let (Some((_, checkpoint)), Some(missing)) =
            (&self.checkpoint, self.expectation.first_missing())
        else {
            return Ok(());
        };
        let is_covered = covers(checkpoint, missing.position);
        if !speaks_of(checkpoint, server) || !is_covered {
            return Ok(());
        }
        Err(Violation::RecordedUndelivered {
            recorded: describe(checkpoint),
            missing: missing.position,
        })
    }

    fn check_requests(&mut self, server: &Server) -> Result<(), Violation> {
        let Some((_, checkpoint)) = &self.checkpoint else {
            return Ok(());
        };
        if !speaks_of(checkpoint, server) {
            return Ok(());
        }
        let covers = |position| covers(checkpoint, position);
        let parked = self.adversity.on_dead_letter == OnDeadLetter::ParkKey;
        self.expectation.check_served(parked, covers)
    }

    /// Records that have become durable together are judged together.
    fn check_parked(&self, new: &[RecordId], broker: &Broker) -> Result<(), Violation> {
        let parks = self.adversity.on_dead_letter == OnDeadLetter::ParkKey;
        // A window that lands behind the loss of all exceptions hides it.
        if self.mode != Mode::ExactlyOnce || !parks || broker.forgot {
            return Ok(());
        }
        let rank = |id: &RecordId| {
            let is_event = broker.is_events(id.partition);
            let message = &broker.record(*id).message;
            let event = message.header("eventId").filter(|_| is_event)?;
            self.expectation.rank(event)
        };
        let ranks: Vec<_> = new.iter().filter_map(rank).collect();
        self.expectation.check_parked(&ranks)
    }

    fn became_durable(&mut self, id: RecordId, broker: &Broker) -> Result<(), Violation> {
        if broker.is_events(id.partition) {
            return self.expectation.arrived(id, broker);
        }
        if broker.is_dead_letters(id.partition) {
            return self.expectation.buried(id, broker, &self.adversity);
        }
        if id.partition == broker.exceptions() {
            return Ok(());
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

    fn heard(&mut self, notice: Notice, server: &Server, now: Duration) -> Result<(), Violation> {
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
            Notice::Feedback(connection, lsn) => {
                self.promptness.confirmed(connection, lsn);
                self.confirmed(connection, lsn, server)
            }
            Notice::Heard {
                connection,
                wal_end,
                asked,
            } => {
                let reported = self.reported.get(&connection).copied();
                let is_told = self.told.first_untold(&self.expectation, server).is_none();
                if self.is_complete()
                    && is_told
                    && reported.is_none_or(|reported| reported < wal_end)
                {
                    self.promptness.heard(connection, wal_end, asked, now);
                }
                Ok(())
            }
        }
    }

    fn confirmed(
        &mut self,
        connection: ConnectionId,
        confirmed: Lsn,
        server: &Server,
    ) -> Result<(), Violation> {
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
        if let Some(untold) = self.told.first_untold(&self.expectation, server)
            && untold.position.commit_lsn.0 < confirmed
        {
            return Err(Violation::ConfirmedUntold {
                confirmed,
                row: untold.position,
            });
        }
        let checkpoint = self.checkpoint.as_ref().map(|(_, c)| reach(c));
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

/// Whether everything up to there has been dealt with.
fn covers(checkpoint: &Checkpoint, position: Position) -> bool {
    checkpoint.confirmed_up_to > position.commit_lsn.0
        || checkpoint.position.is_some_and(|published| {
            let place = (position.commit_lsn, position.index);
            place < (published.commit_lsn, published.index)
                || published.complete && place.0 == published.commit_lsn
        })
}

/// Whether it is of the log that the server has.
fn speaks_of(checkpoint: &Checkpoint, server: &Server) -> bool {
    !server.is_restored() && checkpoint.identity.timeline == server.timeline()
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

/// Below it everything has been dealt with: transactions are published in the order of commits, so
/// also what commits before the one that is published in part.
fn reach(checkpoint: &Checkpoint) -> Lsn {
    let position = checkpoint.position.map(|p| p.commit_lsn.0);
    checkpoint
        .confirmed_up_to
        .max(position.unwrap_or(Lsn::INVALID))
}

fn describe(checkpoint: &Checkpoint) -> String {
    let position = checkpoint.position.map(|p| (p.commit_lsn.0, p.index));
    format!("{} {position:?}", checkpoint.confirmed_up_to)
}

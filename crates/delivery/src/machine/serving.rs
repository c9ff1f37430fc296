//! What is published beside the stream, which waits meanwhile: feeds, and dead letters that an
//! operator has published again.
//!
//! The stream stands before the row that asks for it. Only once everything before is durable does it
//! begin, and until it has ended the checkpoint stands there, too: after a crash it begins again,
//! and passes over what the checkpoint (of a feed) or the resolutions (of dead letters) tell to be
//! done.

use std::time::Instant;

use envelope::dead_letter::{self, Entry};
use envelope::{Fate, Headers, Record, TableId};
use pgoutput::{CommitLsn, Lsn, PgTimestamp, Position};

use super::Delivery;
use super::feeding::Feed;
use crate::topics::Route;
use crate::{
    Action, Command, Exception, FeedProgress, Halt, OnDeadLetter, RecordKey, Request,
    TransactionPosition,
};

#[derive(Debug)]
pub(super) struct Serving {
    /// The stream stands at this row of the control table; without it, an earlier session began the
    /// feed.
    request: Option<Request>,
    asked: bool,
    /// Everything has been handed in, and some of it may not be on its way yet.
    ending: bool,
}

impl Serving {
    pub fn asked_for(request: Request) -> Self {
        Self {
            request: Some(request),
            asked: false,
            ending: false,
        }
    }

    /// A feed that is not complete goes on.
    pub fn resumed(feed: &FeedProgress) -> Option<Self> {
        (!feed.is_complete()).then_some(Self {
            request: None,
            asked: false,
            ending: false,
        })
    }

    /// The id of the request that is being carried out: what comes before it may still be on its way.
    pub fn under_way(&self) -> Option<&str> {
        self.request().filter(|_| self.asked)
    }

    /// The id of the request that the stream stands at.
    pub fn request(&self) -> Option<&str> {
        self.request.as_ref().map(|request| request.id.as_str())
    }

    /// The stream stands at a request for a feed.
    pub fn asks_for_feed(&self) -> bool {
        let command = self.request.as_ref().map(|request| &request.command);
        matches!(command, Some(Ok(Command::Replay { .. })))
    }

    /// The stream stands at the row of the control table that asks for it.
    pub fn is_at_its_row(&self) -> bool {
        self.request.is_some()
    }
}

/// A dead letter that is to be published, or dropped.
#[derive(Debug, Clone, Copy)]
pub struct Redelivered<'a> {
    /// What its headers say.
    pub entry: &'a Entry<'a>,
    /// The dead-letter topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The record key.
    pub key: Option<&'a [u8]>,
    /// The record value.
    pub value: Option<&'a [u8]>,
    /// The record's timestamp, milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: i64,
    /// Resolve it without publishing it.
    pub dropped: bool,
}

impl Redelivered<'_> {
    /// Where its event became dead for the first time.
    fn place_of_first(&self) -> (i32, i64) {
        self.entry.origin.unwrap_or((self.partition, self.offset))
    }
}

impl Delivery {
    /// Whether more of what is served may be handed in: bounds the memory.
    pub fn wants_more(&self) -> bool {
        self.serving.as_ref().is_some_and(|s| s.asked && !s.ending)
            && !self.draining
            && !self.stopped
            && !self.is_full()
            && !self.is_ahead_in_feed()
            && self.knows_dead_letter_topics()
            && self.window.boundary_records() < self.bounds().max_events
    }

    fn knows_dead_letter_topics(&self) -> bool {
        let mut tables = self.settings.tables.iter();
        tables.all(|table| !self.lessons.topics.is_asking(&table.dead_letter_topic))
    }

    /// A dead letter that the request names. It stays as it is where it can't be published: it is not
    /// the event itself, or its key is parked, so that it would overtake others.
    pub fn handle_redelivered(
        &mut self,
        letter: &Redelivered<'_>,
        now: Instant,
    ) -> Result<(), Halt> {
        let entry = letter.entry;
        let table = self.tables.find(entry.service, entry.table);
        if letter.dropped {
            return self.resolve(letter, table.unwrap_or(NOT_CONFIGURED), now);
        }
        let Some(table) = table else {
            return Ok(());
        };
        if !entry.is_event() {
            self.leave(letter, table, now);
            return Ok(());
        }
        // Only a release publishes what is parked: in order, and all of it.
        let stays_parked = !self.is_releasing() && self.parking.contains(entry.service, letter.key);
        if stays_parked {
            return Ok(());
        }
        self.require_usable(letter.topic, now)?;
        self.revive(letter, table, now)?;
        self.resolve(letter, table, now)
    }

    /// Everything that the request names has been handed in.
    pub fn handle_served(&mut self, now: Instant) {
        if let Some(serving) = &mut self.serving {
            serving.ending = true;
        }
        self.advance(now);
    }

    /// Ends it once all of it is on its way: only then is it known whether a key that is released
    /// was parked again.
    fn finish_serving(&mut self) {
        let ended = self.window.batch.is_empty() && !self.lost_window;
        let serving = self.serving.take_if(|serving| serving.ending && ended);
        let Some(Serving {
            request: Some(request),
            ..
        }) = serving
        else {
            return;
        };
        if let Ok(Command::DlqRelease { service, key }) = &request.command
            && !self.parking.holds(service, key)
        {
            self.exceptions.push(Exception::Released {
                service: service.clone(),
                key: key.clone(),
            });
        }
        self.pass_control_row();
    }

    /// A feed that an earlier session began is published, before anything of the stream is.
    pub(super) fn resumes_feed(&self) -> bool {
        matches!(&self.serving, Some(Serving { request: None, .. }))
    }

    fn is_releasing(&self) -> bool {
        let request = self.serving.as_ref().and_then(|s| s.request.as_ref());
        request.is_some_and(|r| matches!(r.command, Ok(Command::DlqRelease { .. })))
    }

    /// There is no event in it that could be published: it stays open, and a key that is released
    /// stays parked behind it.
    fn leave(&mut self, letter: &Redelivered<'_>, table: TableId, now: Instant) {
        let releases = self.is_releasing();
        let policy = self.settings.policy(table);
        let parks = policy.is_some_and(|policy| policy.on_dead_letter == OnDeadLetter::ParkKey);
        let key = RecordKey::of_letter(letter.entry, letter.key);
        let Some(key) = key.filter(|_| releases && parks) else {
            return;
        };
        let service = letter.entry.service.to_owned();
        let parked = self.to_be_parked(service, key);
        // What was handed in before it may go out.
        self.window.parks.push((self.window.batch.len(), parked));
        self.ask_for_dead_letter_topics(now);
        if self.window.batch.is_empty() {
            let mut exceptions = std::mem::take(&mut self.exceptions);
            for (_, key) in std::mem::take(&mut self.window.parks) {
                self.park_key(key, &mut exceptions);
            }
            self.exceptions = exceptions;
        }
    }

    fn revive(
        &mut self,
        letter: &Redelivered<'_>,
        table: TableId,
        now: Instant,
    ) -> Result<(), Halt> {
        let entry = letter.entry;
        self.window.batch.push(&Record {
            topic: entry.topic,
            value: letter.value,
            event_type: entry.header(envelope::TYPE_HEADER),
            transfer_id: letter.key.and_then(|key| std::str::from_utf8(key).ok()),
            fate: Fate::Revived,
            headers: Headers::from(&entry.headers[..]),
            ..record_about(letter, table)
        });
        self.judge(None, now)
    }

    /// Where nothing may be written to, no letter can be resolved.
    fn require_usable(&mut self, topic: &str, now: Instant) -> Result<(), Halt> {
        let Route::Refused(verdict) = self.lessons.topics.route(topic, now) else {
            return Ok(());
        };
        let halt = Halt::DeadLetterTopic {
            topic: topic.to_owned(),
            reason: verdict.reason.clone(),
        };
        self.lessons.halted_by(&halt);
        Err(halt)
    }

    fn resolve(
        &mut self,
        letter: &Redelivered<'_>,
        table: TableId,
        now: Instant,
    ) -> Result<(), Halt> {
        self.require_usable(letter.topic, now)?;
        let resolves = format!("{}:{}", letter.partition, letter.offset);
        let resolution = if letter.dropped {
            "dropped"
        } else {
            "replayed"
        };
        let request = self.serving.as_ref().and_then(Serving::request);
        let request = request.unwrap_or_default();
        let (partition, offset) = letter.place_of_first();
        let origin = format!("{partition}:{offset}");
        let headers = [
            (dead_letter::RESOLVES, Some(resolves.as_bytes())),
            (dead_letter::RESOLUTION, Some(resolution.as_bytes())),
            (dead_letter::REQUEST, Some(request.as_bytes())),
            (dead_letter::ORIGIN, Some(origin.as_bytes())),
        ];
        self.window.batch.push(&Record {
            headers: Headers::from(&headers[..]),
            ..record_about(letter, table)
        });
        self.complete_so_far();
        self.advance(now);
        Ok(())
    }

    /// Begins, once everything before is durable.
    pub(super) fn go_on_serving(&mut self, now: Instant) {
        self.finish_serving();
        let waits = self.waits_for_feed();
        let ready = self.is_caught_up() && !waits && !self.draining && !self.stopped;
        let Some(serving) = self.serving.as_mut().filter(|s| ready && !s.asked) else {
            return;
        };
        serving.asked = true;
        let action = match &serving.request {
            None => {
                let feed = self.feed.as_ref().map(Feed::request);
                // What another feed was refused may be repaired by now.
                self.lessons.repaired_by(feed.unwrap_or_default());
                self.resume_feed()
            }
            Some(request) => {
                let request = request.clone();
                self.lessons.repaired_by(&request.id);
                match &request.command {
                    Ok(Command::Replay { rows, .. }) => Some(self.begin_feed(request.id, *rows)),
                    Ok(Command::DlqRelease { service, key }) => {
                        self.parking.release(service, key, &request.id);
                        Some(Action::Serve { request })
                    }
                    Ok(Command::DlqReplay { .. } | Command::DlqDrop { .. }) | Err(_) => {
                        Some(Action::Serve { request })
                    }
                }
            }
        };
        // What becomes of a letter is said in its topic.
        if matches!(action, Some(Action::Serve { .. })) || !self.parking.is_empty() {
            self.ask_for_dead_letter_topics(now);
        }
        self.actions.extend(action);
    }

    /// The stream stands at a row of the control table.
    pub(super) fn stand_at_control_row(&mut self) {
        self.flush_skipped();
        self.complete_so_far();
    }

    /// The row of the control table that the stream stands at is dealt with.
    pub(super) fn pass_control_row(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.index += 1;
        }
        self.complete_so_far();
        self.pass_request_of_feed();
    }

    /// All that was gathered may be published, though the open transaction may have more.
    pub(super) fn complete_so_far(&mut self) {
        let position = self.open_position();
        self.window.complete_so_far(position);
    }

    pub(super) fn open_position(&self) -> Option<TransactionPosition> {
        self.transaction.as_ref().and_then(|t| t.position(false))
    }
}

/// A record that only tells something of a dead letter.
fn record_about<'a>(letter: &Redelivered<'a>, table: TableId) -> Record<'a> {
    Record {
        topic: letter.topic,
        key: letter.key,
        value: None,
        timestamp_ms: letter.timestamp_ms,
        event_id: letter.entry.row_id,
        event_type: "",
        transfer_id: None,
        seq: None,
        table,
        position: letter.entry.position.parse().unwrap_or(NOWHERE),
        commit_time: PgTimestamp::from_unix_micros(letter.timestamp_ms.saturating_mul(1000)),
        xid: 0,
        fate: Fate::None,
        headers: Headers::from(&[][..]),
    }
}

/// Of a dead letter that is dropped, the table of which the relay serves no longer.
const NOT_CONFIGURED: TableId = TableId(u16::MAX);

/// Of a dead letter whose header does not say where its row was inserted.
const NOWHERE: Position = Position {
    commit_lsn: CommitLsn(Lsn::INVALID),
    index: 0,
};

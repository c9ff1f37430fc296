//! Of a window that is about to be produced: events that can't be published become dead letters.

use std::collections::BTreeMap;
use std::time::Instant;

use envelope::rfc3339::Rfc3339;
use envelope::{DeadLetter, Fate, Record, RecordBatch, dead_letter};
use pgoutput::{PgTimestamp, Position};

use super::Delivery;
use super::serving::Serving;
use crate::topics::{Judgement, Route};
use crate::verdict::{Class, Verdict};
use crate::window::Taken;
use crate::{DeadRow, Exception, Halt, OnDeadLetter, ParkedKey, RecordKey, TablePolicy};

/// What can be produced.
pub(super) struct Buried {
    pub batch: RecordBatch,
    pub exceptions: Vec<Exception>,
}

impl Delivery {
    /// Every topic that the window needs is known by now.
    pub(super) fn bury(&mut self, taken: Taken, now: Instant) -> Result<Buried, (Position, Halt)> {
        let Taken {
            mut batch,
            suspects,
            parks,
            ..
        } = taken;
        let mut exceptions = Vec::new();
        // While no key is parked, records before the first suspect are fine.
        let suspect = suspects.first_key_value().map(|(index, _)| *index);
        let first = match suspect.into_iter().chain(parks.first().map(|p| p.0)).min() {
            _ if !self.parking.is_empty() => 0,
            Some(index) => index,
            None => return Ok(Buried { batch, exceptions }),
        };
        let parks_none = self.parking.is_empty() && parks.is_empty();
        if parks_none && !self.has_verdict(&batch, &suspects, now) {
            return Ok(Buried { batch, exceptions });
        }
        let mut parks = parks.into_iter().peekable();
        let mut rest = self.spare.pop().unwrap_or_default();
        batch.move_tail(first, &mut rest);
        for (offset, record) in rest.iter().enumerate() {
            while let Some((_, key)) = parks.next_if(|(at, _)| *at <= first + offset) {
                self.park_key(key, &mut exceptions);
            }
            match self.verdict_on(&record, first + offset, &suspects, now) {
                None => batch.push_from(&rest, offset),
                Some(verdict) => {
                    // What becomes of the letter that it was published from stands behind it.
                    let behind = rest.get(offset + 1);
                    let origin = behind.as_ref().and_then(|resolution| {
                        let origin = dead_letter::text(resolution, dead_letter::ORIGIN);
                        (record.fate == Fate::Revived && !origin.is_empty()).then_some(origin)
                    });
                    // What dies is the event as it was written, and not what is decrypted of it.
                    let written = rest.as_written(offset).unwrap_or_else(|| record.clone());
                    let found = (&written, &verdict, origin);
                    let buried = self.bury_one(found, &mut batch, &mut exceptions, now);
                    buried.map_err(|halt| (record.position, halt))?;
                }
            }
        }
        for (_, key) in parks {
            self.park_key(key, &mut exceptions);
        }
        self.recycle(rest);
        Ok(Buried { batch, exceptions })
    }

    /// Whether any suspect is more than one.
    fn has_verdict(
        &mut self,
        batch: &RecordBatch,
        suspects: &BTreeMap<usize, Option<Verdict>>,
        now: Instant,
    ) -> bool {
        let mut indices = suspects.keys();
        indices.any(|index| {
            let record = batch.get(*index);
            record.is_some_and(|r| self.verdict_on(&r, *index, suspects, now).is_some())
        })
    }

    fn verdict_on(
        &mut self,
        record: &Record<'_>,
        index: usize,
        suspects: &BTreeMap<usize, Option<Verdict>>,
        now: Instant,
    ) -> Option<Verdict> {
        if record.fate == Fate::None {
            return None;
        }
        let service = self.tables.service(record.table);
        let suspect = suspects.get(&index);
        // Of what is no event it must be known that it can't be published once its key is released.
        let is_event = !matches!(suspect, Some(Some(v)) if matches!(v.class, Class::Mapping(_)));
        if is_event && self.parking.contains(service, record.key) {
            return Some(self.parked(now));
        }
        match suspect? {
            Some(verdict) => Some(verdict.clone()),
            None => {
                let (topics, bytes) = (&mut self.lessons.topics, record.bytes());
                match topics.judge(record.topic, bytes, now, self.clock) {
                    Judgement::Certain(verdict) => Some(verdict),
                    Judgement::Fine | Judgement::Open => None,
                }
            }
        }
    }

    fn parked(&self, now: Instant) -> Verdict {
        let reason = "an earlier event of this key is dead, and the key is parked until released";
        Verdict::certain(Class::Parked, reason.to_owned(), self.clock.at(now))
    }

    /// Adds the dead letter of a record, and what later sessions must know of it.
    fn bury_one(
        &mut self,
        (record, verdict, origin): (&Record<'_>, &Verdict, Option<&str>),
        batch: &mut RecordBatch,
        exceptions: &mut Vec<Exception>,
        now: Instant,
    ) -> Result<(), Halt> {
        let Some(policy) = self.settings.policy(record.table).cloned() else {
            batch.push(record);
            return Ok(());
        };
        if let Some(halt) = self.halt_at(record, verdict) {
            return Err(halt);
        }
        let is_revived = record.fate == Fate::Revived;
        let max_bytes = self.room_in(&policy.dead_letter_topic, now)?;
        self.admit(record, verdict, now)?;
        if self.park(record, verdict, &policy, exceptions)? {
            self.ask_for_dead_letter_topics(now);
        }
        let (first, last) = (text(verdict.first_failure), text(verdict.last_failure));
        let request = self.serving.as_ref().and_then(Serving::request);
        let class = verdict.class.name();
        let table = self.tables.name(record.table);
        let dead = DeadLetter {
            to: &policy.dead_letter_topic,
            reason: &verdict.reason,
            class: &class,
            attempts: verdict.attempts,
            service: self.tables.service(record.table),
            table: &table,
            first_failure: &first,
            last_failure: &last,
            request: request.filter(|_| is_revived),
            origin,
        };
        batch.push_dead_letter(record, &dead, max_bytes);
        // Also where states are not written: the next session may write them.
        if !is_revived {
            let row = DeadRow {
                position: record.position,
                attempts: verdict.attempts,
                reason: verdict.reason.clone(),
            };
            self.dead.insert(row.position, row.clone());
            exceptions.push(Exception::Dead(row));
        }
        Ok(())
    }

    /// The largest dead letter.
    fn room_in(&mut self, topic: &str, now: Instant) -> Result<usize, Halt> {
        let unusable = |reason: &str| Halt::DeadLetterTopic {
            topic: topic.to_owned(),
            reason: reason.to_owned(),
        };
        match self.lessons.topics.route(topic, now) {
            Route::Usable { max_bytes } => Ok(max_bytes.min(self.settings.dead_letter_max_bytes)),
            Route::Refused(verdict) => Err(unusable(&verdict.reason)),
            Route::Unknown => Err(unusable("nothing is known of it yet")),
        }
    }

    /// The breaker counts what is dead by itself.
    fn admit(&mut self, record: &Record<'_>, verdict: &Verdict, now: Instant) -> Result<(), Halt> {
        if verdict.class == Class::Parked || record.fate == Fate::Revived {
            return Ok(());
        }
        let max_per_minute = self.settings.dead_letters_per_minute;
        let at = record.position;
        if self.lessons.breaker.admits(at, max_per_minute, now) {
            return Ok(());
        }
        Err(Halt::DeadLetterSurge {
            max_per_minute,
            reason: verdict.reason.clone(),
        })
    }

    /// Parks a key, unless it is parked.
    pub(super) fn park_key(&mut self, key: ParkedKey, exceptions: &mut Vec<Exception>) {
        if !self.parking.holds(&key.service, &key.key) {
            self.parking.park(key.clone());
            exceptions.push(Exception::Parked(key));
        }
    }

    pub(super) fn to_be_parked(&self, service: String, key: RecordKey) -> ParkedKey {
        let request = self.serving.as_ref().and_then(|s| s.under_way());
        ParkedKey {
            service,
            key,
            request: request.map(str::to_owned),
        }
    }

    /// Whether the key was not parked before.
    fn park(
        &mut self,
        record: &Record<'_>,
        verdict: &Verdict,
        policy: &TablePolicy,
        exceptions: &mut Vec<Exception>,
    ) -> Result<bool, Halt> {
        let parks =
            policy.on_dead_letter == OnDeadLetter::ParkKey && verdict.class != Class::Parked;
        let Some(key) = record.key.filter(|_| parks) else {
            return Ok(false);
        };
        let service = self.tables.service(record.table).to_owned();
        let max_keys = self.settings.max_parked_keys;
        if self.parking.contains(&service, Some(key)) {
            return Ok(false);
        }
        if self.parking.len() >= max_keys {
            return Err(Halt::ParkedKeysFull { max_keys });
        }
        self.park_key(self.to_be_parked(service, key.into()), exceptions);
        Ok(true)
    }
}

fn text(time: PgTimestamp) -> String {
    Rfc3339::new(time).map_or_else(|_| String::new(), |text| text.as_str().to_owned())
}

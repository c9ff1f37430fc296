//! Requests of operators, and the dead letters that they name.
#![allow(dead_code)]

use delivery::{Halt, Redelivered};
use envelope::dead_letter::Entry;
use pgoutput::{Relation, Value, encode, oid};

use super::{Bench, DEAD_LETTERS, column};

const CONTROL: u32 = 9;

impl Bench {
    pub fn control_relation(&mut self) {
        let relation = Relation {
            oid: CONTROL,
            namespace: "outboxd".into(),
            name: "control".into(),
            replica_identity: b'd',
            columns: vec![
                column("request_id", oid::UUID),
                column("slot", oid::TEXT),
                column("requested_at", oid::TIMESTAMPTZ),
                column("requested_by", oid::TEXT),
                column("reason", oid::TEXT),
                column("command", oid::JSONB),
            ],
        };
        let mut bytes = Vec::new();
        encode::relation(&mut bytes, &relation);
        self.feed(&bytes).unwrap();
    }

    pub fn control(&mut self, command: &str) {
        let row = [
            Value::Text(b"00000000-0000-0000-0000-00000000000a"),
            Value::Text(b"outboxd"),
            Value::Text(b"2026-11-23 10:51:19.123456+00"),
            Value::Text(b"alice"),
            Value::Text(b"fixed"),
            Value::Text(command.as_bytes()),
        ];
        let mut bytes = Vec::new();
        encode::insert(&mut bytes, CONTROL, &row);
        self.feed(&bytes).unwrap();
    }

    /// Hands a dead letter in.
    pub fn redeliver(&mut self, topic: &'static str, offset: i64) {
        self.redeliver_entry(entry(topic), offset, false);
    }

    pub fn try_redeliver(&mut self, topic: &'static str, offset: i64) -> Result<(), Halt> {
        self.try_redeliver_entry(entry(topic), offset, false)
    }

    pub fn redeliver_entry(&mut self, entry: Entry<'static>, offset: i64, dropped: bool) {
        self.try_redeliver_entry(entry, offset, dropped).unwrap();
    }

    /// Hands a dead letter with that value in.
    pub fn redeliver_value(&mut self, entry: Entry<'static>, offset: i64, value: &str) {
        let letter = Redelivered {
            value: Some(value.as_bytes()),
            ..letter_of(&entry, offset)
        };
        self.hand_in(&letter).unwrap();
    }

    fn try_redeliver_entry(
        &mut self,
        entry: Entry<'static>,
        offset: i64,
        dropped: bool,
    ) -> Result<(), Halt> {
        let letter = Redelivered {
            dropped,
            ..letter_of(&entry, offset)
        };
        self.hand_in(&letter)
    }

    fn hand_in(&mut self, letter: &Redelivered<'_>) -> Result<(), Halt> {
        self.delivery.handle_redelivered(letter, self.now)?;
        self.poll();
        Ok(())
    }
}

pub fn entry(topic: &'static str) -> Entry<'static> {
    Entry {
        service: "outbox",
        table: "public.outbox",
        topic,
        row_id: "e1",
        position: "0/10:1",
        headers: vec![("eventId", Some(b"e1"))],
        ..Entry::default()
    }
}

fn letter_of<'a>(entry: &'a Entry<'static>, offset: i64) -> Redelivered<'a> {
    Redelivered {
        entry,
        topic: DEAD_LETTERS,
        partition: 0,
        offset,
        key: Some(b"t1"),
        value: Some(b"{}"),
        timestamp_ms: 1,
        dropped: false,
    }
}

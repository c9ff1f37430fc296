//! What operators ask for.

use super::Event;
use crate::Dice;

/// Which dead letters, and what is to become of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Publish all of them, or that of one event.
    Replay(Option<String>),
    /// Drop all of them, or that of one event.
    Drop(Option<String>),
    /// Release a parked key.
    Release(String),
    /// Nothing that a relay understands.
    Nonsense,
}

/// A row of the control table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Unique in the run.
    pub number: u64,
    /// What is asked for.
    pub operation: Operation,
}

impl Demand {
    /// Some demand; `events` have been written so far, for so many transfers.
    pub fn draw(number: u64, events: u64, transfers: u64, dice: &mut Dice) -> Self {
        let one = |dice: &mut Dice| {
            let number = dice.number(0..events.max(1));
            Event::id_of(number)
        };
        let operation = match dice.weighted(&[40, 20, 6, 10, 40, 4]) {
            0 => Operation::Replay(None),
            1 => Operation::Replay(Some(one(dice))),
            2 => Operation::Drop(None),
            3 => Operation::Drop(Some(one(dice))),
            4 => Operation::Release(format!("tr-{}", dice.number(0..transfers))),
            _ => Operation::Nonsense,
        };
        Self { number, operation }
    }

    /// `request_id`
    pub fn id(&self) -> String {
        format!("00000000-0000-4000-9000-{:012x}", self.number)
    }

    /// The value of a column, as Postgres prints it.
    pub fn cell(&self, column: &str) -> Option<String> {
        match column {
            "request_id" => Some(self.id()),
            "slot" => Some(crate::server::SLOT.to_owned()),
            "requested_by" => Some("operator".to_owned()),
            "command" => Some(self.command()),
            _ => None,
        }
    }

    fn command(&self) -> String {
        let filtered = |command: &str, id: &Option<String>| match id {
            Some(id) => format!(r#"{{"command": "{command}", "filter": {{"ids": ["{id}"]}}}}"#),
            None => format!(r#"{{"command": "{command}", "filter": {{}}}}"#),
        };
        match &self.operation {
            Operation::Replay(id) => filtered("dlq-replay", id),
            Operation::Drop(id) => filtered("dlq-drop", id),
            Operation::Release(key) => {
                format!(r#"{{"command": "dlq-release", "service": "outbox", "key": "{key}"}}"#)
            }
            Operation::Nonsense => r#"{"command": "dlq-explode"}"#.to_owned(),
        }
    }
}

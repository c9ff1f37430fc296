//! A row of the outbox, and the record that must come of it.

use envelope::rfc3339::Rfc3339;
use pgoutput::{PgTimestamp, Relation};

/// An event as a service writes it.
#[derive(Debug, Clone)]
pub struct Event {
    /// Unique in the run; in the order of writing, which is not that of commits.
    pub number: u64,
    /// The topic too.
    pub event_type: &'static str,
    /// Events with one transfer id keep their order.
    pub transfer: Option<u64>,
    /// Makes the row larger.
    pub padding: usize,
    /// What is wrong with it.
    pub flaw: Option<Flaw>,
    /// The table's shape when the row was written: index into [`Schema`](super::Schema).
    pub shape: usize,
}

/// Why an event can't be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Its type is NULL.
    Typeless,
    /// It is larger than any topic takes.
    Large,
    /// The brokers refuse it, though its topic can be written to.
    Poisonous,
}

/// Event types that a run uses: the first three of each run, the others of some.
pub const EVENT_TYPES: [&str; 5] = [
    "transfers.settled",
    "ledger.posted",
    "recon.matched",
    "compliance.flagged",
    "ledger.reversed",
];
/// So many of them are always there to be written to.
pub const SOUND_TYPES: usize = 3;
/// What the brokers don't take is known to them by this.
pub const POISON: &str = "poison";

impl Event {
    /// `eventId`
    pub fn id(&self) -> String {
        Self::id_of(self.number)
    }

    /// `eventId` of the event of that number.
    pub fn id_of(number: u64) -> String {
        format!("00000000-0000-4000-8000-{number:012x}")
    }

    /// The record's key.
    pub fn key(&self) -> String {
        self.transfer_id().unwrap_or_else(|| self.id())
    }

    /// The value of a column, as Postgres prints it.
    pub fn cell(&self, column: &str) -> Option<String> {
        match column {
            "id" => Some(self.id()),
            "seq" => Some(self.number.to_string()),
            "event_type" if self.flaw == Some(Flaw::Typeless) => None,
            "event_type" => Some(self.event_type.to_owned()),
            "transfer_id" => self.transfer_id(),
            "payload" => Some(self.payload()),
            "headers" if self.number.is_multiple_of(3) => {
                Some(format!(r#"{{"traceparent": "00-{}"}}"#, self.number))
            }
            "created_at" => self.created_at().map(|at| {
                let at = rfc3339(at);
                at.replace('T', " ").replace('Z', "+00")
            }),
            "state" => Some("PENDING".to_owned()),
            _ => None,
        }
    }

    /// The record's value: put together here, by none of the code under test.
    pub fn envelope(&self, shape: &Relation, commit_time: PgTimestamp) -> String {
        let created_at = self.created_at();
        let occurred_at = created_at.filter(|_| shape.column_index("created_at").is_some());
        let transfer_id = match self.transfer_id() {
            Some(id) => format!("\"{id}\""),
            None => "null".to_owned(),
        };
        format!(
            r#"{{"eventId":"{}","type":"{}","occurredAt":"{}","transferId":{},"payload":{}}}"#,
            self.id(),
            self.event_type,
            rfc3339(occurred_at.unwrap_or(commit_time)),
            transfer_id,
            self.payload()
        )
    }

    fn transfer_id(&self) -> Option<String> {
        self.transfer.map(|transfer| format!("tr-{transfer}"))
    }

    /// The payload column.
    pub fn payload(&self) -> String {
        let name = match self.flaw {
            Some(Flaw::Poisonous) => POISON,
            Some(Flaw::Typeless | Flaw::Large) | None => "pad",
        };
        let padding = "x".repeat(self.padding);
        format!(r#"{{"n": {}, "{name}": "{padding}"}}"#, self.number)
    }

    fn created_at(&self) -> Option<PgTimestamp> {
        let micros = i64::try_from(self.number).unwrap_or_default() * 1_000_003;
        (!self.number.is_multiple_of(5)).then(|| PgTimestamp(800_000_000_000_000 + micros))
    }
}

fn rfc3339(at: PgTimestamp) -> String {
    let text = Rfc3339::new(at).expect("the simulated clock stays within four-digit years");
    text.as_str().to_owned()
}

//! Events as they arrived, and whether all of them did.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use scenarios::reader::Seen;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What outboxd puts around a payload.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    event_id: String,
    #[serde(rename = "type")]
    event_type: String,
    occurred_at: String,
    transfer_id: Option<String>,
    payload: Box<RawValue>,
}

/// An event that has been received.
pub struct Event {
    pub id: String,
    pub event_type: String,
    pub transfer_id: Option<String>,
    /// As it stands in the record.
    pub payload: String,
    /// From the insert of the row until it was received.
    pub latency: Duration,
}

impl Event {
    /// Takes a record apart.
    pub fn parse(seen: &Seen) -> Result<Event> {
        let envelope: Envelope = serde_json::from_str(&seen.value)
            .with_context(|| format!("not an envelope: {}", seen.value))?;
        let occurred_at: jiff::Timestamp = envelope.occurred_at.parse()?;
        let inserted = SystemTime::from(occurred_at);
        Ok(Event {
            id: envelope.event_id,
            event_type: envelope.event_type,
            transfer_id: envelope.transfer_id,
            payload: envelope.payload.get().to_owned(),
            latency: seen.read_at.duration_since(inserted).unwrap_or_default(),
        })
    }

    /// Such as `transfers`.
    pub fn family(&self) -> &str {
        self.event_type.split('.').next().unwrap_or_default()
    }
}

/// Which events have come, and how often.
#[derive(Default)]
pub struct Account {
    times: HashMap<String, u64>,
    received: u64,
}

/// How the table compares with what came.
#[derive(Debug, PartialEq, Eq)]
pub struct Balance {
    pub rows: usize,
    pub received: u64,
    /// Rows without an event.
    pub lost: usize,
    /// Events beyond the first of a row.
    pub duplicated: u64,
    /// Events without a row.
    pub invented: usize,
}

impl Account {
    pub fn add(&mut self, id: &str) {
        *self.times.entry(id.to_owned()).or_default() += 1;
        self.received += 1;
    }

    /// Compares with the ids of the table.
    pub fn balance(&self, ids: &[String]) -> Balance {
        let lost = ids.iter().filter(|id| !self.times.contains_key(*id));
        let lost = lost.count();
        Balance {
            rows: ids.len(),
            received: self.received,
            lost,
            duplicated: self.received - self.times.len() as u64,
            invented: self.times.len() + lost - ids.len(),
        }
    }
}

impl Balance {
    /// Nothing lost, nothing twice, nothing that was rolled back.
    pub fn is_even(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.invented == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance(received: &[&str]) -> Balance {
        let mut account = Account::default();
        received.iter().for_each(|id| account.add(id));
        account.balance(&["a", "b", "c"].map(str::to_owned))
    }

    #[test]
    fn every_kind_of_difference_is_counted() {
        assert!(balance(&["c", "a", "b"]).is_even());
        let uneven = balance(&["a", "a", "a", "b", "x"]);
        let expected = Balance {
            rows: 3,
            received: 5,
            lost: 1,
            duplicated: 2,
            invented: 1,
        };
        assert_eq!(uneven, expected);
        assert!(!uneven.is_even());
    }
}

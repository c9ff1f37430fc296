//! What a standby sees: whether somebody does the work, and whether it could do it itself.

use std::time::{Duration, Instant};

use super::unconfirmed::Unconfirmed;
use crate::failure::Failure;
use crate::source::catalog::Holder;

/// The slot is looked at twice a second.
const LOOK_AGE: Duration = Duration::from_secs(10);
/// An active relay confirms about every second, but not while one large transaction is on its way.
/// Its replies to keepalives would tell more; without special rights they can't be read.
const STALL: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Outlook {
    holder: Option<(Holder, Instant)>,
    /// Why Kafka can't be used.
    kafka: Option<Failure>,
}

impl Outlook {
    /// Somebody reads from the slot.
    pub fn held_by(&mut self, holder: Holder, now: Instant) {
        self.holder = Some((holder, now));
    }

    /// What asking Kafka came to.
    pub fn asked_kafka(&mut self, failure: Option<Failure>) {
        self.kafka = failure;
    }

    /// Whether Kafka could be used when it was last asked.
    pub fn could_use_kafka(&self) -> bool {
        self.kafka.is_none()
    }

    /// Why a standby is of no use.
    pub fn reasons(&self, slot: &Unconfirmed, now: Instant) -> Vec<String> {
        let mut reasons = Vec::new();
        match &self.holder {
            None => reasons.push("the active relay has not been seen yet".to_owned()),
            Some((_, at)) if now.duration_since(*at) > LOOK_AGE => {
                let seconds = now.duration_since(*at).as_secs();
                reasons.push(format!("the active relay was last seen {seconds} s ago"));
            }
            Some((holder, _)) if !holder.is_relay => reasons.push(format!(
                "the slot is held by {holder}, not by a relay with our postgres.application_name"
            )),
            Some(_) => {}
        }
        let stalled = slot.stalled(now);
        if stalled > STALL {
            let seconds = stalled.as_secs();
            reasons.push(format!(
                "the active relay has confirmed nothing for {seconds} s, though there is WAL to confirm"
            ));
        }
        if let Some(failure) = &self.kafka {
            reasons.push(format!("kafka could not be used: {failure}"));
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use pgoutput::Lsn;

    use super::*;

    fn held_by(is_relay: bool, at: Instant) -> Outlook {
        let mut outlook = Outlook::default();
        let holder = Holder {
            pid: 7,
            application_name: "name".to_owned(),
            client: None,
            is_relay,
        };
        outlook.held_by(holder, at);
        outlook
    }

    #[test]
    fn only_a_relay_that_was_seen_lately_counts() {
        let start = Instant::now();
        let slot = Unconfirmed::default();
        let check = |outlook: Outlook, after: u64, expected: Option<&str>| {
            let reasons = outlook.reasons(&slot, start + Duration::from_secs(after));
            match expected {
                None => assert!(reasons.is_empty(), "{reasons:?}"),
                Some(text) => assert!(reasons[0].contains(text), "{reasons:?}"),
            }
        };
        check(held_by(true, start), 1, None);
        check(held_by(true, start), 11, Some("last seen 11 s ago"));
        check(held_by(false, start), 1, Some("not by a relay"));
        check(Outlook::default(), 1, Some("not been seen"));
    }

    #[test]
    fn a_slot_that_stands_still_or_kafka_out_of_reach_is_a_reason() {
        let start = Instant::now();
        let later = start + STALL + Duration::from_secs(1);
        let mut outlook = held_by(true, later);
        let mut slot = Unconfirmed::default();
        slot.looked(Lsn::from(20), Lsn::from(10), start);
        slot.looked(Lsn::from(30), Lsn::from(10), later);
        assert!(outlook.reasons(&slot, later)[0].contains("confirmed nothing for 31 s"));
        slot.looked(Lsn::from(30), Lsn::from(20), later);
        assert!(outlook.reasons(&slot, later).is_empty());
        outlook.asked_kafka(Some(Failure::new("kafka-unreachable", "no broker")));
        assert!(outlook.reasons(&slot, later)[0].contains("no broker"));
    }
}

//! A walsender: the log from some place on, as pgoutput messages.
//!
//! Each comes with an LSN as in XLogData: of its own WAL record, of the commit's end for a Commit,
//! and none for a Relation. These neither ascend nor differ (`WalSndPrepareWrite` in `walsender.c`).

use std::collections::BTreeMap;

use pgoutput::{
    Begin, Commit, CommitLsn, EndLsn, LogicalMessage, Lsn, Origin, Relation, TruncateOptions,
    Value, encode,
};

use super::{
    CONTROL_OID, Change, History, Item, OUTBOX_OID, Transaction, UNMAPPED_OID, control, unmapped,
};
use crate::Dice;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cursor {
    /// The next item has not been begun.
    Between,
    /// Its Origin is next.
    Origin,
    /// This change of it is next, or its Commit.
    Inside(usize),
}

/// Where one walsender is in the log.
#[derive(Debug)]
pub struct Walsender {
    item: usize,
    cursor: Cursor,
    /// Which shape of each table this session has been told of.
    told: BTreeMap<u32, usize>,
    sent: Lsn,
    sends_empty: bool,
}

impl Walsender {
    /// Starts at the slot's confirmed LSN.
    pub fn new(history: &History, from: Lsn, sends_empty: bool) -> Self {
        Self {
            item: history.first_from(from),
            cursor: Cursor::Between,
            told: BTreeMap::new(),
            sent: from,
            sends_empty,
        }
    }

    /// The next message, if there is anything to tell.
    pub fn next_message(&mut self, history: &History, dice: &mut Dice) -> Option<(Lsn, Vec<u8>)> {
        loop {
            match history.items.get(self.item)? {
                Item::Message { lsn } => {
                    self.done(*lsn);
                    return Some((*lsn, logical(*lsn, false)));
                }
                Item::Transaction(transaction)
                    if transaction.changes.is_empty() && !self.sends_empty =>
                {
                    self.done(transaction.end_lsn);
                }
                Item::Transaction(transaction) => {
                    return Some(self.message_of(transaction, history, dice));
                }
            }
        }
    }

    /// Something that a keepalive may truly claim: all that commits below it has been sent.
    pub fn keepalive(&mut self, history: &History, dice: &mut Dice) -> Lsn {
        let most = match history.items.get(self.item) {
            Some(item) => item.lsn(),
            None => history.end(),
        };
        let (least, most) = (self.sent.as_u64(), most.as_u64().max(self.sent.as_u64()));
        self.sent = match dice.one_in(3) {
            true => Lsn::from(dice.number(least..most + 1)),
            false => Lsn::from(most),
        };
        self.sent
    }

    /// What commits below has been sent.
    pub fn sent(&self) -> Lsn {
        self.sent
    }

    /// Everything has been sent, and said to have been.
    pub fn is_caught_up(&self, history: &History) -> bool {
        self.item == history.items.len() && self.sent == history.end()
    }

    fn done(&mut self, end: Lsn) {
        self.item += 1;
        self.cursor = Cursor::Between;
        self.sent = self.sent.max(end);
    }

    fn message_of(
        &mut self,
        transaction: &Transaction,
        history: &History,
        dice: &mut Dice,
    ) -> (Lsn, Vec<u8>) {
        let first = transaction.changes.first();
        let first = first.map_or(transaction.commit_lsn, |logged| logged.lsn);
        match self.cursor {
            Cursor::Between if transaction.has_origin => {
                self.cursor = Cursor::Origin;
                (first, begin(transaction))
            }
            Cursor::Between => {
                self.cursor = Cursor::Inside(0);
                (first, begin(transaction))
            }
            Cursor::Origin => {
                self.cursor = Cursor::Inside(0);
                (first, origin(transaction))
            }
            Cursor::Inside(index) => match transaction.changes.get(index) {
                Some(logged) => match self.untold(&logged.change, history, dice) {
                    Some(relation) => (Lsn::INVALID, relation),
                    None => {
                        self.cursor = Cursor::Inside(index + 1);
                        (logged.lsn, change(&logged.change, logged.lsn, history))
                    }
                },
                None => {
                    self.done(transaction.end_lsn);
                    (transaction.end_lsn, commit(transaction))
                }
            },
        }
    }

    /// The Relation message that must come first: a session's first for the table, after an
    /// alteration, or now and then for no reason (any cache invalidation).
    fn untold(&mut self, change: &Change, history: &History, dice: &mut Dice) -> Option<Vec<u8>> {
        let (oid, shape) = match change {
            Change::Event(event) => (OUTBOX_OID, event.shape),
            Change::Control(_) => (CONTROL_OID, 0),
            Change::Unmapped | Change::Truncate => (UNMAPPED_OID, 0),
            Change::Message => return None,
        };
        if dice.one_in(40) {
            self.told.remove(&oid);
        }
        if self.told.insert(oid, shape) == Some(shape) {
            return None;
        }
        Some(match oid {
            OUTBOX_OID => relation(history.schema.shape(shape)),
            CONTROL_OID => relation(&control()),
            _ => relation(&unmapped()),
        })
    }
}

fn message(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn begin(transaction: &Transaction) -> Vec<u8> {
    let begin = Begin {
        final_lsn: CommitLsn(transaction.commit_lsn),
        commit_time: transaction.commit_time,
        xid: transaction.xid,
    };
    message(|out| encode::begin(out, &begin))
}

fn commit(transaction: &Transaction) -> Vec<u8> {
    let commit = Commit {
        flags: 0,
        commit_lsn: CommitLsn(transaction.commit_lsn),
        end_lsn: EndLsn(transaction.end_lsn),
        commit_time: transaction.commit_time,
    };
    message(|out| encode::commit(out, &commit))
}

fn origin(transaction: &Transaction) -> Vec<u8> {
    let origin = Origin {
        commit_lsn: Lsn::from(transaction.commit_lsn.as_u64() / 2),
        name: "upstream",
    };
    message(|out| encode::origin(out, &origin))
}

fn relation(shape: &Relation) -> Vec<u8> {
    message(|out| encode::relation(out, shape))
}

fn logical(lsn: Lsn, transactional: bool) -> Vec<u8> {
    let logical = LogicalMessage {
        transactional,
        lsn,
        prefix: "app",
        content: b"note",
    };
    message(|out| encode::logical(out, &logical))
}

fn change(change: &Change, lsn: Lsn, history: &History) -> Vec<u8> {
    match change {
        Change::Event(event) => {
            let shape = history.schema.shape(event.shape);
            insert(shape, |column| event.cell(column))
        }
        Change::Control(demand) => insert(&control(), |column| demand.cell(column)),
        Change::Unmapped => {
            message(|out| encode::insert(out, UNMAPPED_OID, &[Value::Text(b"entry")]))
        }
        Change::Message => logical(lsn, true),
        Change::Truncate => {
            message(|out| encode::truncate(out, TruncateOptions::default(), &[UNMAPPED_OID]))
        }
    }
}

fn insert(shape: &Relation, cell: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let cells: Vec<_> = shape.columns.iter().map(|c| cell(&c.name)).collect();
    let values: Vec<_> = cells
        .iter()
        .map(|cell| match cell {
            Some(text) => Value::Text(text.as_bytes()),
            None => Value::Null,
        })
        .collect();
    message(|out| encode::insert(out, shape.oid, &values))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use pgoutput::Message;

    use super::super::Writer;
    use super::*;
    use crate::Clock;
    use crate::adversity::Adversity;

    fn written() -> History {
        let mut history = History::new();
        let mut writer = Writer::new(60, 4, Adversity::NONE);
        let (clock, mut dice) = (Clock::start(), Dice::new(3));
        while !writer.is_done() {
            writer.step(&mut history, &clock, &mut dice);
        }
        history
    }

    #[test]
    fn every_message_parses_and_transactions_are_whole() {
        let (history, mut dice) = (written(), Dice::new(5));
        let mut walsender = Walsender::new(&history, Lsn::INVALID, true);
        let mut open = None;
        let mut transactions = 0;
        while let Some((_, bytes)) = walsender.next_message(&history, &mut dice) {
            match pgoutput::parse(&bytes).unwrap() {
                Message::Begin(begin) => assert_eq!(open.replace(begin.final_lsn), None),
                Message::Commit(commit) => {
                    assert_eq!(open.take(), Some(commit.commit_lsn));
                    transactions += 1;
                }
                Message::Logical(message) => assert_eq!(message.transactional, open.is_some()),
                _ => assert!(open.is_some()),
            }
        }
        assert!(transactions > 30);
    }

    #[test]
    fn a_keepalive_never_claims_what_has_not_been_sent() {
        let (history, mut dice) = (written(), Dice::new(6));
        let mut walsender = Walsender::new(&history, Lsn::INVALID, false);
        let mut claimed = Lsn::INVALID;
        loop {
            let now = walsender.keepalive(&history, &mut dice);
            assert!(now >= claimed);
            claimed = now;
            let Some((_, bytes)) = walsender.next_message(&history, &mut dice) else {
                break;
            };
            if let Message::Begin(begin) = pgoutput::parse(&bytes).unwrap() {
                assert!(begin.final_lsn.0 >= claimed);
            }
        }
    }
}

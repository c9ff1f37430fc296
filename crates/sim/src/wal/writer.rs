//! Services at work: several open transactions at a time, of which some roll back.

use std::time::Duration;

use pgoutput::PgTimestamp;

use super::event::{EVENT_TYPES, SOUND_TYPES};
use super::{Change, Demand, Event, Flaw, History, Item, Logged, Transaction};
use crate::adversity::Adversity;
use crate::{Clock, Dice};

/// Transactions open at the same time.
const MOST_OPEN: usize = 3;
/// In the end only others write, so that an idle outbox sits in a busy database: so many times.
const LAST_NOISES: usize = 6;

/// Padding of an event that no topic takes; the dead-letter topic takes some of them.
const LARGE: usize = 9_000;
const LARGEST: usize = 20_000;

#[derive(Debug)]
struct Draft {
    xid: u32,
    changes: Vec<Logged>,
    /// Changes still to be made.
    left: usize,
    /// Rows of one statement share WAL records (`heap_multi_insert`).
    shares_records: bool,
    largest_padding: usize,
    commits: bool,
    /// The shape before this transaction altered the table, and so locked it.
    altered_from: Option<usize>,
}

/// Writes the log.
#[derive(Debug)]
pub struct Writer {
    open: Vec<Draft>,
    /// Transactions still to be begun.
    left: usize,
    noises_left: usize,
    next_xid: u32,
    next_event: u64,
    next_demand: u64,
    transfers: u64,
    adversity: Adversity,
}

impl Writer {
    /// A writer of `transactions`, with so many `transfers`.
    pub fn new(transactions: usize, transfers: u64, adversity: Adversity) -> Self {
        Self {
            open: Vec::new(),
            left: transactions,
            noises_left: LAST_NOISES,
            next_xid: 700,
            next_event: 1,
            next_demand: 1,
            transfers,
            adversity,
        }
    }

    /// No transaction is running.
    pub fn is_quiet(&self) -> bool {
        self.open.is_empty()
    }

    /// Nothing more will be written.
    pub fn is_done(&self) -> bool {
        self.left == 0 && self.open.is_empty() && self.noises_left == 0
    }

    /// Writes something, until everything is written.
    pub fn step(&mut self, history: &mut History, clock: &Clock, dice: &mut Dice) {
        if self.is_done() {
            return;
        }
        let locked = self.open.iter().any(|draft| draft.altered_from.is_some());
        let may_begin = self.left > 0 && self.open.len() < MOST_OPEN && !locked;
        let may_go_on = !self.open.is_empty();
        let weights = [
            u64::from(may_begin) * 20,
            u64::from(may_go_on) * 80,
            3,
            u64::from(self.left > 0),
        ];
        if self.left == 0 && self.open.is_empty() {
            if dice.one_in(8) {
                self.noises_left -= 1;
                history.append(dice.number(1..5_000));
            }
            return;
        }
        match dice.weighted(&weights) {
            0 => self.begin(dice),
            1 => self.go_on(history, clock, dice),
            2 => {
                history.append(dice.number(1..500));
            }
            _ => {
                let lsn = history.append(60);
                history.items.push(Item::Message { lsn });
            }
        }
    }

    /// Every client is gone: what is open is rolled back.
    pub fn crash(&mut self, history: &mut History) {
        for draft in self.open.drain(..).rev() {
            if let Some(shape) = draft.altered_from {
                history.schema.revert(shape);
            }
        }
    }

    fn begin(&mut self, dice: &mut Dice) {
        let left = match dice.weighted(&[50, 30, 12, 8]) {
            0 => 1,
            1 => dice.index(2..8),
            2 => dice.index(8..60),
            _ => 0,
        };
        self.left -= 1;
        self.next_xid += 1;
        self.open.push(Draft {
            xid: self.next_xid,
            changes: Vec::new(),
            left,
            shares_records: dice.one_in(3),
            largest_padding: if dice.one_in(6) { 3_000 } else { 300 },
            commits: !dice.one_in(6),
            altered_from: None,
        });
    }

    fn go_on(&mut self, history: &mut History, clock: &Clock, dice: &mut Dice) {
        let index = dice.index(0..self.open.len());
        if self.open.len() == 1 && dice.one_in(60) {
            let before = history.schema.current();
            history.schema.alter(dice);
            history.append(dice.number(100..900));
            self.open[index].altered_from.get_or_insert(before);
        }
        if self.open[index].left == 0 {
            let draft = self.open.swap_remove(index);
            return finish(draft, history, clock, dice);
        }
        let change = self.change(history, dice, self.open[index].largest_padding);
        let draft = &mut self.open[index];
        draft.left -= 1;
        let lsn = match draft.changes.last() {
            Some(last) if draft.shares_records && !dice.one_in(4) => last.lsn,
            Some(_) | None => history.append(dice.number(40..400)),
        };
        draft.changes.push(Logged { lsn, change });
    }

    fn change(&mut self, history: &History, dice: &mut Dice, largest_padding: usize) -> Change {
        if self.adversity.requests > 0 && dice.per_mille(self.adversity.requests) {
            let number = self.next_demand;
            self.next_demand += 1;
            let (events, transfers) = (self.next_event, self.transfers);
            return Change::Control(Demand::draw(number, events, transfers, dice));
        }
        match dice.weighted(&[85, 7, 6, 2]) {
            0 => Change::Event(self.event(history, dice, largest_padding)),
            1 => Change::Unmapped,
            2 => Change::Message,
            _ => Change::Truncate,
        }
    }

    fn event(&mut self, history: &History, dice: &mut Dice, largest_padding: usize) -> Event {
        let number = self.next_event;
        self.next_event += 1;
        let types = match self.adversity.fragile_topics {
            true => &EVENT_TYPES[..],
            false => &EVENT_TYPES[..SOUND_TYPES],
        };
        let flaw = self.flaw(dice);
        Event {
            number,
            event_type: dice.pick(types).unwrap_or(EVENT_TYPES[0]),
            transfer: (!dice.one_in(8)).then(|| dice.number(0..self.transfers)),
            padding: match flaw {
                Some(Flaw::Large) => dice.index(LARGE..LARGEST),
                Some(Flaw::Typeless | Flaw::Poisonous) | None => dice.index(0..largest_padding),
            },
            flaw,
            shape: history.schema.current(),
        }
    }

    fn flaw(&self, dice: &mut Dice) -> Option<Flaw> {
        let Adversity {
            typeless,
            large,
            poisonous,
            ..
        } = self.adversity;
        if typeless + large + poisonous == 0 {
            return None;
        }
        let sound = 1_000 - typeless - large - poisonous;
        match dice.weighted(&[sound, typeless, large, poisonous]) {
            0 => None,
            1 => Some(Flaw::Typeless),
            2 => Some(Flaw::Large),
            _ => Some(Flaw::Poisonous),
        }
    }
}

fn finish(draft: Draft, history: &mut History, clock: &Clock, dice: &mut Dice) {
    let commit_lsn = history.append(dice.number(30..60));
    if !draft.commits {
        if let Some(shape) = draft.altered_from {
            history.schema.revert(shape);
        }
        return;
    }
    // Replicated transactions keep the time of their origin, so times need not ascend.
    let has_origin = dice.one_in(15);
    // A commit is in the log before others see it, and with a synchronous standby long before.
    let unseen = match dice.one_in(6) {
        true => Duration::from_millis(dice.number(0..1_500)),
        false => Duration::ZERO,
    };
    let now = clock.timestamp().0;
    let commit_time = if has_origin { now - 60_000_000 } else { now };
    history.items.push(Item::Transaction(Transaction {
        xid: draft.xid,
        commit_lsn,
        end_lsn: history.end(),
        commit_time: PgTimestamp(commit_time),
        has_origin,
        visible_at: clock.elapsed() + unseen,
        changes: draft.changes,
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> History {
        let mut history = History::new();
        let mut writer = Writer::new(200, 4, Adversity::NONE);
        let (clock, mut dice) = (Clock::start(), Dice::new(11));
        while !writer.is_done() {
            writer.step(&mut history, &clock, &mut dice);
        }
        history
    }

    fn transactions(history: &History) -> Vec<&Transaction> {
        fn transaction(item: &Item) -> Option<&Transaction> {
            match item {
                Item::Transaction(transaction) => Some(transaction),
                Item::Message { .. } => None,
            }
        }
        history.items.iter().filter_map(transaction).collect()
    }

    #[test]
    fn commit_records_follow_each_other_and_may_touch() {
        let history = written();
        let transactions = transactions(&history);
        let mut touching = 0;
        for pair in transactions.windows(2) {
            assert!(pair[0].end_lsn <= pair[1].commit_lsn);
            touching += u32::from(pair[0].end_lsn == pair[1].commit_lsn);
        }
        assert!(touching > 0, "no commit followed directly on another");
    }

    /// So an LSN that ends one transaction may belong to a row of the next.
    #[test]
    fn a_first_change_may_stand_where_the_commit_before_it_ended() {
        let history = written();
        let transactions = transactions(&history);
        let touches = transactions.windows(2).any(|pair| {
            let first = pair[1].changes.first();
            first.is_some_and(|first| first.lsn == pair[0].end_lsn)
        });
        assert!(touches);
    }

    #[test]
    fn transactions_interleave_and_rows_share_records() {
        let history = written();
        let transactions = transactions(&history);
        let interleaved = transactions.windows(2).any(|pair| {
            let first = pair[1].changes.first();
            first.is_some_and(|first| first.lsn < pair[0].commit_lsn)
        });
        assert!(interleaved);
        let shares = |t: &&&Transaction| t.changes.windows(2).any(|p| p[0].lsn == p[1].lsn);
        assert!(transactions.iter().any(|t| shares(&t)));
    }

    #[test]
    fn some_transactions_roll_back_and_some_are_empty() {
        let history = written();
        let transactions = transactions(&history);
        assert!(transactions.len() < 195);
        assert!(transactions.iter().any(|t| t.changes.is_empty()));
    }
}

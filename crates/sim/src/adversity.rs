//! What events and operators do to a pipeline, and what it is configured to do about that.

use delivery::{OnDeadLetter, WriteBack};

use crate::Dice;

/// Drawn once per run.
#[derive(Debug, Clone, Copy)]
pub struct Adversity {
    /// What happens behind an event that is dead.
    pub on_dead_letter: OnDeadLetter,
    /// What rows are told.
    pub write_back: WriteBack,
    /// `write_back.max_pending`
    pub max_pending_marks: usize,
    /// `retry.max_retries`
    pub max_retries: u32,
    /// `dead_letter.max_per_minute`
    pub dead_letters_per_minute: usize,
    /// Events without a type, in thousandths.
    pub typeless: u64,
    /// Events that are too large.
    pub large: u64,
    /// Events that the brokers refuse, without having said so.
    pub poisonous: u64,
    /// Some events are for topics that may not be written to at times.
    pub fragile_topics: bool,
    /// Changes that are requests of operators, in thousandths.
    pub requests: u64,
}

impl Adversity {
    /// Nothing is wrong with events, and nobody wants to know of them.
    pub const NONE: Self = Self {
        on_dead_letter: OnDeadLetter::Halt,
        write_back: WriteBack::Off,
        max_pending_marks: 1_000,
        max_retries: 5,
        dead_letters_per_minute: 1_000_000,
        typeless: 0,
        large: 0,
        poisonous: 0,
        fragile_topics: false,
        requests: 0,
    };

    /// None in many runs, so that what else goes wrong is seen undisturbed.
    pub fn draw(dice: &mut Dice) -> Self {
        if dice.per_mille(350) {
            return Self::NONE;
        }
        let write_back = match dice.weighted(&[60, 20, 20]) {
            0 => WriteBack::All,
            1 => WriteBack::Failures,
            _ => WriteBack::Off,
        };
        let fragile_topics = dice.one_in(2);
        let common = Self {
            write_back,
            // A relay takes 10,000 and more. With fewer than eight, a run in 8,000 is too slow for its bounds.
            max_pending_marks: dice.index(8..100),
            max_retries: dice.number(0..5) as u32,
            fragile_topics,
            ..Self::NONE
        };
        match dice.weighted(&[40, 45, 15]) {
            0 => common.with_dead_letters(OnDeadLetter::Continue, dice),
            1 => common.with_dead_letters(OnDeadLetter::ParkKey, dice),
            // Nothing may be wrong for good: nobody repairs rows.
            _ => common,
        }
    }

    fn with_dead_letters(self, on_dead_letter: OnDeadLetter, dice: &mut Dice) -> Self {
        let drawn = Self {
            on_dead_letter,
            typeless: sometimes(dice, 30),
            large: sometimes(dice, 20),
            poisonous: sometimes(dice, 8),
            requests: sometimes(dice, 40),
            ..self
        };
        let is_wrong_for_good = drawn.typeless + drawn.large + drawn.poisonous > 0;
        if !is_wrong_for_good && dice.one_in(3) {
            let dead_letters_per_minute = dice.index(3..30);
            return Self {
                dead_letters_per_minute,
                ..drawn
            };
        }
        drawn
    }
}

fn sometimes(dice: &mut Dice, most: u64) -> u64 {
    if dice.one_in(2) {
        dice.number(1..most + 1)
    } else {
        0
    }
}

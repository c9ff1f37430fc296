//! How many like lines there were. Pure: the time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracing::Level;

/// What a limit is for.
pub const PERIOD: Duration = Duration::from_secs(60);
/// More kinds of lines than the program has places are those whose message varies.
const KINDS_MAX: usize = 1000;

/// What lines have in common that are alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kind {
    /// File and line of the program.
    pub place: (&'static str, u32),
    pub level: Level,
    pub message: Option<String>,
    pub pipeline: Option<String>,
    /// What failed: an operator must not miss another failure for the first.
    pub code: Option<String>,
    /// Why an event is a dead letter.
    pub class: Option<String>,
    /// The consumer group or request that the line is about: it may be the only one about that.
    pub about: Option<String>,
}

impl Kind {
    /// All lines of its place.
    fn of_place(self) -> Self {
        Self {
            message: Some("further lines, of too many kinds to tell apart".into()),
            pipeline: None,
            code: None,
            class: None,
            about: None,
            ..self
        }
    }
}

/// Counts lines by kind, each in periods that begin with a line.
#[derive(Debug)]
pub struct Tally {
    written_max: u64,
    periods: HashMap<Kind, Period>,
}

#[derive(Debug)]
struct Period {
    end: Instant,
    lines: u64,
}

impl Tally {
    /// So many lines of a kind are written in a period.
    pub fn new(written_max: u64) -> Self {
        Self {
            written_max,
            periods: HashMap::new(),
        }
    }

    /// Counts a line; whether it is written.
    pub fn admits(&mut self, kind: Kind, now: Instant) -> bool {
        let kind = self.told_apart(kind, now);
        let written_max = self.written_max;
        let new = || Period {
            end: now + PERIOD,
            lines: 0,
        };
        let period = self.periods.entry(kind).or_insert_with(new);
        // What was left out in a period that is over is still to be told, so that one goes on until it is.
        if period.end <= now && period.lines <= written_max {
            *period = new();
        }
        period.lines += 1;
        period.lines <= written_max
    }

    /// When the first period ends in which lines were left out.
    pub fn next_end(&self) -> Option<Instant> {
        let periods = self.periods.values();
        let over = periods.filter(|period| period.lines > self.written_max);
        over.map(|period| period.end).min()
    }

    /// How many lines were left out in the periods that are over, by kind. They are forgotten.
    pub fn ended(&mut self, now: Instant) -> Vec<(Kind, u64)> {
        let written_max = self.written_max;
        let ended = self.periods.extract_if(|_, period| period.end <= now);
        let left_out = ended.map(|(kind, period)| (kind, period.lines.saturating_sub(written_max)));
        left_out.filter(|(_, lines)| *lines > 0).collect()
    }

    /// As [`Self::ended`], of all periods.
    pub fn end(&mut self) -> Vec<(Kind, u64)> {
        let last = self.periods.values().map(|period| period.end).max();
        last.map(|last| self.ended(last)).unwrap_or_default()
    }

    /// The kind itself while there is room for it.
    fn told_apart(&mut self, kind: Kind, now: Instant) -> Kind {
        if self.periods.len() < KINDS_MAX || self.periods.contains_key(&kind) {
            return kind;
        }
        let written_max = self.written_max;
        self.periods
            .retain(|_, period| period.end > now || period.lines > written_max);
        match self.periods.len() < KINDS_MAX {
            true => kind,
            false => kind.of_place(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 3;

    fn kind(message: &str) -> Kind {
        Kind {
            place: ("file", 1),
            level: Level::WARN,
            message: Some(message.into()),
            pipeline: Some("outbox".into()),
            code: None,
            class: None,
            about: None,
        }
    }

    /// How many of so many like lines are written.
    fn written(tally: &mut Tally, kind: &Kind, lines: usize, now: Instant) -> usize {
        let admitted = (0..lines).filter(|_| tally.admits(kind.clone(), now));
        admitted.count()
    }

    #[test]
    fn further_like_lines_are_left_out_and_told_when_the_minute_is_over() {
        let (mut tally, start) = (Tally::new(MAX), Instant::now());
        let retrying = kind("retrying");
        assert_eq!(written(&mut tally, &retrying, 3, start), 3);
        assert_eq!(tally.next_end(), None);
        let later = start + PERIOD / 2;
        assert_eq!(written(&mut tally, &retrying, 10, later), 0);
        assert_eq!(tally.next_end(), Some(start + PERIOD));
        assert_eq!(tally.ended(later), []);
        assert_eq!(tally.ended(start + PERIOD), [(retrying.clone(), 10)]);
        assert_eq!(tally.next_end(), None);
        assert_eq!(written(&mut tally, &retrying, 4, start + PERIOD), 3);
    }

    #[test]
    fn rare_lines_are_all_written() {
        let (mut tally, start) = (Tally::new(MAX), Instant::now());
        for minute in 0..10 {
            let now = start + PERIOD * minute;
            assert_eq!(written(&mut tally, &kind("retrying"), 3, now), 3);
        }
        assert_eq!(tally.end(), []);
    }

    #[test]
    fn the_first_of_each_kind_is_written() {
        let (mut tally, now) = (Tally::new(MAX), Instant::now());
        let stopped = kind("pipeline stopped");
        assert_eq!(written(&mut tally, &stopped, 100, now), 3);
        let with = |code: &str| Kind {
            code: Some(code.into()),
            ..stopped.clone()
        };
        let of_class = Kind {
            class: Some("mapping".into()),
            ..stopped.clone()
        };
        let of_another = Kind {
            pipeline: Some("other".into()),
            ..stopped.clone()
        };
        let elsewhere = Kind {
            place: ("file", 2),
            ..stopped.clone()
        };
        for other in [with("a"), with("b"), of_class, of_another, elsewhere] {
            assert!(tally.admits(other.clone(), now), "{other:?}");
        }
    }

    #[test]
    fn nothing_that_was_left_out_is_forgotten() {
        let (mut tally, start) = (Tally::new(MAX), Instant::now());
        written(&mut tally, &kind("a"), 5, start);
        // Nobody has asked yet, though the minute is over.
        let late = start + PERIOD * 2;
        assert_eq!(written(&mut tally, &kind("a"), 2, late), 0);
        assert_eq!(tally.ended(late), [(kind("a"), 4)]);
        written(&mut tally, &kind("b"), 4, late);
        assert_eq!(tally.end(), [(kind("b"), 1)]);
        assert_eq!(tally.end(), []);
    }

    #[test]
    fn lines_of_many_kinds_take_bounded_memory() {
        let (mut tally, start) = (Tally::new(MAX), Instant::now());
        let varying = |number: usize| kind(&format!("row {number}"));
        let lines = KINDS_MAX * 3;
        let admitted = (0..lines).filter(|number| tally.admits(varying(*number), start));
        assert_eq!(admitted.count(), KINDS_MAX + 3);
        assert_eq!(tally.periods.len(), KINDS_MAX + 1);
        let rest = (lines - KINDS_MAX - 3) as u64;
        assert_eq!(tally.ended(start + PERIOD), [(varying(0).of_place(), rest)]);
        assert_eq!(tally.periods.len(), 0);
    }
}

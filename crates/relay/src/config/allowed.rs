//! What a setting may be, beyond its type.

use std::fmt;
use std::time::Duration;

use super::error::{Fault, quoted};
use super::units::{show_bytes, show_duration};

/// The values that a key takes. Bounds are inclusive.
pub(super) enum Allowed {
    Anything,
    NonEmpty,
    Whole(i128, i128),
    Bytes(u64, u64),
    Time(Duration, Duration),
    Factor(f64, f64),
    /// Texts that a predicate takes, and how the reference describes them.
    Texts(&'static str, fn(&str) -> bool),
}

impl Allowed {
    pub fn text(&self, text: String) -> Result<String, Fault> {
        let accepted = match self {
            Self::NonEmpty => !text.trim().is_empty(),
            Self::Texts(_, accepts) => accepts(&text),
            Self::Anything
            | Self::Whole(..)
            | Self::Bytes(..)
            | Self::Time(..)
            | Self::Factor(..) => true,
        };
        if accepted {
            return Ok(text);
        }
        let problem = if text.trim().is_empty() {
            "is empty".to_string()
        } else {
            format!("{} is not allowed", quoted(&text))
        };
        Err(Fault::new(problem, self.remedy()))
    }

    pub fn number(&self, number: i128) -> Result<i128, Fault> {
        let Self::Whole(min, max) = self else {
            return Ok(number);
        };
        let within = (*min..=*max).contains(&number);
        if within {
            Ok(number)
        } else {
            Err(self.out_of_range(number))
        }
    }

    pub fn bytes(&self, bytes: u64) -> Result<usize, Fault> {
        let fits = match self {
            Self::Bytes(min, max) => (*min..=*max).contains(&bytes),
            Self::Anything
            | Self::NonEmpty
            | Self::Whole(..)
            | Self::Time(..)
            | Self::Factor(..)
            | Self::Texts(..) => true,
        };
        usize::try_from(bytes)
            .ok()
            .filter(|_| fits)
            .ok_or_else(|| self.out_of_range(show_bytes(bytes)))
    }

    pub fn time(&self, duration: Duration) -> Result<Duration, Fault> {
        let Self::Time(min, max) = self else {
            return Ok(duration);
        };
        let within = (*min..=*max).contains(&duration);
        if within {
            Ok(duration)
        } else {
            Err(self.out_of_range(show_duration(duration)))
        }
    }

    pub fn factor(&self, factor: f64) -> Result<f64, Fault> {
        let Self::Factor(min, max) = self else {
            return Ok(factor);
        };
        // A NaN is in no range.
        let within = (*min..=*max).contains(&factor);
        if within {
            Ok(factor)
        } else {
            Err(self.out_of_range(factor))
        }
    }

    fn out_of_range(&self, value: impl fmt::Display) -> Fault {
        Fault::new(format!("{value} is out of range"), self.remedy())
    }

    /// What to write instead.
    pub fn remedy(&self) -> String {
        format!("write {self}")
    }
}

/// As the reference describes it; empty for [`Allowed::Anything`].
impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anything => Ok(()),
            Self::NonEmpty => f.write_str("not empty"),
            Self::Whole(min, max) => write!(f, "{min} to {max}"),
            Self::Bytes(min, max) => write!(f, "{} to {}", show_bytes(*min), show_bytes(*max)),
            Self::Time(min, max) => {
                write!(f, "{} to {}", show_duration(*min), show_duration(*max))
            }
            Self::Factor(min, max) => write!(f, "{min} to {max}"),
            Self::Texts(description, _) => f.write_str(description),
        }
    }
}

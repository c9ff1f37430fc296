//! Durations and sizes as people write them: `"20ms"`, `"1m30s"`, `"4MiB"`.

use std::time::Duration;

use super::error::{Fault, quoted};

/// Units of time with their microseconds, the longest first.
const TIME: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Units of size with their bytes, the order in which a size is shown.
const SIZE: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads whole numbers with units, such as `1m30s`, which are added up.
pub(super) fn parse_duration(text: &str) -> Result<Duration, Fault> {
    let remedy = "write whole numbers with a unit (us, ms, s, m, h or d), such as \"20ms\"";
    let fault = |what| Fault::new(format!("{} {what}", quoted(text)), remedy);
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(fault("is empty"));
    }
    let mut micros = 0_u64;
    while !rest.is_empty() {
        let (number, unit, tail) = next_part(rest).ok_or_else(|| fault("is not a duration"))?;
        if unit.is_empty() {
            return Err(fault("has no unit"));
        }
        let scale = scale(&TIME, unit).ok_or_else(|| fault("has an unknown unit"))?;
        micros = number
            .checked_mul(scale)
            .and_then(|part| micros.checked_add(part))
            .ok_or_else(|| fault("is too long"))?;
        rest = tail;
    }
    Ok(Duration::from_micros(micros))
}

/// Reads a whole number of bytes with or without a unit.
pub(super) fn parse_bytes(text: &str) -> Result<u64, Fault> {
    let remedy = "write a whole number of bytes, or one with a unit (B, kB, MB, GB, KiB, MiB, \
                  GiB), such as \"4MiB\"";
    let fault = |what| Fault::new(format!("{} {what}", quoted(text)), remedy);
    let (number, unit, tail) = next_part(text.trim()).ok_or_else(|| fault("is not a size"))?;
    if !tail.is_empty() {
        return Err(fault("is not a size"));
    }
    let unit = if unit.is_empty() { "B" } else { unit };
    let scale = scale(&SIZE, unit).ok_or_else(|| fault("has an unknown unit"))?;
    number
        .checked_mul(scale)
        .ok_or_else(|| fault("is too large"))
}

/// Splits digits (`_` between them is allowed), a unit and the rest off `text`.
fn next_part(text: &str) -> Option<(u64, &str, &str)> {
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(digits_end);
    let number = digits.replace('_', "").parse().ok()?;
    let rest = rest.trim_start();
    let unit_end = rest
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(unit_end);
    Some((number, unit, tail.trim_start()))
}

fn scale(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, scale)| *scale)
}

/// The shortest text that [`parse_duration`] reads as `duration`, to the microsecond.
pub(super) fn show_duration(duration: Duration) -> String {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    show(&TIME, micros, "s")
}

/// The shortest text that [`parse_bytes`] reads as `bytes`.
pub(super) fn show_bytes(bytes: u64) -> String {
    show(&SIZE, bytes, "B")
}

fn show(units: &[(&str, u64)], amount: u64, unit_of_zero: &str) -> String {
    units
        .iter()
        .find(|(_, scale)| amount != 0 && amount.is_multiple_of(*scale))
        .map_or_else(
            || format!("0{unit_of_zero}"),
            |(unit, scale)| format!("{}{unit}", amount / scale),
        )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        let check = |text, micros| {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_micros(micros)),
                "{text}"
            );
        };
        check("20ms", 20_000);
        check("0s", 0);
        check("250us", 250);
        check("1m30s", 90_000_000);
        check(" 2 h ", 7_200_000_000);
        check("1_000ms", 1_000_000);
        check("1d", 86_400_000_000);
    }

    #[test]
    fn unclear_durations_are_refused() {
        let check = |text, problem| {
            assert_eq!(parse_duration(text).unwrap_err().problem, problem, "{text}");
        };
        check("20", "\"20\" has no unit");
        check("", "\"\" is empty");
        check("1.5s", "\"1.5s\" has no unit");
        check("20 parsecs", "\"20 parsecs\" has an unknown unit");
        check("-1s", "\"-1s\" is not a duration");
        check("99999999999999d", "\"99999999999999d\" is too long");
        check("5S", "\"5S\" has an unknown unit");
    }

    #[test]
    fn sizes_are_read_with_or_without_units() {
        let check = |text, bytes| assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        check("4MiB", 4_194_304);
        check("1MB", 1_000_000);
        check("1000000", 1_000_000);
        check("16 KiB", 16_384);
        check("1_000_000", 1_000_000);
        check("0", 0);
    }

    #[test]
    fn unclear_sizes_are_refused() {
        let check = |text, problem| {
            assert_eq!(parse_bytes(text).unwrap_err().problem, problem, "{text}");
        };
        check("4M", "\"4M\" has an unknown unit");
        check("4MiB2", "\"4MiB2\" is not a size");
        check("many", "\"many\" is not a size");
        check("99999999999GiB", "\"99999999999GiB\" is too large");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(amount in any::<u64>()) {
            let duration = Duration::from_micros(amount);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_bytes(&show_bytes(amount)), Ok(amount));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parse_duration(&text);
            let _ = parse_bytes(&text);
        }
    }
}

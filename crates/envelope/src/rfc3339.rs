//! Timestamps: Postgres's text form to instants, and instants to RFC 3339, without allocation.
//!
//! Covered are the years 1 to 9999 of the proleptic Gregorian calendar, which both Postgres and
//! RFC 3339 use.

use pgoutput::PgTimestamp;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// Days from 0001-01-01 to 2000-01-01, where [`PgTimestamp`] counts from.
const EPOCH_DAY: i64 = 730_119;
/// Days from 0001-01-01 to 10000-01-01.
const END_DAY: i64 = 3_652_059;

/// An instant as `2026-11-23T10:51:19.123456Z`: UTC, always six fractional digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339([u8; 27]);

impl Rfc3339 {
    /// The text form of `instant`.
    ///
    /// # Errors
    /// Infinities, and instants outside the years 1 to 9999.
    pub fn new(instant: PgTimestamp) -> Result<Self, TimestampError> {
        if matches!(instant.0, i64::MIN | i64::MAX) {
            return Err(TimestampError::Infinite);
        }
        let day = instant.0.div_euclid(MICROS_PER_DAY) + EPOCH_DAY;
        if !(0..END_DAY).contains(&day) {
            return Err(TimestampError::OutOfRange);
        }
        let (year, month, day) = date(day);
        let micros = instant.0.rem_euclid(MICROS_PER_DAY);
        let seconds = micros / MICROS_PER_SECOND;
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        for (start, digits, number) in [
            (0, 4, year),
            (5, 2, month),
            (8, 2, day),
            (11, 2, seconds / 3600),
            (14, 2, seconds / 60 % 60),
            (17, 2, seconds % 60),
            (20, 6, micros % MICROS_PER_SECOND),
        ] {
            write_decimal(&mut text[start..start + digits], number);
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// No instant can be made of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// `infinity` or `-infinity`.
    #[error("the timestamp is infinite")]
    Infinite,
    /// A year before 1 (Postgres writes BC) or after 9999.
    #[error("the timestamp is outside the years 1 to 9999")]
    OutOfRange,
    /// Not `2026-11-23 10:51:19.123456+00` or a part of it.
    #[error("the timestamp is not in ISO style; set DateStyle = ISO for the replication role")]
    Syntax,
}

/// Reads the text that Postgres writes with `DateStyle = ISO` for timestamptz and timestamp.
///
/// The fraction may be shorter or absent. So may the offset from UTC, as for a timestamp, which
/// then counts as UTC; Postgres writes the offset of the session's time zone (`EncodeTimezone`).
/// Proved by `postgres_text_is_read`.
///
/// # Errors
/// Other texts, infinities, and years before 1 or after 9999.
pub fn parse_postgres(text: &str) -> Result<PgTimestamp, TimestampError> {
    if matches!(text, "infinity" | "-infinity") {
        return Err(TimestampError::Infinite);
    }
    let (text, is_before_christ) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let Some(instant) = Reader(text.as_bytes()).timestamp() else {
        return Err(TimestampError::Syntax);
    };
    let first = -EPOCH_DAY * MICROS_PER_DAY;
    let end = (END_DAY - EPOCH_DAY) * MICROS_PER_DAY;
    if is_before_christ || !(first..end).contains(&instant) {
        return Err(TimestampError::OutOfRange);
    }
    Ok(PgTimestamp(instant))
}

/// Reads what [`Rfc3339`] writes, and what people write: RFC 3339, or as [`parse_postgres`].
///
/// # Errors
/// As [`parse_postgres`].
pub fn parse(text: &str) -> Result<PgTimestamp, TimestampError> {
    let postgres = text.replacen(['T', 't'], " ", 1);
    match postgres.strip_suffix(['Z', 'z']) {
        Some(utc) => parse_postgres(&format!("{utc}+00")),
        None => parse_postgres(&postgres),
    }
}

/// Takes the parts of a timestamp from the front.
struct Reader<'t>(&'t [u8]);

impl Reader<'_> {
    fn timestamp(mut self) -> Option<i64> {
        let day = self.date()?;
        self.byte(b' ')?;
        let time = self.time()?;
        let offset = self.offset()?;
        let whole = self.0.is_empty();
        let micros = time - offset * MICROS_PER_SECOND;
        // Six digits of a year exceed what 64 bits of microseconds hold.
        let midnight = (day - EPOCH_DAY).saturating_mul(MICROS_PER_DAY);
        whole.then_some(midnight.saturating_add(micros))
    }

    fn date(&mut self) -> Option<i64> {
        let year = self.decimal(4, 6)?;
        self.byte(b'-')?;
        let month = self.two_digits(12)?;
        self.byte(b'-')?;
        let day = self.two_digits(31)?;
        let starts = month_starts(year);
        let start = *starts.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
        let end = *starts.get(usize::try_from(month).ok()?)?;
        let exists = year >= 1 && day >= 1 && day <= end - start;
        exists.then(|| first_day(year) + start + day - 1)
    }

    /// Microseconds since midnight.
    fn time(&mut self) -> Option<i64> {
        let hour = self.two_digits(23)?;
        self.byte(b':')?;
        let minute = self.two_digits(59)?;
        self.byte(b':')?;
        let second = self.two_digits(59)?;
        let mut micros = 0;
        if self.byte(b'.').is_some() {
            let before = self.0.len();
            micros = self.decimal(1, 6)?;
            for _ in before - self.0.len()..6 {
                micros *= 10;
            }
        }
        Some((hour * 3600 + minute * 60 + second) * MICROS_PER_SECOND + micros)
    }

    /// Seconds east of UTC; 0 where there is no offset.
    fn offset(&mut self) -> Option<i64> {
        let sign = match self.0.first() {
            None => return Some(0),
            Some(b'+') => 1,
            Some(b'-') => -1,
            Some(_) => return None,
        };
        self.0 = self.0.get(1..)?;
        // Postgres allows offsets below 16 hours (`MAX_TZDISP_HOUR`).
        let mut seconds = self.two_digits(15)? * 3600;
        for unit in [60, 1] {
            if self.byte(b':').is_some() {
                seconds += self.two_digits(59)? * unit;
            }
        }
        Some(sign * seconds)
    }

    fn byte(&mut self, expected: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[expected])?;
        Some(())
    }

    fn two_digits(&mut self, max: i64) -> Option<i64> {
        self.decimal(2, 2).filter(|number| *number <= max)
    }

    fn decimal(&mut self, min_digits: usize, max_digits: usize) -> Option<i64> {
        let digits = self
            .0
            .iter()
            .take(max_digits)
            .take_while(|byte| byte.is_ascii_digit());
        let count = digits.clone().count();
        let number = digits.fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
        self.0 = self.0.get(count..)?;
        (count >= min_digits).then_some(number)
    }
}

fn write_decimal(digits: &mut [u8], mut number: i64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a day counted from 0001-01-01.
fn date(day: i64) -> (i64, i64, i64) {
    // The last year of a cycle is the one with the extra day, hence the upper bounds.
    let (cycle_400, day) = (day / 146_097, day % 146_097);
    let century = (day / 36_524).min(3);
    let day = day - century * 36_524;
    let (cycle_4, day) = (day / 1_461, day % 1_461);
    let year_of_4 = (day / 365).min(3);
    let day = day - year_of_4 * 365;
    let year = cycle_400 * 400 + century * 100 + cycle_4 * 4 + year_of_4 + 1;
    let starts = month_starts(year);
    let month = starts.partition_point(|start| *start <= day);
    (year, month as i64, day - starts[month - 1] + 1)
}

/// First day of a year, counted from 0001-01-01.
fn first_day(year: i64) -> i64 {
    let past = year - 1;
    past * 365 + past / 4 - past / 100 + past / 400
}

/// The day of the year, from 0, on which each month starts, and the next year.
fn month_starts(year: i64) -> [i64; 13] {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let leap = i64::from(is_leap);
    [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365]
        .map(|start| if start > 31 { start + leap } else { start })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let instant = parse_postgres(text).unwrap();
        assert_eq!(Rfc3339::new(instant).unwrap().as_str(), expected, "{text}");
    }

    #[test]
    fn postgres_text_is_read() {
        check(
            "2026-11-23 10:51:19.123456+00",
            "2026-11-23T10:51:19.123456Z",
        );
        check("2026-11-23 10:51:19.12+00", "2026-11-23T10:51:19.120000Z");
        check("2026-11-23 10:51:19+00", "2026-11-23T10:51:19.000000Z");
        check("2026-11-23 10:51:19.000001", "2026-11-23T10:51:19.000001Z");
        check("2026-11-23 10:51:19+05:30", "2026-11-23T05:21:19.000000Z");
        check("2026-11-23 22:51:19-02", "2026-11-24T00:51:19.000000Z");
        check(
            "1890-01-01 00:00:00+00:53:28",
            "1889-12-31T23:06:32.000000Z",
        );
        check("2000-02-29 00:00:00+00", "2000-02-29T00:00:00.000000Z");
        check("0001-01-01 00:00:00+00", "0001-01-01T00:00:00.000000Z");
        check(
            "9999-12-31 23:59:59.999999+00",
            "9999-12-31T23:59:59.999999Z",
        );
    }

    #[test]
    fn instants_without_rfc_3339_form_are_refused() {
        for (text, expected) in [
            ("infinity", TimestampError::Infinite),
            ("-infinity", TimestampError::Infinite),
            ("0044-03-15 12:00:00+00 BC", TimestampError::OutOfRange),
            ("0001-01-01 00:00:00+01", TimestampError::OutOfRange),
            ("10000-01-01 00:00:00+00", TimestampError::OutOfRange),
            (
                "294276-12-31 23:59:59.999999+00",
                TimestampError::OutOfRange,
            ),
        ] {
            assert_eq!(parse_postgres(text), Err(expected), "{text}");
        }
        for (instant, expected) in [
            (i64::MAX, TimestampError::Infinite),
            (i64::MIN, TimestampError::Infinite),
            (i64::MAX - 1, TimestampError::OutOfRange),
            (i64::MIN + 1, TimestampError::OutOfRange),
            (
                (END_DAY - EPOCH_DAY) * MICROS_PER_DAY,
                TimestampError::OutOfRange,
            ),
            (-EPOCH_DAY * MICROS_PER_DAY - 1, TimestampError::OutOfRange),
        ] {
            assert_eq!(
                Rfc3339::new(PgTimestamp(instant)),
                Err(expected),
                "{instant}"
            );
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "now",
            "2026-11-23",
            "2026-11-23T10:51:19Z",
            "2026-11-23 10:51",
            "2026-11-23 10:51:19.",
            "2026-11-23 10:51:19.1234567",
            "2026-11-23 10:51:19 UTC",
            "2026-11-23 10:51:19+0",
            "2026-11-23 10:51:19+00:",
            "2026-11-23 10:51:19+16",
            "2026-11-23 24:00:00",
            "2026-11-23 10:60:00",
            "2026-11-23 10:51:60",
            "2026-02-29 00:00:00",
            "1900-02-29 00:00:00",
            "2026-13-01 00:00:00",
            "2026-00-01 00:00:00",
            "2026-01-00 00:00:00",
            "0000-01-01 00:00:00",
            "226-01-01 00:00:00",
            "Mon Nov 23 10:51:19 2026 UTC",
            "23/11/2026 10:51:19 UTC",
        ] {
            assert_eq!(parse_postgres(text), Err(TimestampError::Syntax), "{text}");
        }
    }

    #[test]
    fn an_instant_is_read_with_any_offset() {
        let instant = PgTimestamp::from_unix_micros(1_795_773_600_000_001);
        let text = Rfc3339::new(instant).unwrap();
        assert_eq!(text.as_str(), "2026-11-27T10:00:00.000001Z");
        for same in [
            text.as_str(),
            "2026-11-27t12:00:00.000001+02:00",
            "2026-11-27 10:00:00.000001",
        ] {
            assert_eq!(parse(same), Ok(instant), "{same}");
        }
        assert!(parse("2026-11-27T").is_err() && parse("Z").is_err());
    }

    fn instants() -> impl Strategy<Value = i64> {
        let first = -EPOCH_DAY * MICROS_PER_DAY;
        first..(END_DAY - EPOCH_DAY) * MICROS_PER_DAY
    }

    proptest! {
        #[test]
        fn another_calendar_agrees(micros in instants()) {
            let instant = PgTimestamp(micros);
            let other = jiff::Timestamp::from_microsecond(instant.unix_micros()).unwrap();
            let text = Rfc3339::new(instant).unwrap();
            prop_assert_eq!(text.as_str(), format!("{other:.6}"));
        }

        #[test]
        fn what_is_written_is_read_back(micros in instants()) {
            let instant = PgTimestamp(micros);
            let text = Rfc3339::new(instant).unwrap();
            let postgres = text.as_str().replace('T', " ").replace('Z', "+00");
            prop_assert_eq!(parse_postgres(&postgres), Ok(instant));
        }

        #[test]
        fn no_text_panics(text in "[-+0-9: .BC]{0,34}") {
            let _ = parse_postgres(&text);
        }
    }
}

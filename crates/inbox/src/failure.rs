//! Why an event was not handled, and what that means for it.

use std::error::Error as StdError;
use std::fmt;

use tokio_postgres::error::{DbError, SqlState};

type Source = Box<dyn StdError + Send + Sync>;

/// A handler's failure. Its transaction is rolled back.
///
/// Every error becomes one with `?`, and the event is tried again. Only a failure that is certain to
/// repeat itself is [permanent](Failure::permanent).
///
/// Where the failure comes from the database being away or from another transaction (a lost
/// connection, a deadlock, a serialization failure), the event is tried again without end: that is
/// not its fault. It is recognised by the [`tokio_postgres::Error`] among the sources of the error.
///
/// ```
/// use inbox::Failure;
///
/// fn amount(text: &str) -> Result<i64, Failure> {
///     // Tried again, in vain: then it is a dead letter.
///     let amount = text.parse()?;
///     if amount == 0 {
///         // A dead letter at once.
///         return Err(Failure::permanent("nothing was transferred"));
///     }
///     Ok(amount)
/// }
///
/// assert_eq!(amount("0").unwrap_err().to_string(), "nothing was transferred");
/// assert!(amount("x").is_err());
/// ```
#[derive(Debug)]
pub struct Failure {
    pub(crate) kind: Kind,
    source: Source,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The event's, perhaps: tried again, but not for ever.
    Counted,
    /// The event's, certainly: a dead letter at once. The code says why.
    Permanent(&'static str),
    /// Another transaction's: tried again without end.
    Conflict,
    /// The database is away: everything waits.
    Unavailable,
}

impl Failure {
    /// The event can't ever be handled: it becomes a dead letter at once.
    pub fn permanent(reason: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::coded("permanent", reason)
    }

    /// A failure that may pass, from a text or an error that is none by type.
    pub fn transient(reason: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source = reason.into();
        let kind = kind_of(source.as_ref());
        Self { kind, source }
    }

    pub(crate) fn coded(code: &'static str, reason: impl Into<Source>) -> Self {
        Self {
            kind: Kind::Permanent(code),
            source: reason.into(),
        }
    }

    pub(crate) fn unavailable(source: impl Into<Source>) -> Self {
        Self {
            kind: Kind::Unavailable,
            source: source.into(),
        }
    }

    /// Of a statement of the consumer's own. Whatever is wrong with the table, the role or the server, no event
    /// is to blame; only an id may be one that Postgres refuses (classes 22 and 54).
    pub(crate) fn of_inbox(error: tokio_postgres::Error) -> Self {
        let kind = match error.code().and_then(|code| code.code().get(..2)) {
            Some("40") => Kind::Conflict,
            Some("22" | "54") => Kind::Counted,
            Some(_) => Kind::Unavailable,
            // Not from the server.
            None => kind_of_database(&error),
        };
        Self {
            kind,
            source: error.into(),
        }
    }

    /// The class of its dead letter.
    pub(crate) fn class(&self) -> &'static str {
        match self.kind {
            Kind::Permanent(code) => code,
            Kind::Counted | Kind::Conflict | Kind::Unavailable => "attempts-exhausted",
        }
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::transient(error)
    }
}

impl fmt::Display for Failure {
    /// The error and its sources, in one line, without the values of rows that Postgres quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source: &(dyn StdError + 'static) = self.source.as_ref();
        let mut text = source.to_string();
        let mut shown = text.clone();
        for error in sources(source).skip(1) {
            let own = error.to_string();
            // Some errors show their source in their own text.
            if !shown.contains(&own) {
                text = format!("{text}: {own}");
            }
            shown = own;
        }
        let database = sources(source).find_map(|error| error.downcast_ref::<DbError>());
        if let Some(error) = database {
            text = without_values(text, error);
        }
        f.write_str(&bounded(&text))
    }
}

/// Longer texts are cut: a reason goes into a header of a dead letter.
const TEXT_MAX: usize = 2_000;

fn bounded(text: &str) -> String {
    let mut end = TEXT_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (kept, rest) = text.split_at(end);
    let dots = if rest.is_empty() { "" } else { "…" };
    format!("{}{dots}", kept.replace(['\n', '\r', '\0'], " "))
}

/// A detail names the row, and the messages of class 22 (data exceptions) quote what is wrong.
fn without_values(mut text: String, error: &DbError) -> String {
    let withheld = [error.detail(), error.where_()];
    for part in withheld.into_iter().flatten() {
        text = text.replace(part, "(withheld)");
    }
    let code = error.code().code();
    if code.starts_with("22") {
        text = text.replace(error.message(), "a value that Postgres refuses");
    }
    format!("{text} (SQLSTATE {code})")
}

fn sources<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

fn kind_of(error: &(dyn StdError + 'static)) -> Kind {
    for error in sources(error) {
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
            return kind_of_database(error);
        }
        if let Some(error) = error.downcast_ref::<deadpool_postgres::PoolError>()
            && !matches!(error, deadpool_postgres::PoolError::Backend(_))
        {
            return Kind::Unavailable;
        }
    }
    Kind::Counted
}

/// Error codes: Postgres documentation, appendix A.
fn kind_of_database(error: &tokio_postgres::Error) -> Kind {
    match error.code() {
        None if error.is_closed() || is_io(error) => Kind::Unavailable,
        None => Kind::Counted,
        Some(code) => kind_of_code(code),
    }
}

fn kind_of_code(code: &SqlState) -> Kind {
    let name = code.code();
    // Class 40: serialization failure, deadlock.
    if name.starts_with("40") {
        return Kind::Conflict;
    }
    // A limit that the handler's own statement has reached, such as temp_file_limit.
    if *code == SqlState::CONFIGURATION_LIMIT_EXCEEDED {
        return Kind::Counted;
    }
    // Class 08 connection, 53 resources, 57P shutdown; 25006: a server that has become a standby.
    let is_away = ["08", "53", "57P"]
        .iter()
        .any(|class| name.starts_with(class));
    if is_away || *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return Kind::Unavailable;
    }
    Kind::Counted
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    let source = StdError::source(error);
    let source = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    // Invalid input is a text that can't be sent, such as SQL with U+0000.
    source.is_some_and(|source| source.kind() != std::io::ErrorKind::InvalidInput)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: &str, expected: Kind) {
        assert_eq!(kind_of_code(&SqlState::from_code(code)), expected, "{code}");
    }

    #[test]
    fn what_is_not_the_events_fault_is_told_by_the_code() {
        check("40P01", Kind::Conflict);
        check("40001", Kind::Conflict);
        check("57P01", Kind::Unavailable);
        check("57P03", Kind::Unavailable);
        check("53300", Kind::Unavailable);
        check("08006", Kind::Unavailable);
        check("25006", Kind::Unavailable);
        check("23505", Kind::Counted);
        check("57014", Kind::Counted);
        check("53400", Kind::Counted);
        check("42P01", Kind::Counted);
    }

    #[test]
    fn a_text_is_one_line_and_bounded() {
        assert_eq!(Failure::permanent("a\nb\0c").to_string(), "a b c");
        let long = Failure::permanent("é".repeat(2_000)).to_string();
        assert_eq!(long, "é".repeat(1_000) + "…");
    }

    #[test]
    fn any_error_becomes_a_failure_that_counts() {
        let failure: Failure = std::io::Error::other("no").into();
        assert_eq!(
            (failure.kind, failure.class()),
            (Kind::Counted, "attempts-exhausted")
        );
        assert_eq!(Failure::permanent("no such account").class(), "permanent");
        assert_eq!(
            Failure::permanent("no such account").to_string(),
            "no such account"
        );
    }
}

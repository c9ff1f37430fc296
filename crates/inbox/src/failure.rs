//! Why an event was not handled, and what that means for it.

use std::error::Error as StdError;
use std::fmt;

use tokio_postgres::error::SqlState;

type Source = Box<dyn StdError + Send + Sync>;

/// A handler's failure. Its transaction is rolled back.
///
/// Every error becomes one with `?`, and the event is tried again. Only a failure that is certain to
/// repeat itself is [permanent](Failure::permanent).
///
/// Where the failure comes from the database being away or from another transaction (a lost
/// connection, a deadlock, a serialization failure), the event is tried again without end: that is
/// not its fault. It is recognised by the [`tokio_postgres::Error`] among the sources of the error.
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
    /// The error and its sources, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        let mut shown = self.source.to_string();
        let mut next = self.source.source();
        while let Some(error) = next {
            let text = error.to_string();
            // Some errors show their source in their own text.
            if !shown.contains(&text) {
                write!(f, ": {text}")?;
            }
            shown = text;
            next = error.source();
        }
        Ok(())
    }
}

fn kind_of(error: &(dyn StdError + 'static)) -> Kind {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
            return kind_of_database(error);
        }
        if let Some(error) = error.downcast_ref::<deadpool_postgres::PoolError>()
            && !matches!(error, deadpool_postgres::PoolError::Backend(_))
        {
            return Kind::Unavailable;
        }
        next = error.source();
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
    source.is_some_and(|source| source.is::<std::io::Error>())
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
        check("42P01", Kind::Counted);
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

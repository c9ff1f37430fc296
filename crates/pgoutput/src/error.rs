//! What can be wrong with a message.

use std::fmt;

/// The kinds of message that protocol version 1 has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Start of a transaction.
    Begin,
    /// End of a transaction.
    Commit,
    /// Where a transaction was first committed.
    Origin,
    /// Description of a table.
    Relation,
    /// Description of a type that is not built in.
    Type,
    /// A new row.
    Insert,
    /// A changed row.
    Update,
    /// A removed row.
    Delete,
    /// Emptied tables.
    Truncate,
    /// Content given to `pg_logical_emit_message`.
    Logical,
}

impl MessageKind {
    /// The first byte of such a message (`LogicalRepMsgType` in `logicalproto.h`).
    pub const fn tag(self) -> u8 {
        match self {
            MessageKind::Begin => b'B',
            MessageKind::Commit => b'C',
            MessageKind::Origin => b'O',
            MessageKind::Relation => b'R',
            MessageKind::Type => b'Y',
            MessageKind::Insert => b'I',
            MessageKind::Update => b'U',
            MessageKind::Delete => b'D',
            MessageKind::Truncate => b'T',
            MessageKind::Logical => b'M',
        }
    }

    pub(crate) const fn from_tag(tag: u8) -> Option<MessageKind> {
        Some(match tag {
            b'B' => MessageKind::Begin,
            b'C' => MessageKind::Commit,
            b'O' => MessageKind::Origin,
            b'R' => MessageKind::Relation,
            b'Y' => MessageKind::Type,
            b'I' => MessageKind::Insert,
            b'U' => MessageKind::Update,
            b'D' => MessageKind::Delete,
            b'T' => MessageKind::Truncate,
            b'M' => MessageKind::Logical,
            _ => return None,
        })
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MessageKind::Begin => "begin",
            MessageKind::Commit => "commit",
            MessageKind::Origin => "origin",
            MessageKind::Relation => "relation",
            MessageKind::Type => "type",
            MessageKind::Insert => "insert",
            MessageKind::Update => "update",
            MessageKind::Delete => "delete",
            MessageKind::Truncate => "truncate",
            MessageKind::Logical => "logical",
        })
    }
}

/// A replication message that cannot be read. Trying again cannot help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {field} of {} message at byte {offset}: {problem}", Article(*.message))]
pub struct ParseError {
    /// The kind of message, unless that itself is unknown.
    pub message: Option<MessageKind>,
    /// The part of the message that could not be read.
    pub field: &'static str,
    /// Where that part starts, in bytes from the message's first.
    pub offset: usize,
    /// What was wrong.
    pub problem: Problem,
}

/// The kind of a message in a sentence.
struct Article(Option<MessageKind>);

impl fmt::Display for Article {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(kind @ (MessageKind::Origin | MessageKind::Insert | MessageKind::Update)) => {
                write!(f, "an {kind}")
            }
            Some(kind) => write!(f, "a {kind}"),
            None => f.write_str("a replication"),
        }
    }
}

/// What was wrong with a part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The message ends too early.
    Truncated {
        /// Bytes that the part takes.
        needed: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// The message ends before the zero byte that ends a string.
    Unterminated,
    /// A string is not UTF-8. The connection asks for it with `client_encoding`.
    NotUtf8,
    /// A tag that protocol version 1 does not have at this place.
    UnknownTag(u8),
    /// A flag that protocol version 1 does not have.
    UnknownFlags(u8),
    /// A length or count below zero.
    Negative(i32),
    /// The message goes on after its last part.
    TrailingBytes(usize),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Problem::Truncated { needed, remaining } => {
                write!(f, "bytes needed: {needed}, left: {remaining}")
            }
            Problem::Unterminated => f.write_str("the string has no end"),
            Problem::NotUtf8 => f.write_str("the string is not UTF-8"),
            Problem::UnknownTag(tag) => {
                write!(f, "tag {:?} is not of protocol version 1", char::from(tag))
            }
            Problem::UnknownFlags(flags) => {
                write!(f, "flags {flags:#04x} are not of protocol version 1")
            }
            Problem::Negative(number) => write!(f, "{number} is below zero"),
            Problem::TrailingBytes(count) => write!(f, "bytes after the message: {count}"),
        }
    }
}

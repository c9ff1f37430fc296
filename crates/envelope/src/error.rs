//! Why a row can't become a record.

use crate::{policy::TopicRefusal, rfc3339::TimestampError};

/// A row that can't become a record. It never holds any of the payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {reason}", self.subject())]
pub struct MapError {
    /// The column at fault, where it is one.
    pub column: Option<String>,
    /// What is wrong.
    pub reason: MapReason,
}

impl MapError {
    /// The stable name of the reason, such as `null-id`.
    pub fn code(&self) -> &'static str {
        self.reason.code()
    }

    fn subject(&self) -> String {
        match &self.column {
            Some(name) => format!("column {name:?}"),
            None => "the row".into(),
        }
    }
}

impl From<MapReason> for MapError {
    fn from(reason: MapReason) -> Self {
        Self {
            column: None,
            reason,
        }
    }
}

/// What is wrong with a column or a row, which is the subject of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapReason {
    /// No event id.
    #[error("is NULL: every event needs an id")]
    NullId,
    /// An empty event id.
    #[error("is empty: every event needs an id")]
    EmptyId,
    /// No event type.
    #[error("is NULL: every event needs a type")]
    NullType,
    /// An empty event type.
    #[error("is empty: every event needs a type")]
    EmptyType,
    /// A column of the topic template is NULL.
    #[error("is NULL: it is part of the topic")]
    NullTopicColumn,
    /// A text payload that is no JSON.
    #[error("is not valid JSON (line {line}, column {column} of the text)")]
    BadPayload {
        /// Line, from 1.
        line: usize,
        /// Column, from 1; 0 at the start of a line.
        column: usize,
    },
    /// The row's own headers are not a flat object.
    #[error("is not a JSON object of headers")]
    BadHeaders,
    /// A timestamp without RFC 3339 form.
    #[error("has no usable time: {0}")]
    BadTimestamp(TimestampError),
    /// The topic is no possible name.
    #[error("goes to topic {topic:?}, which is refused: {refusal}", refusal = TopicRefusal::Invalid)]
    BadTopic {
        /// What routing made, cut off if it is too long for a topic.
        topic: String,
    },
    /// The policy refuses the topic.
    #[error("goes to topic {topic:?}, which is refused: {refusal}")]
    TopicNotAllowed {
        /// What routing made.
        topic: String,
        /// Why.
        refusal: TopicRefusal,
    },
    /// Text that is not UTF-8: the database's encoding is SQL_ASCII.
    #[error("is not UTF-8")]
    NotUtf8,
    /// A value that its type does not have.
    #[error("does not hold {expected}")]
    Malformed {
        /// What it should hold.
        expected: &'static str,
    },
    /// A binary value of a type that only its text form is understood of.
    #[error("arrived in the binary form of a type that is read as text only; turn binary off")]
    UnsupportedBinary,
    /// An out-of-line value is missing. Postgres sends inserted rows whole.
    #[error("arrived without its out-of-line value")]
    IncompleteRow,
    /// The row does not fit its relation.
    #[error("has {found} columns, its relation {expected}")]
    RowShape {
        /// Columns of the relation.
        expected: usize,
        /// Columns of the row.
        found: usize,
    },
}

impl MapReason {
    /// The stable name of the reason, such as `null-id`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NullId => "null-id",
            Self::EmptyId => "empty-id",
            Self::NullType => "null-type",
            Self::EmptyType => "empty-type",
            Self::NullTopicColumn => "null-topic-column",
            Self::BadPayload { .. } => "bad-payload",
            Self::BadHeaders => "bad-headers",
            Self::BadTimestamp(_) => "bad-timestamp",
            Self::BadTopic { .. } => "bad-topic",
            Self::TopicNotAllowed { .. } => "topic-not-allowed",
            Self::NotUtf8 => "not-utf8",
            Self::Malformed { .. } => "malformed-value",
            Self::UnsupportedBinary => "unsupported-binary",
            Self::IncompleteRow => "incomplete-row",
            Self::RowShape { .. } => "row-shape",
        }
    }
}

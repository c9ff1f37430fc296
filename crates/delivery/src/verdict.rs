//! Why an event is not published as it is.

use envelope::dead_letter::UNMAPPABLE;
use pgoutput::PgTimestamp;

/// A verdict on one event, or on all events of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What is wrong.
    pub class: Class,
    /// The same for people, without any of the payload.
    pub reason: String,
    /// How often publishing was tried before the verdict.
    pub attempts: u32,
    /// When that failed first.
    pub first_failure: PgTimestamp,
    /// When it failed last.
    pub last_failure: PgTimestamp,
}

/// Reasons stand in headers, checkpoints, rows and logs, and may repeat what a row says.
const REASON_BYTES_MAX: usize = 1024;

impl Verdict {
    /// One that needs no second try. A reason is cut after 1 KiB.
    pub(crate) fn certain(class: Class, mut reason: String, wall: PgTimestamp) -> Self {
        let end = (0..=REASON_BYTES_MAX.min(reason.len())).rev();
        let mut end = end;
        let end = end.find(|at| reason.is_char_boundary(*at));
        reason.truncate(end.unwrap_or_default());
        Self {
            class,
            reason,
            attempts: 1,
            first_failure: wall,
            last_failure: wall,
        }
    }
}

/// Kinds of verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The row can't become an event; the mapper's code.
    Mapping(&'static str),
    /// It is to be published in the clear, and its payload can't be decrypted.
    Encryption,
    /// The event is larger than `event.max_bytes` or than its topic allows.
    TooLarge,
    /// The topic does not exist.
    TopicMissing,
    /// The principal may not write to the topic.
    TopicDenied,
    /// The brokers refuse the event, alone in its batch, for another reason.
    Refused,
    /// The event comes behind another one of its key that is dead.
    Parked,
}

impl Class {
    /// Those whose name is fixed: all but the mapper's.
    pub const NAMED: [Self; 6] = [
        Self::Encryption,
        Self::TooLarge,
        Self::TopicMissing,
        Self::TopicDenied,
        Self::Refused,
        Self::Parked,
    ];

    /// The stable name, as in the dead letter's header.
    pub fn name(self) -> String {
        match self {
            Self::Mapping(code) => format!("{UNMAPPABLE}{code}"),
            Self::Encryption => "encryption".into(),
            Self::TooLarge => "too-large".into(),
            Self::TopicMissing => "topic-missing".into(),
            Self::TopicDenied => "topic-denied".into(),
            Self::Refused => "refused".into(),
            Self::Parked => "parked".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_where_a_character_ends() {
        let reason =
            |text: String| Verdict::certain(Class::Encryption, text, PgTimestamp(0)).reason;
        assert_eq!(reason("short".into()), "short");
        assert_eq!(reason("x".repeat(3_000_000)).len(), REASON_BYTES_MAX);
        let cut = reason(format!("x{}", "\u{20ac}".repeat(1000)));
        assert!(
            cut.len() <= REASON_BYTES_MAX && cut.ends_with('\u{20ac}'),
            "{cut}"
        );
    }
}

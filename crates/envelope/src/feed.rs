//! What tells records of a feed from those of the stream: a feed publishes rows besides the stream, for
//! a backfill, a repair or a replay.

use pgoutput::{CommitLsn, Lsn, Position};

/// The header of an event that was published again on request, behind all others: the request's id.
pub const REPLAY_HEADER: &str = "replay";

/// A header's name and value.
type Header<'a> = (&'a str, Option<&'a [u8]>);

/// Where a row of a feed stands: it is not looked up in the log, and bears its place in the feed.
pub fn fed_position(ordinal: u64) -> Position {
    Position {
        commit_lsn: CommitLsn(Lsn::INVALID),
        index: ordinal,
    }
}

/// Whether it is a place in a feed.
pub fn is_fed(position: Position) -> bool {
    position.commit_lsn.0 == Lsn::INVALID
}

/// The headers without what a request has added, and that request. `position` is what the header of that
/// name says. Only the last header of a record of a feed can be the relay's: a row may have one of that
/// name of its own.
pub fn published_again<'a, 'h>(
    headers: &'h [Header<'a>],
    position: &str,
) -> (&'h [Header<'a>], Option<&'a str>) {
    let is_of_feed = position.parse().is_ok_and(is_fed);
    match headers.split_last().filter(|_| is_of_feed) {
        Some(((REPLAY_HEADER, Some(request)), own)) => match std::str::from_utf8(request) {
            Ok(request) => (own, Some(request)),
            Err(_) => (headers, None),
        },
        Some(_) | None => (headers, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_by_the_last_header_of_what_a_feed_published() {
        let check = |position: &str, last: (&'static str, &'static str), expected: Option<&str>| {
            let headers = [
                // The row's own.
                ("replay", Some(&b"e"[..])),
                (last.0, Some(last.1.as_bytes())),
            ];
            let (own, request) = published_again(&headers, position);
            assert_eq!(request, expected, "{position} {last:?}");
            assert_eq!(own.len(), 2 - usize::from(expected.is_some()));
        };
        check("0/0:7", ("replay", "r1"), Some("r1"));
        check("0/0:7", ("other", "r1"), None);
        check("0/10:7", ("replay", "r1"), None);
        check("", ("replay", "r1"), None);
        check(&fed_position(7).to_string(), ("replay", "r1"), Some("r1"));
    }
}

//! A decoder with a bug that a few inputs show: fuzzing must find it within seconds.

use pgoutput::{Begin, Message, ParseError, parse};

use crate::pgoutput_message;

/// Checks a decoder that loses the highest bit of a transaction id.
pub fn check(bytes: &[u8]) {
    pgoutput_message::check_with(bytes, loses_a_bit);
}

/// Wraparound is rare, so nobody would notice for years.
pub fn loses_a_bit(bytes: &[u8]) -> Result<Message<'_>, ParseError> {
    Ok(match parse(bytes)? {
        Message::Begin(begin) => Message::Begin(Begin {
            xid: begin.xid & 0x7fff_ffff,
            ..begin
        }),
        other => other,
    })
}

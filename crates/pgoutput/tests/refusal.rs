//! Errors name the message, the field, its offset and what is wrong.
#![allow(clippy::unwrap_used)]

use pgoutput::parse;

#[track_caller]
fn check(message: &[u8], expected: &str) {
    assert_eq!(parse(message).unwrap_err().to_string(), expected);
}

#[test]
fn a_message_that_ends_early() {
    check(
        b"",
        "cannot read tag of a replication message at byte 0: bytes needed: 1, left: 0",
    );
    check(
        b"B\0\0\0",
        "cannot read final LSN of a begin message at byte 1: bytes needed: 8, left: 3",
    );
    check(
        b"I\0\0\0\x01N\0\x02n",
        "cannot read column kind of an insert message at byte 9: bytes needed: 1, left: 0",
    );
    check(
        b"I\0\0\0\x01N\0\x01t\0\0\0\x09abc",
        "cannot read column value of an insert message at byte 13: bytes needed: 9, left: 3",
    );
}

#[test]
fn a_count_beyond_the_message() {
    check(
        b"T\x7f\xff\xff\xff\0\0\0\0\x01",
        "cannot read relation oids of a truncate message at byte 6: \
         bytes needed: 8589934588, left: 4",
    );
    check(
        b"R\0\0\0\x01\0t\0d\x7f\xff",
        "cannot read column flags of a relation message at byte 11: \
         bytes needed: 1, left: 0",
    );
}

#[test]
fn a_count_or_length_below_zero() {
    check(
        b"I\0\0\0\x01N\xff\xff",
        "cannot read column count of an insert message at byte 6: -1 is below zero",
    );
    check(
        b"U\0\0\0\x01N\0\x01t\xff\xff\xff\xfe",
        "cannot read column length of an update message at byte 9: -2 is below zero",
    );
    check(
        b"M\0\0\0\0\0\0\0\0\x01p\0\x80\0\0\0",
        "cannot read content length of a logical message at byte 12: -2147483648 is below zero",
    );
}

#[test]
fn a_tag_of_another_protocol_version() {
    check(
        b"S\0\0\0\x01\x01",
        "cannot read tag of a replication message at byte 0: \
         tag 'S' is not of protocol version 1",
    );
    check(
        b"I\0\0\0\x01K\0\0",
        "cannot read tuple kind of an insert message at byte 5: \
         tag 'K' is not of protocol version 1",
    );
    check(
        b"U\0\0\0\x01K\0\0K\0\0",
        "cannot read tuple kind of an update message at byte 8: \
         tag 'K' is not of protocol version 1",
    );
    check(
        b"D\0\0\0\x01N\0\0",
        "cannot read tuple kind of a delete message at byte 5: \
         tag 'N' is not of protocol version 1",
    );
    check(
        b"I\0\0\0\x01N\0\x01\0",
        "cannot read column kind of an insert message at byte 8: \
         tag '\\0' is not of protocol version 1",
    );
}

#[test]
fn unknown_flags() {
    check(
        b"T\0\0\0\0\x04",
        "cannot read options of a truncate message at byte 5: \
         flags 0x04 are not of protocol version 1",
    );
    check(
        b"M\x02",
        "cannot read flags of a logical message at byte 1: flags 0x02 are not of protocol version 1",
    );
}

#[test]
fn a_damaged_string() {
    check(
        b"Y\0\0\0\x01public\0order",
        "cannot read type name of a type message at byte 12: the string has no end",
    );
    check(
        b"O\0\0\0\0\0\0\0\x01a\xff\0",
        "cannot read origin name of an origin message at byte 9: the string is not UTF-8",
    );
}

#[test]
fn two_messages_in_one() {
    check(
        b"I\0\0\0\x01N\0\0I\0\0\0\x01N\0\0",
        "cannot read end of an insert message at byte 8: bytes after the message: 8",
    );
}

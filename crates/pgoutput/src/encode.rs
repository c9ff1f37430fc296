//! Writes the messages that [`crate::parse`] reads: for a simulated server and for tests.
//!
//! Each function appends one message to `out`. They panic on values that no message can hold: a
//! string with a zero byte, more than 32 767 columns, a value of 2 GiB or more. Encoding what was
//! parsed restores the captured bytes: `encoding_restores_the_captured_bytes`.

use crate::{
    error::MessageKind,
    lsn::Lsn,
    message::{
        Begin, CASCADE, Commit, KEY_TUPLE, LogicalMessage, NEW_TUPLE, OLD_TUPLE, Origin,
        RESTART_IDENTITY, TRANSACTIONAL, TruncateOptions, TypeMessage,
    },
    relation::{Column, Relation},
    timestamp::PgTimestamp,
    tuple::{self, Value},
};

/// What an UPDATE or DELETE tells of the row before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldRow<'a> {
    /// The replica identity's columns; the others are NULL.
    Key(&'a [Value<'a>]),
    /// All columns: the table has `REPLICA IDENTITY FULL`.
    Full(&'a [Value<'a>]),
}

/// Appends the start of a transaction.
pub fn begin(out: &mut Vec<u8>, begin: &Begin) {
    out.push(MessageKind::Begin.tag());
    put_lsn(out, begin.final_lsn.0);
    put_time(out, begin.commit_time);
    put_u32(out, begin.xid);
}

/// Appends the end of a transaction.
pub fn commit(out: &mut Vec<u8>, commit: &Commit) {
    out.extend([MessageKind::Commit.tag(), commit.flags]);
    put_lsn(out, commit.commit_lsn.0);
    put_lsn(out, commit.end_lsn.0);
    put_time(out, commit.commit_time);
}

/// Appends where the transaction was first committed.
pub fn origin(out: &mut Vec<u8>, origin: &Origin<'_>) {
    out.push(MessageKind::Origin.tag());
    put_lsn(out, origin.commit_lsn);
    put_string(out, origin.name);
}

/// Appends the description of a table.
pub fn relation(out: &mut Vec<u8>, relation: &Relation) {
    out.push(MessageKind::Relation.tag());
    put_u32(out, relation.oid);
    put_string(out, &relation.namespace);
    put_string(out, &relation.name);
    out.push(relation.replica_identity);
    put_column_count(out, relation.columns.len());
    for column in &relation.columns {
        put_column(out, column);
    }
}

/// Appends the description of a type.
pub fn type_message(out: &mut Vec<u8>, message: &TypeMessage<'_>) {
    out.push(MessageKind::Type.tag());
    put_u32(out, message.oid);
    put_string(out, message.namespace);
    put_string(out, message.name);
}

/// Appends a new row.
pub fn insert(out: &mut Vec<u8>, relation_oid: u32, row: &[Value<'_>]) {
    out.push(MessageKind::Insert.tag());
    put_u32(out, relation_oid);
    put_tuple(out, NEW_TUPLE, row);
}

/// Appends a changed row. The server tells of the row before only if the replica identity is full
/// or its columns changed.
pub fn update(out: &mut Vec<u8>, relation_oid: u32, old: Option<OldRow<'_>>, new: &[Value<'_>]) {
    out.push(MessageKind::Update.tag());
    put_u32(out, relation_oid);
    if let Some(old) = old {
        put_old_row(out, old);
    }
    put_tuple(out, NEW_TUPLE, new);
}

/// Appends a removed row.
pub fn delete(out: &mut Vec<u8>, relation_oid: u32, old: OldRow<'_>) {
    out.push(MessageKind::Delete.tag());
    put_u32(out, relation_oid);
    put_old_row(out, old);
}

/// Appends emptied tables.
pub fn truncate(out: &mut Vec<u8>, options: TruncateOptions, relation_oids: &[u32]) {
    let cascade = if options.cascade { CASCADE } else { 0 };
    let restart_identity = if options.restart_identity {
        RESTART_IDENTITY
    } else {
        0
    };
    out.push(MessageKind::Truncate.tag());
    put_length(out, relation_oids.len());
    out.push(cascade | restart_identity);
    for &oid in relation_oids {
        put_u32(out, oid);
    }
}

/// Appends a logical message.
pub fn logical(out: &mut Vec<u8>, message: &LogicalMessage<'_>) {
    let flags = if message.transactional {
        TRANSACTIONAL
    } else {
        0
    };
    out.extend([MessageKind::Logical.tag(), flags]);
    put_lsn(out, message.lsn);
    put_string(out, message.prefix);
    put_sized(out, message.content);
}

fn put_column(out: &mut Vec<u8>, column: &Column) {
    out.push(column.flags);
    put_string(out, &column.name);
    put_u32(out, column.type_oid);
    out.extend(column.type_modifier.to_be_bytes());
}

fn put_old_row(out: &mut Vec<u8>, old: OldRow<'_>) {
    match old {
        OldRow::Key(row) => put_tuple(out, KEY_TUPLE, row),
        OldRow::Full(row) => put_tuple(out, OLD_TUPLE, row),
    }
}

fn put_tuple(out: &mut Vec<u8>, kind: u8, row: &[Value<'_>]) {
    out.push(kind);
    put_column_count(out, row.len());
    for &value in row {
        put_value(out, value);
    }
}

fn put_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Null => out.push(tuple::NULL),
        Value::UnchangedToast => out.push(tuple::UNCHANGED_TOAST),
        Value::Text(text) => {
            out.push(tuple::TEXT);
            put_sized(out, text);
        }
        Value::Binary(bytes) => {
            out.push(tuple::BINARY);
            put_sized(out, bytes);
        }
    }
}

fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_column_count(out: &mut Vec<u8>, count: usize) {
    let count = i16::try_from(count).expect("a message holds at most 32767 columns");
    out.extend(count.to_be_bytes());
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    let length = i32::try_from(length).expect("a message holds less than 2 GiB");
    out.extend(length.to_be_bytes());
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    assert!(
        !text.contains('\0'),
        "a string in a message holds no zero byte: {text:?}"
    );
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend(number.to_be_bytes());
}

fn put_lsn(out: &mut Vec<u8>, lsn: Lsn) {
    out.extend(lsn.0.to_be_bytes());
}

fn put_time(out: &mut Vec<u8>, time: PgTimestamp) {
    out.extend(time.0.to_be_bytes());
}

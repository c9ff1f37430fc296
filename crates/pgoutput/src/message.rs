//! The messages and how they are read.

use crate::{
    error::{MessageKind, ParseError, Problem},
    lsn::{CommitLsn, EndLsn, Lsn},
    reader::Reader,
    relation::RelationMessage,
    timestamp::PgTimestamp,
    tuple::Tuple,
};

/// One message of the stream, borrowed from the payload of its `XLogData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A transaction starts.
    Begin(Begin),
    /// The transaction ends: all of it has arrived.
    Commit(Commit),
    /// The transaction was replicated from elsewhere. Follows `Begin`.
    Origin(Origin<'a>),
    /// A table, as it is for the changes that follow.
    Relation(RelationMessage<'a>),
    /// A type that is not built in; precedes the `Relation` that uses it.
    Type(TypeMessage<'a>),
    /// A new row.
    Insert(Insert<'a>),
    /// A changed row. Its values are checked but not kept.
    Update {
        /// The table.
        relation_oid: u32,
    },
    /// A removed row. Its values are checked but not kept.
    Delete {
        /// The table.
        relation_oid: u32,
    },
    /// Emptied tables.
    Truncate(Truncate<'a>),
    /// Content given to `pg_logical_emit_message`.
    Logical(LogicalMessage<'a>),
}

/// Start of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Start of the commit record: the transaction's place in the stream, known from its start.
    pub final_lsn: CommitLsn,
    /// When it was committed, by the clock of the server that executed it: of a transaction with
    /// an [`Origin`], the time there, as
    /// `a_replicated_transaction_has_the_commit_time_of_its_origin` proves. Times need not ascend.
    pub commit_time: PgTimestamp,
    /// Its (top-level) transaction id, without epoch: it wraps around.
    pub xid: u32,
}

/// End of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// 0; protocol version 1 defines no flag here.
    pub flags: u8,
    /// Start of the commit record, equal to `Begin.final_lsn`.
    pub commit_lsn: CommitLsn,
    /// First byte after the commit record.
    pub end_lsn: EndLsn,
    /// Equal to `Begin.commit_time`.
    pub commit_time: PgTimestamp,
}

/// Where a transaction was first committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The commit on that server.
    pub commit_lsn: Lsn,
    /// That server, as `pg_replication_origin_create` named it here.
    pub name: &'a str,
}

/// A type that is not built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeMessage<'a> {
    /// The oid that columns refer to.
    pub oid: u32,
    /// Schema; empty for `pg_catalog`. Of a domain, the schema of its base type
    /// (`logicalrep_write_typ`): `a_domain_is_described_as_its_base_type`.
    pub namespace: &'a str,
    /// Name; of a domain, the name of its base type.
    pub name: &'a str,
}

/// A new row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insert<'a> {
    /// The table; its `Relation` arrived before.
    pub relation_oid: u32,
    /// The row, complete.
    pub tuple: Tuple<'a>,
}

/// Emptied tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncate<'a> {
    /// How the statement asked for it.
    pub options: TruncateOptions,
    /// The tables.
    pub relation_oids: RelationOids<'a>,
}

/// Options of a TRUNCATE statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TruncateOptions {
    /// `CASCADE`
    pub cascade: bool,
    /// `RESTART IDENTITY`
    pub restart_identity: bool,
}

/// The tables of a [`Truncate`]: an iterator over their oids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationOids<'a> {
    oids: &'a [[u8; 4]],
}

impl Iterator for RelationOids<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (first, rest) = self.oids.split_first()?;
        self.oids = rest;
        Some(u32::from_be_bytes(*first))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.oids.len(), Some(self.oids.len()))
    }
}

impl ExactSizeIterator for RelationOids<'_> {}

/// Content given to `pg_logical_emit_message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogicalMessage<'a> {
    /// Whether it belongs to the transaction around it. Otherwise it arrives between
    /// transactions, even if the transaction that emitted it was aborted:
    /// `non_transactional_messages_arrive_outside_transactions`.
    pub transactional: bool,
    /// What `pg_logical_emit_message` returned: the end of its own WAL record. The commit record
    /// that follows may start there, so it is no identity among commit LSNs:
    /// `the_lsn_of_a_logical_message_can_equal_a_commit_lsn`.
    pub lsn: Lsn,
    /// Tells whose message it is.
    pub prefix: &'a str,
    /// The content, of any form.
    pub content: &'a [u8],
}

pub(crate) const NEW_TUPLE: u8 = b'N';
pub(crate) const KEY_TUPLE: u8 = b'K';
pub(crate) const OLD_TUPLE: u8 = b'O';
pub(crate) const TRANSACTIONAL: u8 = 1;
pub(crate) const CASCADE: u8 = 1;
pub(crate) const RESTART_IDENTITY: u8 = 2;

/// Reads one message: the bytes of an `XLogData` behind its header.
///
/// # Errors
/// If the bytes are no message of protocol version 1, or more than one.
pub fn parse(payload: &[u8]) -> Result<Message<'_>, ParseError> {
    let mut reader = Reader::new(payload);
    let message = match reader.kind()? {
        MessageKind::Begin => Message::Begin(begin(&mut reader)?),
        MessageKind::Commit => Message::Commit(commit(&mut reader)?),
        MessageKind::Origin => Message::Origin(origin(&mut reader)?),
        MessageKind::Relation => Message::Relation(RelationMessage::read(&mut reader)?),
        MessageKind::Type => Message::Type(type_message(&mut reader)?),
        MessageKind::Insert => Message::Insert(insert(&mut reader)?),
        MessageKind::Update => Message::Update {
            relation_oid: update(&mut reader)?,
        },
        MessageKind::Delete => Message::Delete {
            relation_oid: delete(&mut reader)?,
        },
        MessageKind::Truncate => Message::Truncate(truncate(&mut reader)?),
        MessageKind::Logical => Message::Logical(logical(&mut reader)?),
    };
    reader.finish()?;
    Ok(message)
}

fn begin(reader: &mut Reader<'_>) -> Result<Begin, ParseError> {
    Ok(Begin {
        final_lsn: CommitLsn(reader.lsn("final LSN")?),
        commit_time: PgTimestamp(reader.i64("commit time")?),
        xid: reader.u32("transaction id")?,
    })
}

fn commit(reader: &mut Reader<'_>) -> Result<Commit, ParseError> {
    Ok(Commit {
        flags: reader.u8("flags")?,
        commit_lsn: CommitLsn(reader.lsn("commit LSN")?),
        end_lsn: EndLsn(reader.lsn("end LSN")?),
        commit_time: PgTimestamp(reader.i64("commit time")?),
    })
}

fn origin<'a>(reader: &mut Reader<'a>) -> Result<Origin<'a>, ParseError> {
    Ok(Origin {
        commit_lsn: reader.lsn("commit LSN at the origin")?,
        name: reader.string("origin name")?,
    })
}

fn type_message<'a>(reader: &mut Reader<'a>) -> Result<TypeMessage<'a>, ParseError> {
    Ok(TypeMessage {
        oid: reader.u32("type oid")?,
        namespace: reader.string("namespace")?,
        name: reader.string("type name")?,
    })
}

fn insert<'a>(reader: &mut Reader<'a>) -> Result<Insert<'a>, ParseError> {
    let relation_oid = reader.u32("relation oid")?;
    tuple_kind(reader, &[NEW_TUPLE])?;
    Ok(Insert {
        relation_oid,
        tuple: Tuple::read(reader)?,
    })
}

fn update(reader: &mut Reader<'_>) -> Result<u32, ParseError> {
    let relation_oid = reader.u32("relation oid")?;
    if tuple_kind(reader, &[KEY_TUPLE, OLD_TUPLE, NEW_TUPLE])? != NEW_TUPLE {
        Tuple::read(reader)?;
        tuple_kind(reader, &[NEW_TUPLE])?;
    }
    Tuple::read(reader)?;
    Ok(relation_oid)
}

fn delete(reader: &mut Reader<'_>) -> Result<u32, ParseError> {
    let relation_oid = reader.u32("relation oid")?;
    tuple_kind(reader, &[KEY_TUPLE, OLD_TUPLE])?;
    Tuple::read(reader)?;
    Ok(relation_oid)
}

/// Reads the byte that tells what the next tuple is, which must be one of `expected`.
fn tuple_kind(reader: &mut Reader<'_>, expected: &[u8]) -> Result<u8, ParseError> {
    let before = *reader;
    let kind = reader.u8("tuple kind")?;
    if !expected.contains(&kind) {
        return Err(before.error("tuple kind", Problem::UnknownTag(kind)));
    }
    Ok(kind)
}

fn truncate<'a>(reader: &mut Reader<'a>) -> Result<Truncate<'a>, ParseError> {
    let count = reader.length("relation count")?;
    let flags = reader.flags("options", CASCADE | RESTART_IDENTITY)?;
    let bytes = reader.bytes("relation oids", count.saturating_mul(4))?;
    let (oids, _) = bytes.as_chunks();
    let options = TruncateOptions {
        cascade: flags & CASCADE != 0,
        restart_identity: flags & RESTART_IDENTITY != 0,
    };
    Ok(Truncate {
        options,
        relation_oids: RelationOids { oids },
    })
}

fn logical<'a>(reader: &mut Reader<'a>) -> Result<LogicalMessage<'a>, ParseError> {
    let flags = reader.flags("flags", TRANSACTIONAL)?;
    let lsn = reader.lsn("LSN")?;
    let prefix = reader.string("prefix")?;
    let length = reader.length("content length")?;
    let content = reader.bytes("content", length)?;
    Ok(LogicalMessage {
        transactional: flags & TRANSACTIONAL != 0,
        lsn,
        prefix,
        content,
    })
}

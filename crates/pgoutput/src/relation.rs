//! Tables as the stream describes them.

use crate::{error::ParseError, reader::Reader};

/// A description of a table, borrowed from its message. It is in force for the changes that
/// follow, until the next description with the same oid, also beyond the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationMessage<'a> {
    /// Oid of the table: of the partition, unless the publication has
    /// `publish_via_partition_root`.
    pub oid: u32,
    /// Schema; empty for `pg_catalog`.
    pub namespace: &'a str,
    /// Table name, as in the catalog: neither quoted nor folded.
    pub name: &'a str,
    /// `d` default, `n` nothing, `f` full, `i` index (`pg_class.relreplident`).
    pub replica_identity: u8,
    /// The published columns, in the order in which tuples hold them.
    pub columns: Columns<'a>,
}

impl<'a> RelationMessage<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<RelationMessage<'a>, ParseError> {
        Ok(RelationMessage {
            oid: reader.u32("relation oid")?,
            namespace: reader.string("namespace")?,
            name: reader.string("relation name")?,
            replica_identity: reader.u8("replica identity")?,
            columns: Columns::read(reader)?,
        })
    }
}

/// The columns of a [`RelationMessage`]: an iterator, checked when the message was parsed.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    reader: Reader<'a>,
    remaining: u16,
}

impl<'a> Columns<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Columns<'a>, ParseError> {
        let remaining = reader.column_count()?;
        let columns = reader.consumed(|reader| {
            (0..remaining).try_for_each(|_| ColumnMessage::read(reader).map(drop))
        })?;
        Ok(Columns {
            reader: Reader::new(columns),
            remaining,
        })
    }
}

impl PartialEq for Columns<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.remaining == other.remaining && self.reader.rest() == other.reader.rest()
    }
}

impl Eq for Columns<'_> {}

impl<'a> Iterator for Columns<'a> {
    type Item = ColumnMessage<'a>;

    fn next(&mut self) -> Option<ColumnMessage<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        ColumnMessage::read(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining.into(), Some(self.remaining.into()))
    }
}

impl ExactSizeIterator for Columns<'_> {}

/// A description of a column, borrowed from its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnMessage<'a> {
    /// 1 if the column is part of the replica identity, otherwise 0.
    pub flags: u8,
    /// Column name.
    pub name: &'a str,
    /// Oid of the type; see [`crate::oid`].
    pub type_oid: u32,
    /// What the type was declared with (`pg_attribute.atttypmod`), or -1.
    pub type_modifier: i32,
}

impl<'a> ColumnMessage<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<ColumnMessage<'a>, ParseError> {
        Ok(ColumnMessage {
            flags: reader.u8("column flags")?,
            name: reader.string("column name")?,
            type_oid: reader.u32("column type oid")?,
            type_modifier: reader.i32("column type modifier")?,
        })
    }
}

/// A table as a receiver keeps it, to read the tuples that name its oid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Oid of the table.
    pub oid: u32,
    /// Schema; empty for `pg_catalog`.
    pub namespace: String,
    /// Table name.
    pub name: String,
    /// `d` default, `n` nothing, `f` full, `i` index.
    pub replica_identity: u8,
    /// The published columns, in the order in which tuples hold them.
    pub columns: Vec<Column>,
}

/// One column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// 1 if the column is part of the replica identity, otherwise 0.
    pub flags: u8,
    /// Column name.
    pub name: String,
    /// Oid of the type; see [`crate::oid`].
    pub type_oid: u32,
    /// What the type was declared with, or -1.
    pub type_modifier: i32,
}

impl Relation {
    /// Where tuples hold the column of that name, compared exactly.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

impl From<RelationMessage<'_>> for Relation {
    fn from(message: RelationMessage<'_>) -> Relation {
        Relation {
            oid: message.oid,
            namespace: message.namespace.to_owned(),
            name: message.name.to_owned(),
            replica_identity: message.replica_identity,
            columns: message.columns.map(Column::from).collect(),
        }
    }
}

impl From<ColumnMessage<'_>> for Column {
    fn from(message: ColumnMessage<'_>) -> Column {
        Column {
            flags: message.flags,
            name: message.name.to_owned(),
            type_oid: message.type_oid,
            type_modifier: message.type_modifier,
        }
    }
}

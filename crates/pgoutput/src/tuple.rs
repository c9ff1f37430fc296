//! The values of a row.

use crate::{
    error::{ParseError, Problem},
    reader::Reader,
};

/// One column's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// A value stored out of line that the statement left alone. Only an UPDATE has it; the tuple
    /// of an INSERT is complete, as `an_insert_carries_its_out_of_line_value` proves.
    UnchangedToast,
    /// The type's output text, in the encoding of the connection (`client_encoding`) and the
    /// formats of its session (`datestyle`, `timezone`, `intervalstyle`, `bytea_output`).
    Text(&'a [u8]),
    /// The type's binary send format, when option `binary` is on. Types that have none still
    /// arrive as text, column by column: `binary_streams_fall_back_to_text_per_column`.
    Binary(&'a [u8]),
}

pub(crate) const NULL: u8 = b'n';
pub(crate) const UNCHANGED_TOAST: u8 = b'u';
pub(crate) const TEXT: u8 = b't';
pub(crate) const BINARY: u8 = b'b';

impl<'a> Value<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Value<'a>, ParseError> {
        let before = *reader;
        match reader.u8("column kind")? {
            NULL => Ok(Value::Null),
            UNCHANGED_TOAST => Ok(Value::UnchangedToast),
            TEXT => Value::sized(reader).map(Value::Text),
            BINARY => Value::sized(reader).map(Value::Binary),
            kind => Err(before.error("column kind", Problem::UnknownTag(kind))),
        }
    }

    fn sized(reader: &mut Reader<'a>) -> Result<&'a [u8], ParseError> {
        let length = reader.length("column length")?;
        reader.bytes("column value", length)
    }
}

/// The values of one row, in the order of its relation's columns.
///
/// A tuple was checked as a whole when it was parsed, so reading from it cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple<'a> {
    columns: &'a [u8],
    count: u16,
}

impl<'a> Tuple<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Tuple<'a>, ParseError> {
        let count = reader.column_count()?;
        let columns =
            reader.consumed(|reader| (0..count).try_for_each(|_| Value::read(reader).map(drop)))?;
        Ok(Tuple { columns, count })
    }

    /// The number of columns; a table has at most 1600.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether the row has no column.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The values, in order.
    pub fn columns(&self) -> Values<'a> {
        Values {
            reader: Reader::new(self.columns),
            remaining: self.count,
        }
    }

    /// The value of the column at `index`, counted from 0. It walks over those before: to fetch
    /// several, use [`Tuple::read_into`] or [`Tuple::columns`].
    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        self.columns().nth(index)
    }

    /// Fills `values` with the first columns, in one pass and without allocation, and returns how
    /// many it filled: the smaller of the two lengths. The rest of `values` is left alone.
    pub fn read_into(&self, values: &mut [Value<'a>]) -> usize {
        let mut filled = 0;
        for (slot, value) in values.iter_mut().zip(self.columns()) {
            *slot = value;
            filled += 1;
        }
        filled
    }
}

impl<'a> IntoIterator for Tuple<'a> {
    type Item = Value<'a>;
    type IntoIter = Values<'a>;

    fn into_iter(self) -> Values<'a> {
        self.columns()
    }
}

/// The values of a [`Tuple`], in order.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    reader: Reader<'a>,
    remaining: u16,
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        Value::read(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining.into(), Some(self.remaining.into()))
    }
}

impl ExactSizeIterator for Values<'_> {}

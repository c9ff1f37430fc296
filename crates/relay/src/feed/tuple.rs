//! Rows that a query gives, in the form in which the stream has them.

use pgoutput::{Message, Tuple, Value, encode};
use tokio_postgres::SimpleQueryRow;

use crate::failure::Failure;

/// The insertion of a row, its columns from index `from` on.
pub(super) fn insertion(row: &SimpleQueryRow, from: usize) -> Vec<u8> {
    let values: Vec<Value<'_>> = (from..row.len())
        .map(|index| match row.get(index) {
            Some(text) => Value::Text(text.as_bytes()),
            None => Value::Null,
        })
        .collect();
    let mut insert = Vec::new();
    encode::insert(&mut insert, 0, &values);
    insert
}

/// The columns of an insertion.
pub(super) fn tuple(insertion: &[u8]) -> Result<Tuple<'_>, Failure> {
    let message =
        pgoutput::parse(insertion).map_err(|e| Failure::caused("internal", "reading a row", &e))?;
    match message {
        Message::Insert(insert) => Ok(insert.tuple),
        _ => Err(Failure::new("internal", "a row is no insertion")),
    }
}

/// Shows the columns of a row from index `from` on.
pub fn with_tuple<T>(
    row: &SimpleQueryRow,
    from: usize,
    show: impl FnOnce(Tuple<'_>) -> T,
) -> Result<T, Failure> {
    let insertion = insertion(row, from);
    Ok(show(tuple(&insertion)?))
}

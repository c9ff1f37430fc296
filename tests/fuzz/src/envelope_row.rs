//! Rows of any table become records or errors. A record says what its row says; an error leaves the
//! batch as it was.

mod case;
mod expected;
mod record;

use arbitrary::{Arbitrary, Unstructured};
use envelope::{MapError, Origin, RecordBatch, RowMapper, TableId, TableSpec};
use pgoutput::{CommitLsn, Lsn, Message, PgTimestamp, Position, Tuple, parse};

pub use case::Case;

/// What turns a row into a record.
pub type Mapper = fn(&mut RowMapper, Tuple<'_>, Origin, &mut RecordBatch) -> Result<(), MapError>;

/// Checks [`RowMapper`].
pub fn check(bytes: &[u8]) {
    if let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(bytes)) {
        check_with(&case, RowMapper::map);
    }
}

/// Checks `map`.
pub fn check_with(case: &Case<'_>, map: Mapper) {
    let relation = case.relation();
    let Some(spec) = case.spec() else { return };
    let policy = case.policy();
    let mut mapper = match RowMapper::compile(&spec, TableId(3), &policy, &relation) {
        Ok(mapper) => mapper,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let message = case.insert();
    let tuple = tuple(&message);
    let mut batch = earlier_record();
    let before = batch.clone();
    match map(&mut mapper, tuple, case.origin(), &mut batch) {
        Ok(()) => {
            assert_eq!(batch.len(), before.len() + 1);
            let last = batch.iter().next_back();
            record::check(case, &spec, &last.expect("a record was added"));
            check_again(&mut mapper, case, tuple, &mut batch, map);
            batch.truncate(before.len());
        }
        Err(error) => assert!(!error.code().is_empty() && !error.to_string().is_empty()),
    }
    assert_eq!(
        batch.bytes(),
        before.bytes(),
        "something stays in the batch"
    );
    assert!(batch.iter().eq(before.iter()), "an earlier record changed");
}

/// The same row gives the same record.
fn check_again(
    mapper: &mut RowMapper,
    case: &Case<'_>,
    tuple: Tuple<'_>,
    batch: &mut RecordBatch,
    map: Mapper,
) {
    let verdict = map(mapper, tuple, case.origin(), batch);
    assert_eq!(verdict, Ok(()), "the verdict changed");
    let mut newest = batch.iter().rev();
    assert_eq!(newest.next(), newest.next(), "the record changed");
}

/// A batch with a record in it, which must stay as it is.
fn earlier_record() -> RecordBatch {
    let spec = TableSpec::default();
    let case = Case::ordinary();
    let policy = case.policy();
    let mut batch = RecordBatch::new();
    let mapper = RowMapper::compile(&spec, TableId(1), &policy, &case.relation());
    let mapped = mapper.expect("an ordinary table compiles").map(
        tuple(&case.insert()),
        case.origin(),
        &mut batch,
    );
    assert_eq!(mapped, Ok(()), "an ordinary row is mapped");
    batch
}

fn tuple(insert: &[u8]) -> Tuple<'_> {
    match parse(insert) {
        Ok(Message::Insert(insert)) => insert.tuple,
        other => panic!("an insert was encoded and {other:?} decoded"),
    }
}

/// A position and a commit time.
pub(crate) fn origin(lsn: u64, index: u64, commit_micros: i64) -> Origin {
    Origin {
        position: Position {
            commit_lsn: CommitLsn(Lsn(lsn)),
            index,
        },
        commit_time: PgTimestamp(commit_micros),
        xid: 7,
    }
}

//! Whatever is encoded is read back, and whatever is not a message is refused without a panic.
#![allow(clippy::unwrap_used)]

mod captured;

use captured::all_streams;
use pgoutput::{
    Begin, Column, Commit, CommitLsn, EndLsn, LogicalMessage, Lsn, Message, Origin, PgTimestamp,
    Position, Problem, Relation, TruncateOptions, TypeMessage, Value,
    encode::{self, OldRow},
    parse,
};
use proptest::{collection::vec, prelude::*};

/// A value that owns its bytes, as proptest needs.
#[derive(Clone, Debug)]
enum Owned {
    Null,
    UnchangedToast,
    Text(Vec<u8>),
    Binary(Vec<u8>),
}

fn borrowed(row: &[Owned]) -> Vec<Value<'_>> {
    row.iter()
        .map(|value| match value {
            Owned::Null => Value::Null,
            Owned::UnchangedToast => Value::UnchangedToast,
            Owned::Text(bytes) => Value::Text(bytes),
            Owned::Binary(bytes) => Value::Binary(bytes),
        })
        .collect()
}

fn row() -> impl Strategy<Value = Vec<Owned>> {
    let value = prop_oneof![
        Just(Owned::Null),
        Just(Owned::UnchangedToast),
        vec(any::<u8>(), 0..20).prop_map(Owned::Text),
        vec(any::<u8>(), 0..20).prop_map(Owned::Binary),
    ];
    vec(value, 0..40)
}

/// Any string without a zero byte.
fn name() -> &'static str {
    "[^\\x00]{0,20}"
}

fn lsn() -> impl Strategy<Value = Lsn> {
    any::<u64>().prop_map(Lsn)
}

fn time() -> impl Strategy<Value = PgTimestamp> {
    any::<i64>().prop_map(PgTimestamp)
}

fn column() -> impl Strategy<Value = Column> {
    (any::<u8>(), name(), any::<u32>(), any::<i32>()).prop_map(
        |(flags, name, type_oid, type_modifier)| Column {
            flags,
            name,
            type_oid,
            type_modifier,
        },
    )
}

fn relation() -> impl Strategy<Value = Relation> {
    (
        any::<u32>(),
        name(),
        name(),
        any::<u8>(),
        vec(column(), 0..40),
    )
        .prop_map(
            |(oid, namespace, name, replica_identity, columns)| Relation {
                oid,
                namespace,
                name,
                replica_identity,
                columns,
            },
        )
}

/// An encoded message of any kind.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let captured: Vec<Vec<u8>> = all_streams()
        .flatten()
        .map(|captured| captured.bytes)
        .collect();
    let inserted = (any::<u32>(), row())
        .prop_map(|(oid, row)| encoded(|out| encode::insert(out, oid, &borrowed(&row))));
    let described = relation().prop_map(|relation| encoded(|out| encode::relation(out, &relation)));
    prop_oneof![proptest::sample::select(captured), inserted, described]
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

proptest! {
    #[test]
    fn begin_is_read_back(final_lsn in lsn(), commit_time in time(), xid: u32) {
        let begin = Begin { final_lsn: CommitLsn(final_lsn), commit_time, xid };
        let bytes = encoded(|out| encode::begin(out, &begin));
        prop_assert_eq!(parse(&bytes), Ok(Message::Begin(begin)));
    }

    #[test]
    fn commit_is_read_back(flags: u8, start in lsn(), end in lsn(), commit_time in time()) {
        let (commit_lsn, end_lsn) = (CommitLsn(start), EndLsn(end));
        let commit = Commit { flags, commit_lsn, end_lsn, commit_time };
        let bytes = encoded(|out| encode::commit(out, &commit));
        prop_assert_eq!(parse(&bytes), Ok(Message::Commit(commit)));
    }

    #[test]
    fn origin_is_read_back(commit_lsn in lsn(), name in name()) {
        let origin = Origin { commit_lsn, name: &name };
        let bytes = encoded(|out| encode::origin(out, &origin));
        prop_assert_eq!(parse(&bytes), Ok(Message::Origin(origin)));
    }

    #[test]
    fn type_is_read_back(oid: u32, namespace in name(), name in name()) {
        let message = TypeMessage { oid, namespace: &namespace, name: &name };
        let bytes = encoded(|out| encode::type_message(out, &message));
        prop_assert_eq!(parse(&bytes), Ok(Message::Type(message)));
    }

    #[test]
    fn relation_is_read_back(relation in relation()) {
        let bytes = encoded(|out| encode::relation(out, &relation));
        let Ok(Message::Relation(message)) = parse(&bytes) else {
            return Err(TestCaseError::fail("not a relation"));
        };
        prop_assert_eq!(message.columns.len(), relation.columns.len());
        let read = Relation::from(message);
        prop_assert_eq!(&read, &relation);
        for column in &relation.columns {
            let index = read.column_index(&column.name).unwrap();
            prop_assert_eq!(&read.columns[index].name, &column.name);
        }
    }

    #[test]
    fn insert_is_read_back(oid: u32, row in row(), small in 0usize..50) {
        let row = borrowed(&row);
        let bytes = encoded(|out| encode::insert(out, oid, &row));
        let Ok(Message::Insert(insert)) = parse(&bytes) else {
            return Err(TestCaseError::fail("not an insert"));
        };
        let tuple = insert.tuple;
        prop_assert_eq!(insert.relation_oid, oid);
        prop_assert_eq!((tuple.len(), tuple.is_empty()), (row.len(), row.is_empty()));
        prop_assert_eq!(tuple.columns().len(), row.len());
        prop_assert_eq!(&tuple.columns().collect::<Vec<_>>(), &row);
        for index in 0..=row.len() {
            prop_assert_eq!(tuple.get(index), row.get(index).copied());
        }

        let untouched = Value::Text(b"untouched");
        let mut values = vec![untouched; small];
        let filled = tuple.read_into(&mut values);
        prop_assert_eq!(filled, row.len().min(small));
        prop_assert_eq!(&values[..filled], &row[..filled]);
        prop_assert!(values[filled..].iter().all(|&value| value == untouched));
    }

    #[test]
    fn update_is_read_back(oid: u32, old in row(), new in row()) {
        let (old, new) = (borrowed(&old), borrowed(&new));
        for old in [None, Some(OldRow::Key(&old)), Some(OldRow::Full(&old))] {
            let bytes = encoded(|out| encode::update(out, oid, old, &new));
            prop_assert_eq!(parse(&bytes), Ok(Message::Update { relation_oid: oid }));
        }
    }

    #[test]
    fn delete_is_read_back(oid: u32, old in row()) {
        let old = borrowed(&old);
        for old in [OldRow::Key(&old), OldRow::Full(&old)] {
            let bytes = encoded(|out| encode::delete(out, oid, old));
            prop_assert_eq!(parse(&bytes), Ok(Message::Delete { relation_oid: oid }));
        }
    }

    #[test]
    fn truncate_is_read_back(
        cascade: bool,
        restart_identity: bool,
        oids in vec(any::<u32>(), 0..10),
    ) {
        let options = TruncateOptions { cascade, restart_identity };
        let bytes = encoded(|out| encode::truncate(out, options, &oids));
        let Ok(Message::Truncate(truncate)) = parse(&bytes) else {
            return Err(TestCaseError::fail("not a truncate"));
        };
        prop_assert_eq!(truncate.options, options);
        prop_assert_eq!(truncate.relation_oids.len(), oids.len());
        prop_assert_eq!(truncate.relation_oids.collect::<Vec<_>>(), oids);
    }

    #[test]
    fn logical_message_is_read_back(
        transactional: bool,
        lsn in lsn(),
        prefix in name(),
        content in vec(any::<u8>(), 0..40),
    ) {
        let message =
            LogicalMessage { transactional, lsn, prefix: &prefix, content: &content };
        let bytes = encoded(|out| encode::logical(out, &message));
        prop_assert_eq!(parse(&bytes), Ok(Message::Logical(message)));
    }

    #[test]
    fn text_forms_are_read_back(lsn in lsn(), index: u64) {
        prop_assert_eq!(lsn.to_string().parse(), Ok(lsn));
        let position = Position { commit_lsn: CommitLsn(lsn), index };
        prop_assert_eq!(position.to_string().parse(), Ok(position));
    }

    #[test]
    fn a_longer_message_is_refused(message in message(), more in vec(any::<u8>(), 1..5)) {
        let longer = [message.as_slice(), &more].concat();
        let error = parse(&longer).unwrap_err();
        prop_assert_eq!(error.problem, Problem::TrailingBytes(more.len()));
        prop_assert_eq!(error.offset, message.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_do_not_panic(
        tag in proptest::sample::select(b"BCORYIUDTMSEcA".to_vec()),
        mut bytes in vec(any::<u8>(), 0..200),
    ) {
        read_all(&bytes);
        bytes.insert(0, tag);
        read_all(&bytes);
    }

    #[test]
    fn damaged_messages_do_not_panic(
        mut message in message(),
        damage in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (index, byte) in damage {
            *index.get_mut(&mut message) = byte;
        }
        read_all(&message);
    }
}

/// Reads a message and everything in it. A message that was accepted is as long as it claims.
fn read_all(bytes: &[u8]) {
    match parse(bytes) {
        Ok(Message::Insert(insert)) => {
            assert_eq!(insert.tuple.columns().count(), insert.tuple.len());
        }
        Ok(Message::Relation(message)) => {
            let count = message.columns.len();
            assert_eq!(Relation::from(message).columns.len(), count);
        }
        Ok(Message::Truncate(truncate)) => {
            let count = truncate.relation_oids.len();
            assert_eq!(truncate.relation_oids.count(), count);
        }
        Ok(_) => {}
        Err(error) => {
            assert!(error.offset <= bytes.len());
            assert!(!error.to_string().is_empty());
        }
    }
}

#[test]
fn a_message_cut_at_any_byte_is_refused() {
    for captured in all_streams().flatten() {
        for length in 0..captured.bytes.len() {
            let error = parse(&captured.bytes[..length]).unwrap_err();
            let ends_early = matches!(
                error.problem,
                Problem::Truncated { .. } | Problem::Unterminated
            );
            assert!(ends_early, "{error}");
            assert!(error.offset <= length);
        }
    }
}

#[test]
#[should_panic(expected = "holds no zero byte")]
fn a_string_with_a_zero_byte_cannot_be_encoded() {
    encode::origin(
        &mut Vec::new(),
        &Origin {
            commit_lsn: Lsn::INVALID,
            name: "a\0b",
        },
    );
}

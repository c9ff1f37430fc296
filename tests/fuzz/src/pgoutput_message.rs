//! Messages of pgoutput: any bytes are read or refused, without allocation, and what is read
//! encodes to the very bytes that it was read from.

use allocation_counter::measure;
use pgoutput::{Message, ParseError, Relation, encode, parse};

/// What reads a message.
pub type Decoder = for<'a> fn(&'a [u8]) -> Result<Message<'a>, ParseError>;

/// Checks [`pgoutput::parse`].
pub fn check(bytes: &[u8]) {
    check_with(bytes, parse);
}

/// Checks `decode`.
pub fn check_with(bytes: &[u8], decode: Decoder) {
    let mut decoded = None;
    let allocated = measure(|| decoded = Some(decode(bytes)));
    assert_eq!(allocated.bytes_total, 0, "decoding allocates");
    match decoded {
        Some(Ok(message)) => check_message(bytes, message, decode),
        Some(Err(error)) => check_error(bytes, &error),
        None => unreachable!("the measured closure ran"),
    }
}

fn check_message(bytes: &[u8], message: Message<'_>, decode: Decoder) {
    let mut encoded = None;
    let allocated = measure(|| encoded = encoding(message));
    // A described column takes ten bytes at least and 40 in memory; a value two, and 24.
    let bound = 64 * bytes.len() as u64 + 1024;
    assert!(
        allocated.bytes_max <= bound,
        "{} bytes of memory for a message of {}",
        allocated.bytes_max,
        bytes.len()
    );
    if let Some(encoded) = encoded {
        assert_eq!(encoded, bytes, "{message:?} encodes to other bytes");
        assert_eq!(decode(&encoded), Ok(message));
    }
}

/// The message encoded again; `None` for those whose values are not kept.
fn encoding(message: Message<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match message {
        Message::Begin(begin) => encode::begin(&mut out, &begin),
        Message::Commit(commit) => encode::commit(&mut out, &commit),
        Message::Origin(origin) => encode::origin(&mut out, &origin),
        Message::Relation(relation) => {
            let relation = Relation::from(relation);
            for column in &relation.columns {
                assert!(relation.column_index(&column.name).is_some());
            }
            encode::relation(&mut out, &relation);
        }
        Message::Type(message) => encode::type_message(&mut out, &message),
        Message::Insert(insert) => {
            let row: Vec<_> = insert.tuple.columns().collect();
            assert_eq!(row.len(), insert.tuple.len());
            assert_eq!(insert.tuple.get(0), row.first().copied());
            assert_eq!(insert.tuple.get(row.len()), None);
            encode::insert(&mut out, insert.relation_oid, &row);
        }
        Message::Truncate(truncate) => {
            let oids: Vec<_> = truncate.relation_oids.collect();
            assert_eq!(oids.len(), truncate.relation_oids.len());
            encode::truncate(&mut out, truncate.options, &oids);
        }
        Message::Logical(message) => encode::logical(&mut out, &message),
        Message::Update { .. } | Message::Delete { .. } => return None,
    }
    Some(out)
}

fn check_error(bytes: &[u8], error: &ParseError) {
    assert!(error.offset <= bytes.len(), "{error:?}");
    assert!(!error.field.is_empty() && !error.to_string().is_empty());
}

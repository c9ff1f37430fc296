//! The path of an insert does not allocate.
#![allow(clippy::unwrap_used)]

use allocation_counter::measure;
use pgoutput::{Message, Relation, Value, encode, parse};

fn insert() -> Vec<u8> {
    let row = [
        Value::Text(b"1"),
        Value::Null,
        Value::Binary(&[7; 300]),
        Value::UnchangedToast,
    ];
    let mut message = Vec::new();
    encode::insert(&mut message, 16384, &row);
    message
}

#[test]
fn reading_an_insert_does_not_allocate() {
    let message = insert();
    let counted = measure(|| {
        let Ok(Message::Insert(insert)) = parse(&message) else {
            panic!("an insert")
        };
        let mut values = [Value::Null; 8];
        assert_eq!(insert.tuple.read_into(&mut values), 4);
        assert_eq!(insert.tuple.columns().last(), Some(Value::UnchangedToast));
        assert_eq!(insert.tuple.get(0), Some(values[0]));
        assert_eq!(values[2], Value::Binary(&[7; 300]));
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn refusing_a_damaged_insert_does_not_allocate() {
    let mut message = insert();
    message.pop();
    let counted = measure(|| assert!(parse(&message).is_err()));
    assert_eq!(counted.count_total, 0);
}

#[test]
fn the_counter_sees_allocations() {
    let relation = Relation {
        oid: 1,
        namespace: "public".to_owned(),
        name: "outbox".to_owned(),
        replica_identity: b'd',
        columns: Vec::new(),
    };
    let mut message = Vec::new();
    encode::relation(&mut message, &relation);
    let counted = measure(|| {
        let Ok(Message::Relation(borrowed)) = parse(&message) else {
            panic!("a relation")
        };
        assert_eq!(Relation::from(borrowed), relation);
    });
    assert_eq!(counted.count_total, 2);
}

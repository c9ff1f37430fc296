//! The outbox table through its alterations.

use pgoutput::{Column, Relation, oid};

use crate::Dice;

/// The outbox.
pub const OUTBOX_OID: u32 = 16_385;
/// The control table.
pub const CONTROL_OID: u32 = 16_390;
/// A table of the publication that the relay is not told of.
pub const UNMAPPED_OID: u32 = 16_400;

const REQUIRED: [(&str, u32); 4] = [
    ("id", oid::UUID),
    ("event_type", oid::TEXT),
    ("transfer_id", oid::TEXT),
    ("payload", oid::JSONB),
];
const OPTIONAL: [(&str, u32); 5] = [
    ("seq", oid::INT8),
    ("headers", oid::JSONB),
    ("created_at", oid::TIMESTAMPTZ),
    ("state", oid::TEXT),
    ("note", oid::TEXT),
];

/// Every shape that the outbox ever had; rows and the stream refer to them by index.
#[derive(Debug)]
pub struct Schema {
    shapes: Vec<Relation>,
    current: usize,
}

impl Schema {
    /// A fresh table.
    pub fn new() -> Self {
        let columns = REQUIRED.iter().chain(&OPTIONAL[..4]).copied();
        Self {
            shapes: vec![outbox(columns.map(column).collect())],
            current: 0,
        }
    }

    /// The shape that rows written now have.
    pub fn current(&self) -> usize {
        self.current
    }

    /// A shape.
    pub fn shape(&self, index: usize) -> &Relation {
        &self.shapes[index]
    }

    /// ALTER TABLE: a column comes or goes, or the columns change places.
    pub fn alter(&mut self, dice: &mut Dice) {
        let mut columns = self.shapes[self.current].columns.clone();
        if dice.one_in(2) {
            dice.shuffle(&mut columns);
        } else if let Some((name, type_oid)) = dice.pick(&OPTIONAL) {
            let count = columns.len();
            columns.retain(|column| column.name != name);
            if columns.len() == count {
                columns.insert(dice.index(0..count + 1), column((name, type_oid)));
            }
        }
        self.current = self.shapes.len();
        self.shapes.push(outbox(columns));
    }

    /// The alteration was rolled back.
    pub fn revert(&mut self, to: usize) {
        self.current = to;
    }
}

/// The control table.
pub fn control() -> Relation {
    let columns = [
        ("request_id", oid::UUID),
        ("slot", oid::TEXT),
        ("requested_by", oid::TEXT),
        ("command", oid::JSONB),
    ];
    Relation {
        oid: CONTROL_OID,
        namespace: delivery::CONTROL_SCHEMA.to_owned(),
        name: delivery::CONTROL_TABLE.to_owned(),
        ..outbox(columns.map(column).to_vec())
    }
}

/// The table that is not mapped.
pub fn unmapped() -> Relation {
    Relation {
        oid: UNMAPPED_OID,
        name: "audit".to_owned(),
        ..outbox(vec![column(("entry", oid::TEXT))])
    }
}

fn outbox(columns: Vec<Column>) -> Relation {
    Relation {
        oid: OUTBOX_OID,
        namespace: "public".to_owned(),
        name: "outbox".to_owned(),
        replica_identity: b'd',
        columns,
    }
}

fn column((name, type_oid): (&str, u32)) -> Column {
    Column {
        flags: u8::from(name == "id"),
        name: name.to_owned(),
        type_oid,
        type_modifier: -1,
    }
}

//! A table with one row, as the stream would bring it.

use envelope::{
    CompileError, Format, MapError, OptionalColumn, Origin, Record, RecordBatch, RowMapper,
    TableId, TableSpec, TopicPolicy, rfc3339,
};
use pgoutput::{Column, CommitLsn, Lsn, Message, Position, Relation, Tuple, Value, encode, oid};

/// A value as it stands in the stream.
#[derive(Clone, Debug)]
pub enum Cell {
    Null,
    UnchangedToast,
    Text(Vec<u8>),
    Binary(Vec<u8>),
}

impl Cell {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::UnchangedToast => Value::UnchangedToast,
            Self::Text(bytes) => Value::Text(bytes),
            Self::Binary(bytes) => Value::Binary(bytes),
        }
    }
}

pub fn text(text: impl AsRef<[u8]>) -> Cell {
    Cell::Text(text.as_ref().to_vec())
}

pub fn binary(bytes: impl AsRef<[u8]>) -> Cell {
    Cell::Binary(bytes.as_ref().to_vec())
}

pub const ID: &str = "59a42efd-b015-44a9-9dde-cb36d9002425";
pub const ID_BYTES: [u8; 16] = 0x59a4_2efd_b015_44a9_9dde_cb36_d900_2425_u128.to_be_bytes();

#[derive(Clone, Debug)]
pub struct Case {
    pub spec: TableSpec,
    pub policy: TopicPolicy,
    pub columns: Vec<(&'static str, u32, Cell)>,
}

impl Case {
    /// The default table with a row of all defaults.
    pub fn outbox() -> Self {
        Self {
            spec: TableSpec::default_outbox(),
            policy: TopicPolicy::default(),
            columns: vec![
                ("id", oid::UUID, text(ID)),
                ("seq", oid::INT8, text("42")),
                ("event_type", oid::TEXT, text("transfers.completed")),
                ("transfer_id", oid::TEXT, text("tr-7")),
                (
                    "payload",
                    oid::JSONB,
                    text(r#"{"amount": 12345678901234567890.10}"#),
                ),
                ("headers", oid::JSONB, Cell::Null),
                ("state", oid::TEXT, text("PENDING")),
                (
                    "created_at",
                    oid::TIMESTAMPTZ,
                    text("2026-11-23 10:51:18.5+00"),
                ),
                ("attempts", oid::INT4, text("0")),
                ("last_error", oid::TEXT, Cell::Null),
            ],
        }
    }

    /// The columns that Debezium's outbox event router expects by default, routed as it does.
    pub fn debezium() -> Self {
        let mut spec = TableSpec {
            table: "outboxevent".into(),
            topic: "outbox.event.{aggregatetype}".parse().unwrap(),
            key: Some("aggregateid".into()),
            format: Format::Payload,
            ..TableSpec::default_outbox()
        };
        spec.columns.event_type = "type".into();
        Self {
            spec,
            policy: TopicPolicy {
                allow: vec!["outbox.event.*".parse().unwrap()],
                ..TopicPolicy::default()
            },
            columns: vec![
                ("id", oid::UUID, text(ID)),
                ("aggregatetype", oid::VARCHAR, text("User")),
                ("aggregateid", oid::VARCHAR, text("10711fa5")),
                ("type", oid::VARCHAR, text("UserCreated")),
                ("payload", oid::JSONB, text(r#"{"email": "gh@mefi.in"}"#)),
            ],
        }
    }

    /// Another value of a column.
    pub fn set(mut self, name: &str, cell: Cell) -> Self {
        self.columns
            .iter_mut()
            .find(|(column, ..)| *column == name)
            .unwrap()
            .2 = cell;
        self
    }

    /// Another type and value of a column, which is added if there is none.
    pub fn column(mut self, name: &'static str, type_oid: u32, cell: Cell) -> Self {
        match self.columns.iter_mut().find(|(column, ..)| *column == name) {
            Some(column) => *column = (name, type_oid, cell),
            None => self.columns.push((name, type_oid, cell)),
        }
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.columns.retain(|(column, ..)| *column != name);
        self
    }

    pub fn spec(mut self, change: impl FnOnce(&mut TableSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    pub fn allow_all(mut self) -> Self {
        self.policy.allow = vec!["*".parse().unwrap()];
        self
    }

    pub fn relation(&self) -> Relation {
        let columns = self.columns.iter().map(|(name, type_oid, _)| Column {
            flags: 0,
            name: (*name).into(),
            type_oid: *type_oid,
            type_modifier: -1,
        });
        Relation {
            oid: 16_385,
            namespace: self.spec.schema.clone(),
            name: self.spec.table.clone(),
            replica_identity: b'd',
            columns: columns.collect(),
        }
    }

    pub fn compile(&self) -> Result<RowMapper, CompileError> {
        RowMapper::compile(&self.spec, TableId(3), &self.policy, &self.relation())
    }

    pub fn map_into(&self, batch: &mut RecordBatch) -> Result<(), MapError> {
        let message = self.message();
        self.compile()
            .unwrap()
            .map(tuple(&message), origin(), batch)
    }

    pub fn map(&self) -> Result<RecordBatch, MapError> {
        let mut batch = RecordBatch::new();
        self.map_into(&mut batch)?;
        Ok(batch)
    }

    /// The insert message of the row.
    pub fn message(&self) -> Vec<u8> {
        let row: Vec<_> = self
            .columns
            .iter()
            .map(|(_, _, cell)| cell.value())
            .collect();
        let mut message = Vec::new();
        encode::insert(&mut message, 16_385, &row);
        message
    }

    #[track_caller]
    pub fn check<T: PartialEq + std::fmt::Debug>(
        &self,
        part: impl FnOnce(Record<'_>) -> T,
        expected: T,
    ) {
        let batch = self.map().unwrap();
        assert_eq!(part(batch.get(0).unwrap()), expected);
    }

    #[track_caller]
    pub fn check_error(&self, code: &str, message: &str) {
        let error = self.map().unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, message));
    }
}

pub fn tuple(message: &[u8]) -> Tuple<'_> {
    match pgoutput::parse(message).unwrap() {
        Message::Insert(insert) => insert.tuple,
        other => panic!("not an insert: {other:?}"),
    }
}

pub fn origin() -> Origin {
    Origin {
        position: Position {
            commit_lsn: CommitLsn(Lsn(0x16B_3748)),
            index: 3,
        },
        commit_time: rfc3339::parse_postgres("2026-11-23 10:51:19.123456+00").unwrap(),
        xid: 7,
    }
}

pub fn mapped(name: &str) -> OptionalColumn {
    OptionalColumn::Mapped(name.into())
}

/// UTF-8 of bytes that may be absent.
pub fn utf8(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| std::str::from_utf8(bytes).unwrap().to_owned())
}

//! What holds for every row.

use std::fmt;

use envelope::{Format, RecordBatch};
use pgoutput::oid;
use proptest::prelude::*;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::fixture::{Case, Cell, binary, origin, text, tuple};

/// Members of an object, in order, as they stand.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

fn members(json: &[u8]) -> Vec<(String, &RawValue)> {
    serde_json::Deserializer::from_slice(json)
        .deserialize_map(Members)
        .unwrap()
}

fn string(json: &RawValue) -> Option<String> {
    serde_json::from_str(json.get()).unwrap()
}

fn json() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        "[1-9][0-9]{0,30}\\.[0-9]{1,30}",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just("null".to_owned()),
    ];
    let space = "[ \n]{0,2}";
    scalar.prop_recursive(4, 30, 4, move |inner| {
        let member = (any::<String>(), space, inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(member, 0..4).prop_map(|members| {
                let members = members.iter().map(|(name, space, value)| {
                    format!("{}:{space}{value}", serde_json::to_string(name).unwrap())
                });
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

fn any_cell() -> impl Strategy<Value = Cell> {
    let bytes = prop::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        Just(Cell::Null),
        Just(Cell::UnchangedToast),
        bytes.clone().prop_map(Cell::Text),
        bytes.prop_map(Cell::Binary),
        "[-+:.{}\"a-c0-9 \\\\]{0,20}".prop_map(text),
    ]
}

fn any_case() -> impl Strategy<Value = Case> {
    let types = prop::sample::select(vec![
        oid::UUID,
        oid::TEXT,
        oid::INT8,
        oid::BOOL,
        oid::JSON,
        oid::JSONB,
        oid::BYTEA,
        oid::TIMESTAMPTZ,
        oid::NUMERIC,
        90_001,
    ]);
    let column = (0..10_usize, types, any_cell());
    let changes = prop::collection::vec(column, 0..4);
    (changes, any::<bool>()).prop_map(|(changes, is_bare)| {
        let mut case = Case::outbox().allow_all();
        for (index, type_oid, cell) in changes {
            let name = case.columns[index].0;
            case.columns[index] = (name, type_oid, cell);
        }
        let format = if is_bare {
            Format::Payload
        } else {
            Format::Envelope
        };
        case.spec(|spec| {
            spec.format = format;
            spec.key = Some("state".into());
        })
    })
}

proptest! {
    #[test]
    fn an_envelope_is_json_of_five_members_with_the_payload_untouched(
        id in ".{1,20}",
        event_type in ".{1,20}",
        transfer_id in prop::option::of(".{0,20}"),
        payload in json(),
        type_oid in prop::sample::select(vec![oid::JSON, oid::JSONB, oid::TEXT]),
    ) {
        let case = Case::outbox()
            .column("id", oid::TEXT, text(&id))
            .set("event_type", binary(&event_type))
            .set("transfer_id", transfer_id.as_ref().map_or(Cell::Null, text))
            .column("payload", type_oid, text(&payload))
            .spec(|spec| spec.topic = "transfers.all".parse().unwrap());
        let batch = case.map().unwrap();
        let record = batch.get(0).unwrap();
        let members = members(record.value.unwrap());
        let names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
        prop_assert_eq!(names, ["eventId", "type", "occurredAt", "transferId", "payload"]);
        prop_assert_eq!(string(members[0].1), Some(id.clone()));
        prop_assert_eq!(string(members[1].1), Some(event_type.clone()));
        prop_assert_eq!(string(members[3].1), transfer_id.clone());
        prop_assert_eq!(members[4].1.get(), &payload);
        prop_assert_eq!(record.event_id, id);
        prop_assert_eq!(record.event_type, event_type);
        prop_assert_eq!(record.transfer_id, transfer_id.as_deref());
    }

    #[test]
    fn no_row_panics_and_refused_ones_leave_nothing(case in any_case()) {
        let Ok(mut mapper) = case.compile() else { return Ok(()) };
        let mut batch = RecordBatch::new();
        Case::outbox().map_into(&mut batch).unwrap();
        let before = batch.clone();
        let message = case.message();
        match mapper.map(tuple(&message), origin(), &mut batch) {
            Ok(()) => {
                let record = batch.get(1).unwrap();
                prop_assert!(!record.event_id.is_empty() && !record.event_type.is_empty());
                prop_assert_eq!(record.headers().next().unwrap().0, "eventId");
                batch.truncate(1);
            }
            Err(error) => prop_assert!(!error.code().is_empty()),
        }
        prop_assert!(batch.iter().eq(before.iter()));
        prop_assert_eq!(batch.bytes(), before.bytes());
    }

    #[test]
    fn errors_never_hold_the_payload(payload in "secret[a-z\"{}:]{0,20}") {
        for type_oid in [oid::TEXT, oid::JSON] {
            let case = Case::outbox()
                .column("payload", oid::TEXT, text(&payload))
                .column("headers", type_oid, text(&payload));
            let error = case.map().unwrap_err();
            let shown = format!("{error} {error:?}");
            prop_assert!(!shown.contains("secret"));
        }
    }
}

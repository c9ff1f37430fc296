//! What real servers send. `golden/README.md` says how the streams were captured.
#![allow(clippy::unwrap_used)]

mod captured;
mod transcript;

use captured::{BINARY, TEXT, all_streams, rows, stream};
use pgoutput::{
    Begin, Commit, Lsn, Message, Relation, TypeMessage, Value,
    encode::{self, OldRow},
    oid,
};
use transcript::transcript;

#[test]
fn text_streams_read_as_recorded() {
    for fixture in TEXT {
        insta::assert_snapshot!("text", transcript(&stream(fixture)));
    }
}

#[test]
fn binary_streams_read_as_recorded() {
    for fixture in BINARY {
        insta::assert_snapshot!("binary", transcript(&stream(fixture)));
    }
}

#[test]
fn encoding_restores_the_captured_bytes() {
    for captured in all_streams().flatten() {
        let mut bytes = Vec::new();
        match captured.message() {
            Message::Begin(message) => encode::begin(&mut bytes, &message),
            Message::Commit(message) => encode::commit(&mut bytes, &message),
            Message::Origin(message) => encode::origin(&mut bytes, &message),
            Message::Relation(message) => encode::relation(&mut bytes, &message.into()),
            Message::Type(message) => encode::type_message(&mut bytes, &message),
            Message::Insert(message) => {
                let row: Vec<Value<'_>> = message.tuple.columns().collect();
                encode::insert(&mut bytes, message.relation_oid, &row);
            }
            // Their values are not kept; see `encoded_updates_and_deletes_are_as_captured`.
            Message::Update { .. } | Message::Delete { .. } => continue,
            Message::Truncate(message) => {
                let oids: Vec<u32> = message.relation_oids.collect();
                encode::truncate(&mut bytes, message.options, &oids);
            }
            Message::Logical(message) => encode::logical(&mut bytes, &message),
        }
        assert_eq!(bytes, captured.bytes);
    }
}

#[test]
fn encoded_updates_and_deletes_are_as_captured() {
    let text = |text: &'static str| Value::Text(text.as_bytes());
    for fixture in TEXT {
        let stream = stream(fixture);
        let changes: Vec<&[u8]> = stream
            .iter()
            .filter(|captured| {
                matches!(
                    captured.message(),
                    Message::Update { .. } | Message::Delete { .. }
                )
            })
            .map(|captured| captured.bytes.as_slice())
            .collect();
        let oid_of = |table| rows(&stream, table).first().unwrap().relation.oid;
        let (outbox, audit_log) = (oid_of("outbox"), oid_of("audit_log"));

        let mut encoded: [Vec<u8>; 5] = Default::default();
        let paid = [text("1"), text("order.paid"), Value::UnchangedToast];
        encode::update(&mut encoded[0], outbox, None, &paid);
        let key = [text("8"), Value::Null, Value::Null];
        let new = [text("9"), text("f"), text("r")];
        encode::update(&mut encoded[1], outbox, Some(OldRow::Key(&key)), &new);
        let key = [text("9"), Value::Null, Value::Null];
        encode::delete(&mut encoded[2], outbox, OldRow::Key(&key));
        let (x, y) = ([text("1"), text("x")], [text("1"), text("y")]);
        encode::update(&mut encoded[3], audit_log, Some(OldRow::Full(&x)), &y);
        encode::delete(&mut encoded[4], audit_log, OldRow::Full(&y));
        assert_eq!(changes, encoded);
    }
}

#[test]
fn transactions_are_whole_and_in_commit_order() {
    for stream in all_streams() {
        let mut open: Option<Begin> = None;
        let mut last: Option<Commit> = None;
        let mut count = 0;
        for captured in &stream {
            match captured.message() {
                Message::Begin(begin) => {
                    assert!(open.is_none());
                    if let Some(last) = last {
                        assert!(begin.final_lsn > last.commit_lsn);
                        assert!(begin.final_lsn.0 >= last.end_lsn.0);
                    }
                    open = Some(begin);
                }
                Message::Commit(commit) => {
                    let begin = open.take().unwrap();
                    assert_eq!(commit.commit_lsn, begin.final_lsn);
                    assert_eq!(commit.commit_time, begin.commit_time);
                    assert!(commit.end_lsn.0 > commit.commit_lsn.0);
                    last = Some(commit);
                    count += 1;
                }
                Message::Logical(message) => assert_eq!(message.transactional, open.is_some()),
                _ => assert!(open.is_some()),
            }
        }
        assert!(open.is_none());
        assert!(count > 15);
    }
}

#[test]
fn a_replicated_transaction_has_the_commit_time_of_its_origin() {
    for stream in all_streams() {
        let origin = stream
            .iter()
            .position(|captured| matches!(captured.message(), Message::Origin(_)))
            .unwrap();
        let Message::Begin(begin) = stream[origin - 1].message() else {
            panic!("a begin")
        };
        // 2024-01-02 03:04:05 UTC, as given to pg_replication_origin_xact_setup.
        assert_eq!(begin.commit_time.unix_micros(), 1_704_164_645_000_000);
    }
}

#[test]
fn rolled_back_changes_never_arrive() {
    let aborted = b"never seen";
    for captured in all_streams().flatten() {
        assert!(
            !captured
                .bytes
                .windows(aborted.len())
                .any(|bytes| bytes == aborted)
        );
    }
}

#[test]
fn non_transactional_messages_arrive_outside_transactions() {
    for stream in all_streams() {
        let mut inside = false;
        let mut seen = Vec::new();
        for captured in &stream {
            match captured.message() {
                Message::Begin(_) => inside = true,
                Message::Commit(_) => inside = false,
                Message::Logical(message) => {
                    let content = String::from_utf8_lossy(message.content).into_owned();
                    seen.push((
                        message.transactional,
                        inside,
                        message.prefix.to_owned(),
                        content,
                    ));
                }
                _ => {}
            }
        }
        let expected = [
            (false, false, "heartbeat", ""),
            (true, true, "outbox", "inside"),
            (true, true, "", "\0\u{FFFD}"),
            (false, false, "outbox", "of an aborted transaction"),
        ];
        let seen: Vec<_> = seen
            .iter()
            .map(|(t, inside, p, c)| (*t, *inside, p.as_str(), c.as_str()))
            .collect();
        assert_eq!(seen, expected);
    }
}

#[test]
fn the_lsn_of_a_logical_message_can_equal_a_commit_lsn() {
    for stream in all_streams() {
        let messages = stream
            .iter()
            .filter_map(|captured| match captured.message() {
                Message::Logical(message) => Some(message.lsn),
                _ => None,
            });
        let commits: Vec<Lsn> = stream
            .iter()
            .filter_map(|captured| match captured.message() {
                Message::Commit(commit) => Some(commit.commit_lsn.0),
                _ => None,
            })
            .collect();
        assert_eq!(messages.filter(|lsn| commits.contains(lsn)).count(), 1);
    }
}

#[test]
fn rows_of_one_statement_can_share_an_lsn() {
    for stream in all_streams() {
        let rows = rows(&stream, "outbox");
        let copied: Vec<Lsn> = rows
            .iter()
            .filter(|row| matches!(row.values[1].as_deref(), Some(b"d" | b"e" | b"f")))
            .map(|row| row.lsn)
            .collect();
        assert_eq!(copied.len(), 3);
        assert!(copied.iter().all(|&lsn| lsn == copied[0]), "{copied:?}");
    }
}

#[test]
fn an_insert_carries_its_out_of_line_value() {
    for stream in all_streams() {
        let payload = rows(&stream, "outbox")[0].text("payload");
        assert_eq!(payload, Some("0123456789abcdef".repeat(132)));
    }
}

#[test]
fn an_altered_table_is_described_before_its_next_change() {
    for stream in all_streams() {
        let outbox = rows(&stream, "outbox")[0].relation.oid;
        let mut descriptions = Vec::new();
        let mut columns = 0;
        for captured in &stream {
            match captured.message() {
                Message::Relation(message) if message.oid == outbox => {
                    columns = message.columns.len();
                    let names: Vec<&str> = message.columns.map(|column| column.name).collect();
                    descriptions.push(format!("{}({})", message.name, names.join(",")));
                }
                Message::Insert(insert) if insert.relation_oid == outbox => {
                    assert_eq!(insert.tuple.len(), columns);
                }
                _ => {}
            }
        }
        descriptions.dedup();
        let expected = [
            "outbox(id,event_type,payload)",
            "outbox(id,event_type,payload,headers)",
            "outbox(id,kind,payload,headers)",
            "outbox(id,kind,headers)",
            "outbox_archive(id,kind,headers)",
        ];
        assert_eq!(descriptions, expected);
    }
}

#[test]
fn a_prepared_transaction_arrives_where_it_was_committed() {
    for stream in all_streams() {
        let rows = rows(&stream, "audit_log");
        let [.., first, second] = rows.as_slice() else {
            panic!("rows are missing")
        };
        assert_eq!(first.text("note").as_deref(), Some("committed first"));
        assert_eq!(second.text("note").as_deref(), Some("prepared first"));
        assert!(first.commit_lsn < second.commit_lsn);
        // Its change is older in the WAL: LSNs of changes do not ascend through the stream.
        assert!(first.lsn > second.lsn);
    }
}

#[test]
fn a_domain_is_described_as_its_base_type() {
    for stream in all_streams() {
        let all_types = &rows(&stream, "all_types")[0].relation;
        let domain = column_type(all_types, "c_domain");
        let described = stream.iter().find_map(|captured| match captured.message() {
            Message::Type(message) if message.oid == domain => Some(message),
            _ => None,
        });
        assert_eq!(
            described,
            Some(TypeMessage {
                oid: domain,
                namespace: "",
                name: "text"
            })
        );
    }
}

#[test]
fn binary_streams_fall_back_to_text_per_column() {
    for fixture in BINARY {
        let stream = stream(fixture);
        let row = stream.iter().find_map(|captured| match captured.message() {
            Message::Insert(insert) => Some(insert.tuple),
            _ => None,
        });
        let relation = &rows(&stream, "all_types")[0].relation;
        let value = |name| row.unwrap().get(relation.column_index(name).unwrap());
        assert_eq!(value("c_int4"), Some(Value::Binary(&[0, 0, 0, 1])));
        assert_eq!(
            value("c_aclitem"),
            Some(Value::Text(b"postgres=r/postgres"))
        );
    }
}

#[test]
fn built_in_types_have_the_listed_oids() {
    let expected = [
        ("c_int4", oid::INT4),
        ("c_bool", oid::BOOL),
        ("c_bytea", oid::BYTEA),
        ("c_int2", oid::INT2),
        ("c_int8", oid::INT8),
        ("c_float4", oid::FLOAT4),
        ("c_float8", oid::FLOAT8),
        ("c_numeric", oid::NUMERIC),
        ("c_text", oid::TEXT),
        ("c_varchar", oid::VARCHAR),
        ("c_bpchar", oid::BPCHAR),
        ("c_name", oid::NAME),
        ("c_uuid", oid::UUID),
        ("c_json", oid::JSON),
        ("c_jsonb", oid::JSONB),
        ("c_date", oid::DATE),
        ("c_time", oid::TIME),
        ("c_timetz", oid::TIMETZ),
        ("c_timestamp", oid::TIMESTAMP),
        ("c_timestamptz", oid::TIMESTAMPTZ),
        ("c_interval", oid::INTERVAL),
        ("c_inet", oid::INET),
        ("c_oid", oid::OID),
        ("c_char", oid::CHAR),
        ("c_xml", oid::XML),
        ("c_int4_array", oid::INT4_ARRAY),
        ("c_text_array", oid::TEXT_ARRAY),
    ];
    for stream in all_streams() {
        let all_types = &rows(&stream, "all_types")[0].relation;
        for (column, oid) in expected {
            assert_eq!(column_type(all_types, column), oid, "{column}");
        }
    }
}

fn column_type(relation: &Relation, column: &str) -> u32 {
    relation.columns[relation.column_index(column).unwrap()].type_oid
}

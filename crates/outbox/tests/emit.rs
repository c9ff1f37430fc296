//! Events on a real server, through each driver.
#![allow(missing_docs, clippy::unwrap_used)]

use std::error::Error;

use deadpool_postgres::{Manager, Pool};
use outbox::encryption::{Key, KeyAlgorithm, Keyring, Scope, Subject, open};
use outbox::{EmitError, EncryptionPolicy, Event, EventType, MIGRATIONS, Outbox, Refusal, Uuid};
use serde_json::{json, value::RawValue};
use testbed::Postgres;
use tokio::test;
use tokio_postgres::{Client, NoTls, error::SqlState};

const DATABASE: &str = "postgres";

fn server() -> Postgres {
    let postgres = Postgres::builder().start().unwrap();
    for migration in MIGRATIONS {
        postgres.sql(DATABASE, migration.sql).unwrap();
    }
    postgres
}

async fn client(postgres: &Postgres) -> Client {
    let url = postgres.superuser_url(DATABASE);
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The rows in the order of their insertion, columns separated by `|`.
fn rows(postgres: &Postgres, columns: &str) -> Vec<String> {
    let sql = format!("SELECT concat_ws('|', {columns}) FROM outbox ORDER BY seq");
    let rows = postgres.sql(DATABASE, &sql).unwrap();
    rows.into_iter().flatten().flatten().collect()
}

#[derive(serde::Serialize)]
struct Settled {
    amount_cents: i64,
}

impl EventType for Settled {
    const TYPE: &'static str = "transfers.settled";
}

fn settled(id: &str) -> Event {
    Event::of(&Settled { amount_cents: 1250 }).transfer_id(id)
}

const WRITTEN: &str = "id, event_type, transfer_id, payload, headers, state";

fn written(id: Uuid) -> String {
    format!(r#"{id}|transfers.settled|t-1|{{"amount_cents": 1250}}|{{"tenant": "acme"}}|PENDING"#)
}

#[test]
async fn an_event_is_there_once_its_transaction_is_committed() {
    let postgres = server();
    let mut client = client(&postgres).await;

    let tx = client.transaction().await.unwrap();
    outbox::emit(&tx, settled("t-0")).await.unwrap();
    tx.rollback().await.unwrap();

    let tx = client.transaction().await.unwrap();
    let event = settled("t-1").header("tenant", "acme");
    let id = outbox::emit(&tx, event).await.unwrap();
    assert!(rows(&postgres, WRITTEN).is_empty());
    tx.commit().await.unwrap();
    assert_eq!(rows(&postgres, WRITTEN), [written(id)]);
    assert_eq!(id.get_version_num(), 7);
}

#[test]
async fn pooled_transactions_and_savepoints_do_as_well() {
    let postgres = server();
    let config = postgres.superuser_url(DATABASE).parse().unwrap();
    let pool = Pool::builder(Manager::new(config, NoTls)).build().unwrap();
    let mut client = pool.get().await.unwrap();
    let mut tx = client.transaction().await.unwrap();
    let inner = tx.transaction().await.unwrap();
    outbox::emit(&inner, settled("t-0")).await.unwrap();
    inner.rollback().await.unwrap();
    let event = settled("t-1").header("tenant", "acme");
    let id = outbox::emit(&tx, event).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(rows(&postgres, WRITTEN), [written(id)]);
}

#[test]
async fn so_do_transactions_of_sqlx() {
    let postgres = server();
    let url = postgres.superuser_url(DATABASE);
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    outbox::emit(&mut tx, settled("t-0")).await.unwrap();
    tx.rollback().await.unwrap();

    let mut tx = pool.begin().await.unwrap();
    let event = settled("t-1").header("tenant", "acme");
    let id = outbox::emit(&mut tx, event).await.unwrap();
    outbox::emit(&mut tx, Event::new("a").payload(&()))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let found = rows(&postgres, WRITTEN);
    assert_eq!(found[0], written(id));
    assert!(found[1].ends_with("|a|null|PENDING"), "{found:?}");
}

#[test]
async fn many_events_keep_their_order() {
    let postgres = server();
    let mut client = client(&postgres).await;
    let tx = client.transaction().await.unwrap();
    let events = (0..5000).map(|n| Event::new("a").payload(&n));
    let ids = outbox::emit_all(&tx, events).await.unwrap();
    assert!(outbox::emit_all(&tx, []).await.unwrap().is_empty());
    tx.commit().await.unwrap();
    let expected: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| format!("{id}|{n}"))
        .collect();
    assert_eq!(rows(&postgres, "id, payload"), expected);
}

#[test]
async fn a_refused_event_leaves_the_transaction_usable() {
    let postgres = server();
    let mut client = client(&postgres).await;
    let tx = client.transaction().await.unwrap();
    let events = [settled("t-1"), Event::new("no topic").payload(&1)];
    let error = outbox::emit_all(&tx, events).await.unwrap_err();
    assert!(matches!(
        &error,
        EmitError::Refused { event_type, refusal: Refusal::Topic { .. }, .. } if event_type == "no topic"
    ));
    let error = outbox::emit(&tx, Event::new("a")).await.unwrap_err();
    assert!(matches!(
        error,
        EmitError::Refused {
            refusal: Refusal::NoPayload,
            ..
        }
    ));
    let not_json = std::collections::HashMap::from([((1, 2), 3)]);
    let error = outbox::emit(&tx, Event::new("a").payload(&not_json))
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        EmitError::Refused {
            refusal: Refusal::Payload(_),
            ..
        }
    ));
    outbox::emit(&tx, settled("t-2")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(rows(&postgres, "transfer_id"), ["t-2"]);
}

#[test]
async fn errors_of_the_database_are_those_of_the_driver() {
    let postgres = server();
    let mut client = client(&postgres).await;
    let tx = client.transaction().await.unwrap();
    let id = outbox::emit(&tx, settled("t-1")).await.unwrap();
    let error = outbox::emit(&tx, settled("t-1").with_id(id))
        .await
        .unwrap_err();
    let source = error
        .source()
        .unwrap()
        .downcast_ref::<tokio_postgres::Error>();
    assert_eq!(source.unwrap().code(), Some(&SqlState::UNIQUE_VIOLATION));
}

#[test]
async fn rows_that_the_table_drops_are_noticed() {
    let postgres = server();
    let trigger = "CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
                   CREATE TRIGGER drop_it BEFORE INSERT ON outbox FOR EACH ROW WHEN (NEW.event_type = 'b') \
                   EXECUTE FUNCTION drop_it()";
    postgres.sql(DATABASE, trigger).unwrap();
    let mut client = client(&postgres).await;
    let tx = client.transaction().await.unwrap();
    let events = ["a", "b"].map(|name| Event::new(name).payload(&1));
    let error = outbox::emit_all(&tx, events).await.unwrap_err();
    assert!(matches!(
        error,
        EmitError::RowsMissing {
            given: 2,
            written: 1
        }
    ));
}

#[test]
async fn another_table_may_have_any_name() {
    let postgres = server();
    let table = r#"CREATE SCHEMA "Pay""ments"; CREATE TABLE "Pay""ments"."out box" (LIKE outbox INCLUDING ALL)"#;
    postgres.sql(DATABASE, table).unwrap();
    let mut client = client(&postgres).await;
    let tx = client.transaction().await.unwrap();
    let outbox = Outbox::new().table("Pay\"ments", "out box");
    outbox.emit(&tx, settled("t-1")).await.unwrap();
    tx.commit().await.unwrap();
    let count = postgres
        .sql(DATABASE, r#"SELECT count(*) FROM "Pay""ments"."out box""#)
        .unwrap();
    assert_eq!(count[0][0].as_deref(), Some("1"));
    assert!(rows(&postgres, "id").is_empty());
}

#[test]
async fn a_service_needs_no_right_but_to_insert() {
    let postgres = server();
    let role = format!(
        "CREATE ROLE service LOGIN PASSWORD 'outboxd'; {}",
        include_str!("../../../sql/service_role.sql")
    );
    postgres.sql(DATABASE, &role).unwrap();
    let url = postgres.url("service", DATABASE);
    let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let tx = client.transaction().await.unwrap();
    outbox::emit(&tx, settled("t-1")).await.unwrap();
    let call = "SELECT outbox_emit('a', NULL, '{}')";
    tx.query_one(call, &[]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(rows(&postgres, "event_type"), ["transfers.settled", "a"]);
}

#[test]
async fn what_a_policy_names_is_written_encrypted_and_opened_with_the_row() {
    let postgres = server();
    let keys = Keyring::new(Key::generate("k", KeyAlgorithm::A256Kw).unwrap());
    let policy = EncryptionPolicy::new()
        .payload("compliance.*")
        .and_then(|policy| policy.fields("transfers.*", ["payload.name", "payload.note?"]))
        .unwrap();
    let outbox = Outbox::new().encryption(policy, keys.clone());
    let mut client = client(&postgres).await;
    let tx = client.transaction().await.unwrap();
    let payload = json!({"amount": 12, "name": "MARKER"});
    let events = ["compliance.checked", "transfers.settled", "ledger.posted"]
        .map(|name| Event::new(name).payload(&payload));
    outbox.emit_all(&tx, events).await.unwrap();
    let error = outbox.emit(&tx, Event::new("transfers.settled").payload(&json!({})));
    let error = error.await.unwrap_err();
    assert!(matches!(
        error,
        EmitError::Refused {
            refusal: Refusal::Encryption(_),
            ..
        }
    ));
    tx.commit().await.unwrap();

    let sql = "SELECT id, event_type, payload, headers->>'content-encryption', \
               headers->>'encrypted-fields' FROM outbox ORDER BY seq";
    let rows = postgres.sql(DATABASE, sql).unwrap();
    let plain = rows[2][2].as_deref().unwrap();
    assert_eq!(
        (plain, &rows[2][3]),
        (r#"{"name": "MARKER", "amount": 12}"#, &None)
    );
    for row in &rows[..2] {
        let text = |column: usize| row[column].as_deref().unwrap();
        assert!(!text(2).contains("MARKER"), "{}", text(2));
        let headers = |column: usize| row[column].as_deref().map(str::as_bytes);
        let scope = Scope::from_headers(headers(3), headers(4))
            .unwrap()
            .unwrap();
        let subject = Subject {
            event_id: text(0),
            event_type: text(1),
        };
        let payload = RawValue::from_string(text(2).into()).unwrap();
        let opened = open(&keys, subject, &scope, &payload).await.unwrap();
        let opened: serde_json::Value = serde_json::from_str(opened.get()).unwrap();
        assert_eq!(opened, json!({"amount": 12, "name": "MARKER"}));
    }
}

#[test]
async fn other_languages_call_a_function() {
    let postgres = server();
    let call = "SELECT outbox_emit(type => 'a', transfer_id => 't', payload => '{\"n\": 1}', \
                headers => '{\"h\": \"v\"}') FROM generate_series(1, 100)";
    let ids = postgres.sql(DATABASE, call).unwrap();
    let ids: Vec<Uuid> = ids
        .iter()
        .map(|row| row[0].as_ref().unwrap().parse().unwrap())
        .collect();
    let distinct: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 100);
    for id in &ids {
        assert_eq!(
            (id.get_version_num(), id.get_variant()),
            (7, uuid::Variant::RFC4122)
        );
        let made = id.get_timestamp().unwrap().to_unix().0;
        let now = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap()
            .as_secs();
        assert!(made.abs_diff(now) < 60, "{id}");
    }
    let columns = "event_type, transfer_id, payload, headers";
    assert_eq!(rows(&postgres, columns)[0], r#"a|t|{"n": 1}|{"h": "v"}"#);

    let own = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let call = format!("SELECT outbox_emit('a', NULL, '{{}}', event_id => '{own}')");
    let given = postgres.sql(DATABASE, &call).unwrap();
    assert_eq!(given[0][0].as_deref(), Some(own));

    for (arguments, expected) in [
        ("'', NULL, '{}'", "type is empty"),
        ("NULL, NULL, '{}'", "type is empty"),
        ("'a', NULL, NULL", "payload is NULL"),
        ("'a', NULL, '{}', '[]'", "headers is not a JSON object"),
    ] {
        let call = format!("SELECT outbox_emit({arguments})");
        let error = postgres.sql(DATABASE, &call).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
async fn the_function_is_not_led_astray_by_what_the_caller_can_name() {
    let postgres = server();
    let trap = "CREATE SCHEMA trap; CREATE TABLE trap.outbox (LIKE public.outbox); \
        CREATE FUNCTION trap.gen_random_uuid() RETURNS uuid LANGUAGE plpgsql \
        AS $$BEGIN RAISE 'trapped'; END$$;";
    postgres.sql(DATABASE, trap).unwrap();
    let call = "SET search_path = trap, pg_catalog; SELECT public.outbox_emit('a', NULL, '{}')";
    postgres.sql(DATABASE, call).unwrap();
    assert_eq!(rows(&postgres, "event_type"), ["a"]);
}

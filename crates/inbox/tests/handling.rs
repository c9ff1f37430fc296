//! Handlers, inbox and dead letters on a real database, without Kafka.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, Ordering};

use deadpool_postgres::{Manager, Pool};
use inbox::testing::{Delivered, Deliveries, TestEvent, event};
use inbox::{Event, Failure, Handler, Handlers, Transaction, Unknown};
use serde_json::json;
use testbed::Postgres;
use tokio_postgres::NoTls;

const ENTRIES: &str = "CREATE TABLE entries (transfer text, amount bigint CHECK (amount < 1000), \
    UNIQUE (transfer) DEFERRABLE INITIALLY DEFERRED)";

struct Bank {
    server: Postgres,
    pool: Pool,
}

impl Bank {
    fn start() -> Self {
        let server = Postgres::builder().start().unwrap();
        server
            .sql("postgres", include_str!("../../../sql/inbox.sql"))
            .unwrap();
        server.sql("postgres", ENTRIES).unwrap();
        let config = server.superuser_url("postgres").parse().unwrap();
        let pool = Pool::builder(Manager::new(config, NoTls)).build().unwrap();
        Self { server, pool }
    }

    fn deliveries(&self, handlers: Handlers) -> Deliveries {
        Deliveries::new("ledger", self.pool.clone(), handlers)
    }

    /// The first column of the first row.
    fn value(&self, sql: &str) -> String {
        self.server.sql("postgres", sql).unwrap()[0][0]
            .clone()
            .unwrap()
    }

    fn entries(&self) -> String {
        self.value("SELECT coalesce(string_agg(transfer, ',' ORDER BY transfer), '') FROM entries")
    }

    fn claims(&self) -> String {
        self.value("SELECT count(*) FROM inbox WHERE consumer = 'ledger'")
    }
}

#[derive(serde::Deserialize)]
struct Settled {
    amount: i64,
}

async fn post(event: Event<Settled>, tx: &Transaction<'_>) -> Result<(), Failure> {
    let sql = "INSERT INTO entries VALUES ($1, $2)";
    tx.execute(sql, &[&event.transfer_id(), &event.payload.amount])
        .await?;
    match event.payload.amount {
        0 => Err(Failure::permanent("nothing was transferred")),
        -1 => panic!("below nothing"),
        _ => Ok(()),
    }
}

async fn post_all(events: &[Event<Settled>], tx: &Transaction<'_>) -> Result<(), Failure> {
    let transfers: Vec<_> = events.iter().map(Event::transfer_id).collect();
    let amounts: Vec<_> = events.iter().map(|event| event.payload.amount).collect();
    let sql = "INSERT INTO entries SELECT * FROM unnest($1::text[], $2::bigint[])";
    tx.execute(sql, &[&transfers, &amounts]).await?;
    Ok(())
}

fn settled(transfer: &str, amount: i64) -> TestEvent {
    event("settled")
        .transfer_id(transfer)
        .payload(json!({ "amount": amount }))
}

/// The class and the attempts of a dead letter.
#[track_caller]
fn dead(delivered: &Delivered, class: &str, attempts: u32) {
    match delivered {
        Delivered::DeadLetter {
            class: found,
            attempts: tried,
            ..
        } => {
            assert_eq!((*found, *tried), (class, attempts), "{delivered:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_event_is_handled_once_and_one_bad_one_is_put_alone() {
    let bank = Bank::start();
    for (prefix, handlers) in [
        ("a", Handlers::new().on("settled", post)),
        ("b", Handlers::new().on_batch("settled", post_all)),
    ] {
        let deliveries = bank.deliveries(handlers);
        let of = |number: u32, amount| settled(&format!("{prefix}{number}"), amount);
        let events = [of(1, 1), of(2, 1), of(3, 5_000), of(4, 1), of(5, 1)];
        let repeated: Vec<_> = events.iter().chain([&events[0]]).cloned().collect();
        let delivered = deliveries.deliver_all(&repeated).await;
        let handled = Delivered::Handled;
        assert_eq!(
            [&delivered[0], &delivered[1], &delivered[3], &delivered[4]],
            [&handled; 4]
        );
        assert_eq!(delivered[5], Delivered::Duplicate);
        dead(&delivered[2], "attempts-exhausted", 5);
        assert_eq!(deliveries.deliver(&events[1]).await, Delivered::Duplicate);
        // Its repair is no duplicate: a dead letter is not claimed.
        dead(
            &deliveries.deliver(&events[2]).await,
            "attempts-exhausted",
            5,
        );
    }
    assert_eq!(bank.entries(), "a1,a2,a4,a5,b1,b2,b4,b5");
    assert_eq!(bank.claims(), "8");
}

#[tokio::test]
async fn a_failure_at_commit_is_found_by_halving() {
    let bank = Bank::start();
    let deliveries = bank.deliveries(Handlers::new().on("settled", post));
    // The same transfer in two events: the constraint is looked at when the transaction commits.
    let mut events: Vec<_> = (0..8).map(|n| settled(&format!("t{n}"), 1)).collect();
    events.push(settled("t3", 2));
    let delivered = deliveries.deliver_all(&events).await;
    assert!(
        delivered[..8].iter().all(|one| *one == Delivered::Handled),
        "{delivered:?}"
    );
    dead(&delivered[8], "attempts-exhausted", 5);
    assert_eq!(bank.claims(), "8");
}

#[tokio::test]
async fn what_can_not_be_handled_is_a_dead_letter_with_its_reason() {
    let bank = Bank::start();
    let deliveries = bank.deliveries(Handlers::new().on("settled", post));
    dead(&deliveries.deliver(&settled("t1", 0)).await, "permanent", 1);
    dead(
        &deliveries.deliver(&settled("t2", -1)).await,
        "attempts-exhausted",
        5,
    );
    dead(
        &deliveries.deliver(&event("settled").value("no json")).await,
        "unreadable",
        1,
    );
    dead(
        &deliveries.deliver(&event("moved")).await,
        "unknown-type",
        1,
    );
    let odd = event("settled").payload(json!({ "amount": "secret" }));
    let odd = deliveries.deliver(&odd).await;
    dead(&odd, "payload", 1);
    assert!(
        !format!("{odd:?}").contains("secret"),
        "a reason shows no payload"
    );
    let sealed = settled("t3", 1).header("content-encryption", "jwe");
    dead(&deliveries.deliver(&sealed).await, "encryption", 1);
    assert_eq!(
        (bank.entries(), bank.claims()),
        (String::new(), "0".to_owned())
    );
}

#[tokio::test]
async fn encrypted_payloads_are_opened_where_there_are_keys() {
    let bank = Bank::start();
    let open = |_: &inbox::Envelope| Ok(inbox::Payload::Json(r#"{"amount":7}"#.into()));
    let handlers = Handlers::new().on("settled", post).open(open);
    let sealed = settled("t1", 1)
        .payload(json!("a.b.c"))
        .header("content-encryption", "jwe");
    assert_eq!(
        bank.deliveries(handlers).deliver(&sealed).await,
        Delivered::Handled
    );
    assert_eq!(bank.value("SELECT amount FROM entries"), "7");
}

#[tokio::test]
async fn unknown_types_are_skipped_or_stop_the_consumer_if_that_is_said() {
    let bank = Bank::start();
    let handlers = Handlers::new().on("settled", post);
    let skips = bank.deliveries(handlers.clone().unknown(Unknown::Skip));
    assert_eq!(skips.deliver(&event("moved")).await, Delivered::Skipped);
    let stops = bank.deliveries(handlers.unknown(Unknown::Stop));
    let delivered = stops.deliver(&event("moved")).await;
    let is_clear =
        matches!(&delivered, Delivered::Undecided(error) if error.contains("of type moved"));
    assert!(is_clear, "{delivered:?}");
}

/// Fails so often.
struct Flaky(AtomicU32);

impl Handler<Settled> for Flaky {
    async fn handle(&self, event: Event<Settled>, tx: &Transaction<'_>) -> Result<(), Failure> {
        post(event, tx).await?;
        match self.0.fetch_sub(1, Ordering::SeqCst) {
            0 => Ok(()),
            _ => Err(Failure::transient("not yet")),
        }
    }
}

#[tokio::test]
async fn an_event_waits_for_the_one_before_it_of_the_same_key() {
    let bank = Bank::start();
    bank.server
        .sql(
            "postgres",
            "ALTER TABLE entries DROP CONSTRAINT entries_transfer_key, \
        ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY",
        )
        .unwrap();
    let handlers = Handlers::new()
        .on("flaky", Flaky(AtomicU32::new(3)))
        .on("settled", post);
    let flaky = event("flaky")
        .transfer_id("t")
        .payload(json!({ "amount": 1 }));
    let delivered = bank
        .deliveries(handlers)
        .deliver_all(&[flaky, settled("t", 2)])
        .await;
    assert_eq!(delivered, [Delivered::Handled, Delivered::Handled]);
    let order = "SELECT string_agg(amount::text, ',' ORDER BY number) FROM entries";
    assert_eq!(bank.value(order), "1,2");
}

#[tokio::test]
async fn inbox_claim_tells_duplicates_in_any_language() {
    let bank = Bank::start();
    let claim = |id: &str| bank.value(&format!("SELECT inbox_claim('kotlin', '{id}')"));
    assert_eq!([claim("e-1"), claim("e-1"), claim("e-2")], ["t", "f", "t"]);
}

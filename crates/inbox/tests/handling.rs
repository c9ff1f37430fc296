//! Handlers, inbox and dead letters on a real database, without Kafka.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, Ordering};

use deadpool_postgres::{Manager, Pool};
use inbox::encryption::{
    ContentKey, Key, KeyAlgorithm, KeyFuture, KeyStore, KeyStoreError, Keyring, Scope, WrappedKey,
};
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
        let pool = pool_of(&server);
        Self { server, pool }
    }

    fn new_pool(&self) -> Pool {
        pool_of(&self.server)
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

fn pool_of(server: &Postgres) -> Pool {
    let config = server.superuser_url("postgres").parse().unwrap();
    Pool::builder(Manager::new(config, NoTls)).build().unwrap()
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

fn keyring(kid: &str) -> Keyring {
    Keyring::new(Key::generate(kid, KeyAlgorithm::A256Kw).unwrap())
}

/// Of transfer `t1`, amount 7.
async fn sealed(keys: &Keyring) -> TestEvent {
    let sealed = settled("t1", 7).sealed(keys, &Scope::Payload).await;
    sealed.unwrap()
}

#[tokio::test]
async fn encrypted_payloads_are_opened_where_there_are_keys() {
    let bank = Bank::start();
    let keys = keyring("k1");
    let sealed = sealed(&keys).await;
    let field = Scope::fields(vec!["payload.amount".parse().unwrap()]).unwrap();
    let in_part = settled("t2", 8).sealed(&keys, &field).await.unwrap();

    // Another key of the same name, and none of that name.
    for (other, says) in [("k1", "another one of that name"), ("k2", "does not have")] {
        let handlers = Handlers::new().on("settled", post).keys(keyring(other));
        let delivered = bank.deliveries(handlers).deliver(&sealed).await;
        dead(&delivered, "encryption", 1);
        assert!(format!("{delivered:?}").contains(says), "{delivered:?}");
    }
    let handlers = Handlers::new().on("settled", post).keys(keys);
    let events = [sealed.clone(), in_part];
    let delivered = bank.deliveries(handlers).deliver_all(&events).await;
    assert_eq!(delivered, [Delivered::Handled, Delivered::Handled]);
    assert_eq!(bank.value("SELECT sum(amount) FROM entries"), "15");
    // What was handled is a duplicate, also for a consumer that has lost its keys.
    let keyless = bank.deliveries(Handlers::new().on("settled", post));
    assert_eq!(keyless.deliver(&sealed).await, Delivered::Duplicate);
}

/// Is away for so many calls, and then is there.
struct Kms {
    keys: Keyring,
    away: AtomicU32,
}

impl KeyStore for Kms {
    fn content_key(&self) -> KeyFuture<'_, (ContentKey, WrappedKey)> {
        self.keys.content_key()
    }

    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey) -> KeyFuture<'a, Option<ContentKey>> {
        let left = self.away.load(Ordering::SeqCst);
        self.away.store(left.saturating_sub(1), Ordering::SeqCst);
        match left {
            0 => self.keys.unwrap(wrapped),
            1 => Box::pin(async { panic!("a bug of the key store") }),
            _ => Box::pin(async { Err(KeyStoreError::passing("no route to host")) }),
        }
    }
}

#[tokio::test]
async fn nothing_is_a_dead_letter_because_a_key_store_is_away() {
    let bank = Bank::start();
    let keys = keyring("k1");
    let sealed = sealed(&keys).await;
    let away = AtomicU32::new(20);
    let handlers = Handlers::new().on("settled", post).keys(Kms { keys, away });
    // The second is behind the first: they have the same key.
    let events = [settled("t0", 1), sealed, settled("t2", 1)];
    let delivered = bank.deliveries(handlers).deliver_all(&events).await;
    assert!(
        delivered.iter().all(|one| *one == Delivered::Handled),
        "{delivered:?}"
    );
}

async fn goes_on(event: Event<Settled>, tx: &Transaction<'_>) -> Result<(), Failure> {
    match event.payload.amount {
        1 => drop(tx.execute("INSERT INTO nowhere VALUES (1)", &[]).await),
        _ => post(event, tx).await?,
    }
    Ok(())
}

#[tokio::test]
async fn a_handler_can_not_hide_that_its_transaction_has_failed() {
    let bank = Bank::start();
    let deliveries = bank.deliveries(Handlers::new().on("settled", goes_on));
    let events = [settled("t1", 5), settled("t2", 1), settled("t3", 5)];
    let delivered = deliveries.deliver_all(&events).await;
    assert_eq!([&delivered[0], &delivered[2]], [&Delivered::Handled; 2]);
    dead(&delivered[1], "attempts-exhausted", 5);
    let said = format!("{:?}", delivered[1]);
    assert!(said.contains("went on"), "{said}");
    assert_eq!(
        (bank.entries(), bank.claims()),
        ("t1,t3".to_owned(), "2".to_owned())
    );
}

/// What an event's transfer id says is run as SQL.
async fn ends(event: Event<Settled>, tx: &Transaction<'_>) -> Result<(), Failure> {
    tx.batch_execute(event.transfer_id().unwrap_or_default())
        .await?;
    match event.payload.amount {
        1 => Err(Failure::permanent("and fails")),
        _ => Ok(()),
    }
}

#[tokio::test]
async fn a_handler_that_ends_its_transaction_stops_the_consumer() {
    let bank = Bank::start();
    let deliveries = bank.deliveries(Handlers::new().on("settled", ends));
    for sql in ["ROLLBACK", "COMMIT", "COMMIT; BEGIN", "ROLLBACK; BEGIN"] {
        for amount in [1, 5] {
            // The second one's claim may be committed with the first one's.
            let events = [settled(sql, amount), settled("SELECT 1", 5)];
            for delivered in deliveries.deliver_all(&events).await {
                let said = format!("{delivered:?}");
                assert!(
                    said.contains("Undecided") && said.contains("has ended its transaction"),
                    "{sql}: {said}"
                );
            }
        }
    }
}

#[tokio::test]
async fn no_event_is_blamed_for_a_table_that_is_missing() {
    let bank = Bank::start();
    let deliveries = bank.deliveries(Handlers::new().on("settled", post));
    let event = settled("t1", 5);
    let rename = |sql| bank.server.sql("postgres", sql).unwrap();
    rename("ALTER TABLE inbox RENAME TO elsewhere");
    let delivered = deliveries.deliver(&event).await;
    assert!(
        matches!(&delivered, Delivered::Undecided(why) if why.contains("inbox")),
        "{delivered:?}"
    );
    rename("ALTER TABLE elsewhere RENAME TO inbox");
    assert_eq!(deliveries.deliver(&event).await, Delivered::Handled);
}

#[tokio::test]
async fn a_reason_shows_no_values_of_rows() {
    async fn cast(event: Event<serde_json::Value>, tx: &Transaction<'_>) -> Result<(), Failure> {
        let sql = "SELECT ($1::text)::int";
        tx.execute(sql, &[&event.payload["secret"].as_str()])
            .await?;
        Ok(())
    }
    let bank = Bank::start();
    let handlers = Handlers::new().on("settled", post).on("cast", cast);
    let deliveries = bank.deliveries(handlers);
    let refused = deliveries.deliver(&settled("secret-t", 5_000)).await;
    let refused = format!("{refused:?}");
    assert!(
        refused.contains("23514") && refused.contains("entries_amount_check"),
        "{refused}"
    );
    assert!(!refused.contains("secret-t"), "{refused}");
    let quoted = event("cast").payload(json!({ "secret": "secret-value" }));
    let quoted = format!("{:?}", deliveries.deliver(&quoted).await);
    assert!(quoted.contains("22P02"), "{quoted}");
    assert!(!quoted.contains("secret-value"), "{quoted}");
}

#[tokio::test]
async fn sql_that_can_not_be_sent_is_the_events_fault() {
    async fn odd(_: Event<serde_json::Value>, tx: &Transaction<'_>) -> Result<(), Failure> {
        Ok(tx.batch_execute("SELECT '\0'").await?)
    }
    let bank = Bank::start();
    let deliveries = bank.deliveries(Handlers::new().on("settled", odd));
    dead(
        &deliveries.deliver(&event("settled")).await,
        "attempts-exhausted",
        5,
    );
}

#[tokio::test]
async fn a_commit_is_durable_when_its_offset_is_committed() {
    let bank = Bank::start();
    // What is set when the transaction commits.
    for sql in [
        "CREATE TABLE seen (setting text)",
        "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen \
         VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER see AFTER INSERT ON entries DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION see()",
    ] {
        bank.server.sql("postgres", sql).unwrap();
    }
    for (n, (set, expected)) in [("off", "on"), ("remote_write", "remote_write")]
        .into_iter()
        .enumerate()
    {
        let sql = format!("TRUNCATE seen; ALTER DATABASE postgres SET synchronous_commit = {set}");
        bank.server.sql("postgres", &sql).unwrap();
        let deliveries = Deliveries::new(
            "ledger",
            bank.new_pool(),
            Handlers::new().on("settled", post),
        );
        let delivered = deliveries.deliver(&settled(&format!("t{n}"), 1)).await;
        assert_eq!(delivered, Delivered::Handled);
        assert_eq!(bank.value("SELECT setting FROM seen"), expected);
    }
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

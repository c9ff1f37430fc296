//! Consumers of real topics.
#![allow(missing_docs, clippy::unwrap_used)]

mod bank;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use inbox::{Consumer, Error, Handlers, Once};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use testbed::StopMode;

use bank::{
    Bank, Gate, OLD_MS, Running, WITHIN, committed, committed_in, config, first_of, headers,
    posting, records_of,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_handled_in_order_over_restarts_and_rebalances() {
    tokio::join!(
        over_restarts("single", Once::Inbox, 1),
        over_restarts("batched", Once::Inbox, 50),
        over_restarts("offsets", Once::Offsets, 50),
    );
}

async fn over_restarts(topic: &str, once: Once, batch: usize) {
    let bank = Bank::start(topic).await;
    bank.produce(1, 1000).await;
    let start = || Running::start(bank.consumer(posting()).once(once).batch(batch));
    let first = start();
    bank.until("SELECT (count(*) > 100)::int FROM entries", 1)
        .await;
    let second = start();
    bank.produce(1001, 3000).await;
    bank.entries(3000).await;
    first.stop().await;
    bank.produce(3001, 3500).await;
    bank.entries(3500).await;
    second.lag(topic, |lag| lag.is_zero()).await;
    second.stop().await;
    bank.is_exact();
    assert!(committed(topic) >= 3500, "{}", committed(topic));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_for_good_is_durable_in_the_dead_letter_topic() {
    for (topic, once) in [("dead", Once::Inbox), ("dead-offsets", Once::Offsets)] {
        let bank = Bank::start(topic).await;
        bank.produce(-1, 20).await;
        let running = Running::start(bank.consumer(posting()).once(once).batch(10));
        bank.entries(21).await;
        running.lag(topic, |lag| lag.is_zero()).await;
        running.stop().await;
        bank.is_exact();
        let letter = first_of(&format!("{topic}.dead-letter"));
        let headers = headers(&letter);
        let says = |name: &str| headers[&format!("dead-letter.{name}")].clone();
        assert_eq!(says("class"), "attempts-exhausted");
        assert_eq!(
            (says("attempts"), says("topic")),
            ("3".to_owned(), topic.to_owned())
        );
        let (own, event) = (
            letter.timestamp().to_millis(),
            says("timestamp").parse::<i64>(),
        );
        assert!(
            own > Some(OLD_MS) && event == Ok(OLD_MS),
            "kept by its own age"
        );
        assert_eq!(
            (says("reason"), says("headers")),
            ("never".to_owned(), "0".to_owned())
        );
        let value = String::from_utf8_lossy(letter.payload().unwrap()).into_owned();
        assert!(value.contains(&format!("{topic}--1")), "{value}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_whole_where_its_topic_takes_it_and_else_says_where_it_is() {
    for (topic, dead_max, is_whole) in [("large", 4 << 20, true), ("larger", 1 << 20, false)] {
        let bank = Bank::start_with(topic, 4 << 20, dead_max).await;
        // Poison, around one that the dead-letter topic can't take.
        let large = "x".repeat(3 << 20);
        bank.produce_values(&["small", &large, "small"]).await;
        let running = Running::start(bank.consumer(posting()));
        let letters = format!("{topic}.dead-letter");
        let letters = tokio::task::spawn_blocking(move || records_of(&letters, 3))
            .await
            .unwrap();
        running.stop().await;
        let sizes: Vec<_> = letters
            .iter()
            .map(|letter| letter.payload().map(<[u8]>::len))
            .collect();
        let stubs = letters
            .iter()
            .filter(|letter| headers(letter).contains_key("dead-letter.stub"));
        assert_eq!(stubs.count(), usize::from(!is_whole), "{sizes:?}");
        let small = letters
            .iter()
            .filter(|letter| letter.payload() == Some(b"small"));
        assert_eq!(small.count(), 2, "{sizes:?}");
        let whole = letters
            .iter()
            .filter(|letter| letter.payload() == Some(large.as_bytes()));
        assert_eq!(whole.count(), usize::from(is_whole), "{sizes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_of_a_topic_that_was_made_again_stop_the_consumer() {
    let bank = Bank::start("again").await;
    bank.produce(1, 100).await;
    let start = || bank.consumer(posting()).once(Once::Offsets);
    let running = Running::start(start());
    bank.entries(100).await;
    running.stop().await;
    bank.make_again().await;
    bank.produce(201, 220).await;
    let consumer = start().build().unwrap();
    let ended = tokio::time::timeout(WITHIN, consumer.run()).await.unwrap();
    let error = ended.unwrap_err();
    assert!(
        matches!(error, Error::OffsetsOfAnotherTopic { .. }),
        "{error}"
    );
    bank.entries(100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_a_dead_letter_because_the_database_is_away() {
    let bank = Bank::start("away").await;
    bank.produce(1, 500).await;
    let running = Running::start(bank.consumer(posting()).batch(20));
    bank.until("SELECT (count(*) > 50)::int FROM entries", 1)
        .await;
    bank.postgres.stop(StopMode::Immediate).unwrap();
    bank.produce(501, 600).await;
    running
        .lag("away", |lag| lag > Duration::from_secs(2))
        .await;
    bank.postgres.start_again().unwrap();
    bank.entries(600).await;
    running.lag("away", |lag| lag.is_zero()).await;
    running.stop().await;
    bank.is_exact();
    let ends = {
        let reader: BaseConsumer = config(&bank.kafka).create().unwrap();
        reader
            .fetch_watermarks("away.dead-letter", 0, WITHIN)
            .unwrap()
    };
    assert_eq!(ends, (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_handler_keeps_its_partitions_and_lag_grows_meanwhile() {
    let bank = Bank::start("slow").await;
    bank.produce(1, 1).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let runs = Arc::new(AtomicUsize::new(0));
    let handlers = Handlers::new().on("settled", Gate(Arc::clone(&gate), Arc::clone(&runs)));
    // The heartbeat would be missed within this time if the handler held up the client.
    let builder = bank
        .consumer(handlers)
        .property("max.poll.interval.ms", "6000");
    let running = Running::start(builder);
    running
        .lag("slow", |lag| lag > Duration::from_secs(9))
        .await;
    gate.add_permits(1);
    bank.entries(1).await;
    running.lag("slow", |lag| lag.is_zero()).await;
    running.stop().await;
    bank.is_exact();
    assert_eq!(
        runs.load(Ordering::SeqCst),
        1,
        "the partition was lost meanwhile"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_does_not_end_is_rolled_back_and_runs_elsewhere() {
    let bank = Bank::start("stuck").await;
    bank.produce(1, 40).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let handlers = Handlers::new().on("settled", Gate(Arc::clone(&gate), Arc::default()));
    let builder = bank
        .consumer(handlers)
        .batch(10)
        .drain_timeout(Duration::from_millis(500));
    let stuck = Running::start(builder);
    stuck.lag("stuck", |lag| lag > Duration::ZERO).await;
    let free = Running::start(bank.consumer(posting()).batch(10));
    bank.until("SELECT (count(*) > 0)::int FROM entries", 1)
        .await;
    stuck.stop().await;
    bank.entries(40).await;
    free.stop().await;
    bank.is_exact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_dropped_midway_leaves_its_group() {
    let bank = Bank::start("dropped").await;
    bank.produce(1, 10).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let handlers = Handlers::new().on("settled", Gate(gate, Arc::default()));
    let builder = bank.consumer(handlers);
    let running = Running::start(builder.property("session.timeout.ms", "45000"));
    running.lag("dropped", |lag| lag > Duration::ZERO).await;
    running.task.abort();
    let ended = tokio::time::timeout(WITHIN, running.task).await.unwrap();
    assert!(ended.unwrap_err().is_cancelled());
    // Before its session could have timed out.
    let began = Instant::now();
    let next = Running::start(bank.consumer(posting()));
    bank.entries(10).await;
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    next.stop().await;
    bank.is_exact();
}

/// As one that meets the end of a rebalance, of a partition that stays. A real broker refuses it in a
/// moment of that only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_refused_is_repeated_although_nothing_more_comes() {
    let bank = Bank::start("refused").await;
    let kafka = MockCluster::new(1).unwrap();
    for topic in ["refused", "refused.dead-letter"] {
        kafka.create_topic(topic, 4, 1).unwrap();
    }
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
    kafka.request_errors(RDKafkaApiKey::OffsetCommit, &[refusal; 2]);
    let brokers = kafka.bootstrap_servers();
    bank.produce_to(&brokers, 1, 100).await;
    let running = Running::start(bank.consumer(posting()).brokers(&brokers));
    bank.entries(100).await;
    let began = Instant::now();
    while committed_in(&brokers, "refused") < 100 {
        assert!(began.elapsed() < WITHIN, "not committed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The last one as well: nobody commits after it.
    kafka.request_errors(RDKafkaApiKey::OffsetCommit, &[refusal; 5]);
    bank.produce_to(&brokers, 101, 110).await;
    bank.entries(110).await;
    running.stop().await;
    assert!(committed_in(&brokers, "refused") >= 110);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_said_at_the_start() {
    let bank = Bank::start("missing").await;
    let builder = bank.consumer(posting()).dead_letters("nowhere");
    let error = builder.build().unwrap().run().await.unwrap_err();
    assert!(matches!(error, Error::NoDeadLetterTopic { .. }), "{error}");
    bank.postgres.sql("postgres", "DROP TABLE inbox").unwrap();
    let error = bank
        .consumer(posting())
        .build()
        .unwrap()
        .run()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("run sql/inbox.sql"), "{error}");
    let error = Consumer::builder("x").build().map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("no database()"), "{error}");
}

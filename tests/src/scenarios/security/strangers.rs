//! A principal that nobody has granted anything, and a consumer that has its topics and no others.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};

use super::household::{Household, USERS};
use crate::stage::DEAD_LETTERS;

const PATIENCE: Duration = Duration::from_secs(15);
const CHECKPOINTS: &str = "outboxd.checkpoint.outbox";

/// How many attempts the brokers have refused.
pub(super) async fn get_nowhere(house: &Household<'_>) -> Result<usize> {
    let mallory = config(house, "mallory", USERS[2].1)?;
    let books = config(house, "books", USERS[1].1)?;
    let mut refused = 0;
    for topic in ["transfers.settled", DEAD_LETTERS, CHECKPOINTS] {
        refused_by(topic, read(&mallory, topic, "spies"), either_denied)?;
        refused_by(topic, write(&mallory, topic), topic_denied)?;
        // A reader of a topic is no writer of it, and no reader of others.
        refused_by(topic, write(&books, topic), topic_denied)?;
        refused += 3;
    }
    for topic in ["ledger.posted", DEAD_LETTERS, CHECKPOINTS] {
        refused_by(topic, read(&books, topic, "books"), topic_denied)?;
        refused += 1;
    }
    refused_by("a group", join(&books, "spies"), group_denied)?;
    for id in ["outboxd.outbox.0", "outboxd.outbox.doctor"] {
        refused_by(id, fence(&mallory, id), id_denied)?;
        refused_by(id, fence(&books, id), id_denied)?;
        refused += 2;
    }
    join(&books, "books").context("the consumer may join its group")?;
    let found = read(&books, "transfers.settled", "books");
    ensure!(
        found.context("the consumer may read its topic")?,
        "the consumer has read nothing"
    );
    Ok(refused + 1)
}

fn topic_denied(code: RDKafkaErrorCode) -> bool {
    code == RDKafkaErrorCode::TopicAuthorizationFailed
}

/// Whichever the brokers are asked about first.
fn either_denied(code: RDKafkaErrorCode) -> bool {
    topic_denied(code) || group_denied(code)
}

fn group_denied(code: RDKafkaErrorCode) -> bool {
    code == RDKafkaErrorCode::GroupAuthorizationFailed
}

fn id_denied(code: RDKafkaErrorCode) -> bool {
    code == RDKafkaErrorCode::TransactionalIdAuthorizationFailed
}

fn refused_by<T>(
    what: &str,
    outcome: Result<T, KafkaError>,
    expected: fn(RDKafkaErrorCode) -> bool,
) -> Result<()> {
    match outcome {
        Ok(_) => bail!("{what}: it was let in"),
        Err(error) => {
            let code = error.rdkafka_error_code();
            ensure!(code.is_some_and(expected), "{what}: {error}");
            Ok(())
        }
    }
}

fn config(house: &Household<'_>, user: &str, password: &str) -> Result<ClientConfig> {
    let kafka = &house.stage.kafka;
    let authority = kafka.authority().context("no authority")?.certificate();
    let mut config = ClientConfig::new();
    config
        .set(
            "bootstrap.servers",
            kafka.sasl_bootstrap().context("no listener")?,
        )
        .set("security.protocol", "SASL_SSL")
        .set("sasl.mechanism", "SCRAM-SHA-512")
        .set("sasl.username", user)
        .set("sasl.password", password)
        .set("ssl.ca.location", authority.display().to_string());
    Ok(config)
}

/// Joins a group, until it is given a partition.
fn join(config: &ClientConfig, group: &str) -> Result<(), KafkaError> {
    let mut config = config.clone();
    let consumer: BaseConsumer = config.set("group.id", group).create()?;
    consumer.subscribe(&["transfers.settled"])?;
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(Err(error)) = consumer.poll(Duration::from_millis(200)) {
            return Err(error);
        }
        if consumer.assignment()?.count() > 0 {
            return Ok(());
        }
    }
    Err(KafkaError::Canceled)
}

/// Reads a record of a topic; whether there was one.
fn read(config: &ClientConfig, topic: &str, group: &str) -> Result<bool, KafkaError> {
    let mut config = config.clone();
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    // While it is not told where the partitions are, a consumer waits for that in silence.
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let refusal = metadata.topics().iter().find_map(|topic| topic.error());
    if let Some(code) = refusal {
        return Err(KafkaError::MessageConsumption(code.into()));
    }
    let mut places = TopicPartitionList::new();
    for partition in 0..6 {
        places.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&places)?;
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(record)) => return Ok(record.topic() == topic),
            // Of partitions that the topic does not have.
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopicOrPartition,
            ))) => {}
            Some(Err(error)) => return Err(error),
            None => {}
        }
    }
    Ok(false)
}

/// Takes the one delivery report.
struct Reports(mpsc::Sender<Result<(), KafkaError>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let outcome = result
            .as_ref()
            .map(drop)
            .map_err(|(error, _)| error.clone());
        let _ = self.0.send(outcome);
    }
}

fn write(config: &ClientConfig, topic: &str) -> Result<(), KafkaError> {
    let (reports, outcome) = mpsc::channel();
    let mut config = config.clone();
    config.set("message.timeout.ms", PATIENCE.as_millis().to_string());
    let producer: ThreadedProducer<Reports> = config.create_with_context(Reports(reports))?;
    let record = BaseRecord::to(topic).key("k").payload("forged");
    producer.send(record).map_err(|(error, _)| error)?;
    let told = outcome.recv_timeout(PATIENCE + Duration::from_secs(5));
    told.unwrap_or(Err(KafkaError::Canceled))
}

fn fence(config: &ClientConfig, id: &str) -> Result<(), KafkaError> {
    let (reports, _outcome) = mpsc::channel();
    let mut config = config.clone();
    config.set("transactional.id", id);
    let producer: ThreadedProducer<Reports> = config.create_with_context(Reports(reports))?;
    producer.init_transactions(PATIENCE)
}

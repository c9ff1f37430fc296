//! Why a consumer can't be made or has stopped.

use rdkafka::error::KafkaError;

/// A consumer can't be made, or has stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something that was not said, or not so.
    #[error("the consumer {consumer} can't be made: {reason}")]
    Settings {
        /// The consumer.
        consumer: String,
        /// What is missing or wrong.
        reason: String,
    },
    /// The Kafka client refused its configuration, or can't go on.
    #[error("{attempt}")]
    Kafka {
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        #[source]
        source: KafkaError,
    },
    /// A table is missing in the consumer's database.
    #[error("the consumer's database has no table {table}; run sql/{table}.sql there")]
    NoTable {
        /// The table.
        table: &'static str,
    },
    /// The topic for dead letters is missing.
    #[error(
        "the dead-letter topic {topic} does not exist; create it, with max.message.bytes above that of the consumed topics, or name another one with dead_letters()"
    )]
    NoDeadLetterTopic {
        /// The topic.
        topic: String,
    },
    /// A partition ends before what the consumer has handled of it.
    #[error(
        "partition {partition} of {topic} goes on at offset {found}, but the consumer has handled it up to {stored}: the topic was made again; if it is the right one, remove the partition's row from inbox_offsets"
    )]
    OffsetsOfAnotherTopic {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset in the table `inbox_offsets`.
        stored: i64,
        /// Where the partition goes on.
        found: i64,
    },
    /// How long duplicates can come is not known.
    #[error(
        "inbox rows can't be removed safely: {reason}; say how far back events can be replayed with Retention::replay_horizon()"
    )]
    NoReplayHorizon {
        /// Why.
        reason: String,
    },
    /// A handler has ended the transaction that is the consumer's.
    #[error(
        "a handler has ended its transaction, at event {event_id} in {topic} [{partition}] at offset {offset} or behind it in the batch: leave COMMIT and ROLLBACK to the consumer, and look for what it has committed without its inbox row, or the other way round"
    )]
    TransactionEnded {
        /// The first event of the transaction.
        event_id: String,
        /// Its topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
    },
    /// There is no handler for a type, and the consumer is to stop then.
    #[error(
        "event {event_id} in {topic} [{partition}] at offset {offset} is of type {event_type}, for which there is no handler; add one with Handlers::on, or choose Unknown::Skip or Unknown::DeadLetter"
    )]
    UnknownType {
        /// The type.
        event_type: String,
        /// The event.
        event_id: String,
        /// Its topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
    },
}

impl Error {
    pub(crate) fn kafka(attempt: &'static str) -> impl FnOnce(KafkaError) -> Self {
        move |source| Self::Kafka { attempt, source }
    }
}

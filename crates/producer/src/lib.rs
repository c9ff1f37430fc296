//! A Kafka producer that calls librdkafka directly.
//!
//! It is the only crate of the workspace with `unsafe` code, and exists for these reasons:
//!
//! * The safe wrapper's `flush` polls in steps of 100 ms and its `commit_transaction` flushes
//!   first, which caps a relay near ten commits a second. Here the owner polls the delivery
//!   reports itself ([`Producer::poll`]) and commits when nothing is outstanding.
//! * A record is handed over with cached topic handles and without an allocation on the Rust side.
//! * The wrapper can't list what a group has committed, nor say at which offset a partition ends.
//!
//! A [`Producer`] belongs to one thread at a time (`Send`, not `Sync`), calls may block for the
//! stated timeout, and nothing calls back (but for the count of closed connections): events are
//! fetched by `poll`.

mod acl;
mod admin;
mod config;
mod error;
mod ffi;
mod groups;
mod record;

pub use acl::{AclBinding, AclEffect, AclOperation, AclPattern, AclResource};
pub use admin::{Admin, TopicAccess};
pub use config::CreateError;
pub use error::{DeliveryError, ErrorClass, InvalidRecord, TransactionError};
pub use groups::{Edge, Found, GroupReader, TopicPartition};
pub use record::{ProduceError, Record};

use std::time::Duration;

/// The broker's name of an error code, such as `_TRANSPORT` or `TOPIC_AUTHORIZATION_FAILED`.
pub type ErrorName = String;

/// What librdkafka reported since the last [`Producer::poll`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientError {
    /// librdkafka's numeric code; negative codes are the client's own.
    pub code: i32,
    /// The symbolic name of the code.
    pub name: ErrorName,
    /// The message for people.
    pub message: String,
}

/// A producer: idempotent or transactional, by its configuration.
pub struct Producer {
    client: ffi::Client,
    topics: record::TopicCache,
    outstanding: usize,
    failure: Option<DeliveryError>,
    invalid: Vec<InvalidRecord>,
    lowest_failed: Option<usize>,
    client_error: Option<ClientError>,
}

impl Producer {
    /// Creates a producer from librdkafka properties. Nothing is contacted yet.
    pub fn new<'a>(
        properties: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, CreateError> {
        let client = ffi::Client::new(config::build(properties)?, ffi::Kind::Producer)?;
        Ok(Self {
            client,
            topics: record::TopicCache::default(),
            outstanding: 0,
            failure: None,
            invalid: Vec::new(),
            lowest_failed: None,
            client_error: None,
        })
    }

    /// Queues one record. The bytes are copied.
    ///
    /// [`ProduceError::QueueFull`] means: poll, then try again.
    pub fn produce<'r, H>(&mut self, record: &Record<'r>, headers: H) -> Result<(), ProduceError>
    where
        H: IntoIterator<Item = (&'r str, Option<&'r [u8]>)>,
    {
        let handle = self.topics.handle(&self.client, record.topic);
        let queued = handle.and_then(|topic| record::produce(&self.client, topic, record, headers));
        match &queued {
            Ok(()) => self.outstanding += 1,
            Err(ProduceError::QueueFull) => {}
            Err(ProduceError::Refused { code, message, .. }) => {
                let mut alone = error::BatchReport::default();
                alone.take(record.tag, *code, || message.clone());
                self.note(alone);
            }
        }
        queued
    }

    /// What is said of records that were not delivered.
    fn note(&mut self, batch: error::BatchReport) {
        let lowest = [self.lowest_failed, batch.lowest_failed()];
        self.lowest_failed = lowest.into_iter().flatten().min();
        self.invalid.extend(batch.named());
    }

    /// Serves delivery reports, errors and logs for up to `timeout`; returns as soon as one event
    /// has been served. Returns the number of records still without a report.
    pub fn poll(&mut self, timeout: Duration) -> usize {
        let mut wait = timeout;
        while let Some(event) = self.client.next_event(wait) {
            wait = Duration::ZERO;
            match event {
                ffi::Event::Delivered { batch, failure } => {
                    self.outstanding = self.outstanding.saturating_sub(batch.count());
                    self.note(batch);
                    self.failure = error::cause(self.failure.take(), failure);
                }
                ffi::Event::Error(error) => self.client_error = Some(error),
                ffi::Event::Other => {}
            }
        }
        self.outstanding
    }

    /// Records produced whose delivery report has not been served yet.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// The first failed delivery since the last call. One that only follows from another failure is
    /// kept back until every record has its report: the other one's may be among them.
    pub fn take_failure(&mut self) -> Option<DeliveryError> {
        let more_may_come = self.outstanding > 0;
        self.failure
            .take_if(|failed| !(more_may_come && failed.is_consequence()))
    }

    /// The lowest tag among all records whose delivery has failed.
    pub fn lowest_failed(&self) -> Option<usize> {
        self.lowest_failed
    }

    /// Records that brokers have named as invalid since the last call.
    pub fn take_invalid(&mut self) -> Vec<InvalidRecord> {
        std::mem::take(&mut self.invalid)
    }

    /// The latest error of the client as a whole (brokers down, authentication) since the last
    /// call. Informational: librdkafka goes on trying.
    pub fn take_client_error(&mut self) -> Option<ClientError> {
        self.client_error.take()
    }

    /// How many connections to brokers have been closed, by either side, since the start.
    ///
    /// librdkafka repeats a request by itself when its connection closes, and says nothing: if this
    /// has grown over a call, what the call asked for may have been asked for twice.
    pub fn connections_closed(&self) -> u64 {
        self.client.connections_closed()
    }

    /// Acquires the transactional id: fences every older producer with it and waits until its
    /// open transaction is settled.
    pub fn init_transactions(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        self.client.init_transactions(timeout)
    }

    /// Opens a transaction.
    pub fn begin_transaction(&mut self) -> Result<(), TransactionError> {
        self.client.begin_transaction()
    }

    /// Commits the open transaction. Call it when [`outstanding`](Self::outstanding) is 0.
    ///
    /// After any error the outcome is unknown: drop this producer, fence, and read what was
    /// committed.
    pub fn commit_transaction(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        self.client.commit_transaction(timeout)
    }

    /// Why the open transaction has to be aborted, where every failed delivery only follows from that:
    /// a partition, say, that may not be part of it. The failures make sure that nothing is committed.
    pub fn transaction_error(&mut self, timeout: Duration) -> Option<TransactionError> {
        self.client.commit_transaction(timeout).err()
    }

    /// Aborts the open transaction.
    pub fn abort_transaction(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        self.client.purge();
        while self.outstanding > 0 && self.poll(Duration::from_millis(10)) > 0 {}
        self.client.abort_transaction(timeout)
    }
}

impl Drop for Producer {
    /// Discards what is still queued, so that a drop never waits for a broker.
    fn drop(&mut self) {
        self.client.purge();
        self.poll(Duration::ZERO);
        self.topics.release();
    }
}

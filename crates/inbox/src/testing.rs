//! Tests of handlers, without Kafka.
//!
//! [`Deliveries`] takes the place of the topic: it gives events to handlers exactly as a consumer does,
//! with the inbox in the same transaction, and says what became of each. It needs a database with the
//! table `inbox`, and the handlers' own.
//!
//! ```no_run
//! use inbox::testing::{Deliveries, Delivered, event};
//! # use inbox::{Event, Failure, Handlers, Pool, Transaction};
//! # async fn post(_: Event<serde_json::Value>, _: &Transaction<'_>) -> Result<(), Failure> { Ok(()) }
//!
//! # async fn test(pool: Pool) {
//! let handlers = Handlers::new().on("transfers.settled", post);
//! let deliveries = Deliveries::new("ledger", pool, handlers);
//!
//! let settled = event("transfers.settled")
//!     .transfer_id("t-1")
//!     .payload(serde_json::json!({ "amount": 100 }));
//! assert_eq!(deliveries.deliver(&settled).await, Delivered::Handled);
//! assert_eq!(deliveries.deliver(&settled).await, Delivered::Duplicate);
//! # }
//! ```

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use deadpool_postgres::Pool;
use event::envelope::{EVENT_ID_HEADER, Format, Headers, TYPE_HEADER};

use crate::event::Source;
use crate::handlers::Handlers;
use crate::metrics::Metrics;
use crate::order::{Lane, Retry, Slot};
use crate::work::{How, Item, Letters, Once, Outcome, Worker};

/// The topic that events of a test come from.
const TOPIC: &str = "test";

/// What has become of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// A handler has handled it, and its transaction is committed.
    Handled,
    /// It was handled before.
    Duplicate,
    /// There is no handler for it, and it was passed over.
    Skipped,
    /// It became a dead letter.
    DeadLetter {
        /// Why, as a code: `unreadable`, `unknown-type`, `payload`, `encryption`, `permanent` or
        /// `attempts-exhausted`.
        class: &'static str,
        /// Why, for people.
        reason: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The database is away, or the consumer would stop.
    Undecided(String),
}

/// Gives events to handlers as a consumer does.
pub struct Deliveries {
    worker: Worker,
    offset: AtomicI64,
}

impl Deliveries {
    /// Of a consumer with this name. A failing event is tried again without waiting.
    pub fn new(consumer: &str, pool: Pool, handlers: Handlers) -> Self {
        Self {
            worker: Worker {
                consumer: consumer.to_owned(),
                pool,
                handlers,
                retry: Retry::default().backoff(Duration::ZERO, Duration::ZERO),
                once: Once::Inbox,
                letters: Letters::None,
                metrics: Metrics::new(consumer),
            },
            offset: AtomicI64::new(0),
        }
    }

    /// Delivers one event, as often as it is tried again.
    pub async fn deliver(&self, event: &TestEvent) -> Delivered {
        let delivered = self.deliver_all(std::slice::from_ref(event)).await;
        let first = delivered.into_iter().next();
        first.unwrap_or_else(|| Delivered::Undecided("nothing was delivered".to_owned()))
    }

    /// Delivers events as one batch, those that fail again and again until each is decided.
    pub async fn deliver_all(&self, events: &[TestEvent]) -> Vec<Delivered> {
        let mut delivered = Vec::with_capacity(events.len());
        let mut waiting = Vec::new();
        for (place, event) in events.iter().enumerate() {
            let offset = self.offset.fetch_add(1, Ordering::Relaxed);
            waiting.push((place, event.item(offset, &self.worker.retry)));
            delivered.push(Delivered::Undecided("it was not tried".to_owned()));
        }
        while !waiting.is_empty() {
            let (places, items): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
            let report = self.worker.process(items).await;
            let trouble = report.unavailable.map(|failure| failure.to_string());
            let trouble = trouble.or_else(|| report.stop.map(|error| error.to_string()));
            for (place, (item, outcome)) in places.into_iter().zip(report.items) {
                match (outcome, &trouble) {
                    (Outcome::Settled(how), _) => delivered[place] = settled(how, &item),
                    (_, Some(trouble)) => delivered[place] = Delivered::Undecided(trouble.clone()),
                    (_, None) => waiting.push((place, item)),
                }
            }
        }
        delivered
    }
}

fn settled(how: How, item: &Item) -> Delivered {
    match (how, &item.doom) {
        (How::Handled, _) => Delivered::Handled,
        (How::Duplicate, _) => Delivered::Duplicate,
        (How::Skipped, _) => Delivered::Skipped,
        (How::Dead, doom) => Delivered::DeadLetter {
            class: doom.as_ref().map_or("", |doom| doom.class),
            reason: doom
                .as_ref()
                .map(|doom| doom.reason.clone())
                .unwrap_or_default(),
            attempts: doom.as_ref().map_or(0, |doom| doom.attempts),
        },
    }
}

/// An event of this type, for a test.
pub fn event(event_type: &str) -> TestEvent {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Unlike those of an earlier run against the same database.
    let id = format!("test-{}-{number}", crate::metrics::now_us());
    TestEvent {
        id,
        event_type: event_type.to_owned(),
        transfer_id: None,
        payload: serde_json::Value::Null,
        headers: Vec::new(),
        value: None,
    }
}

/// An event to be delivered. A clone is the same event: its duplicate.
#[derive(Clone, Debug)]
pub struct TestEvent {
    id: String,
    event_type: String,
    transfer_id: Option<String>,
    payload: serde_json::Value,
    headers: Vec<(String, String)>,
    value: Option<String>,
}

impl TestEvent {
    /// With this id, instead of a new one.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// With this transfer id.
    pub fn transfer_id(mut self, transfer_id: impl Into<String>) -> Self {
        self.transfer_id = Some(transfer_id.into());
        self
    }

    /// With this payload.
    pub fn payload(mut self, payload: serde_json::Value) -> Self {
        self.payload = payload;
        self
    }

    /// With a further header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With this value in the place of an envelope: poison, perhaps.
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// With its payload encrypted, wholly or in part.
    ///
    /// # Errors
    /// No key can be had, or the payload has not what is to be encrypted.
    #[cfg(feature = "encryption")]
    pub async fn sealed(
        mut self,
        keys: &dyn event::encryption::KeyStore,
        scope: &event::encryption::Scope,
    ) -> Result<Self, event::encryption::SealError> {
        use event::encryption::{SealError, Sealed, Subject, seal};

        let payload = serde_json::value::to_raw_value(&self.payload);
        let payload = payload.map_err(|_| SealError::NotJson)?;
        let subject = Subject {
            event_id: &self.id,
            event_type: &self.event_type,
        };
        let Some(Sealed { payload, scope }) = seal(keys, subject, scope, &payload).await? else {
            return Ok(self);
        };
        self.payload = serde_json::from_str(payload.get()).map_err(|_| SealError::NotJson)?;
        for (name, value) in scope.headers() {
            let text = value.as_str().map(str::to_owned);
            self = self.header(name, text.unwrap_or_else(|| value.to_string()));
        }
        Ok(self)
    }

    fn item(&self, offset: i64, retry: &Retry) -> Item {
        let envelope = serde_json::json!({
            "eventId": self.id,
            "type": self.event_type,
            "occurredAt": jiff::Timestamp::now().to_string(),
            "transferId": self.transfer_id,
            "payload": self.payload,
        });
        let value = self.value.clone().unwrap_or_else(|| envelope.to_string());
        let key = self.transfer_id.clone().unwrap_or_else(|| self.id.clone());
        let mut headers = Headers::default();
        headers.push(EVENT_ID_HEADER, Some(self.id.clone()));
        headers.push(TYPE_HEADER, Some(self.event_type.clone()));
        for (name, value) in &self.headers {
            headers.push(name.clone(), Some(value.clone()));
        }
        let lane = Lane::of_key(Slot(0), Some(key.as_bytes()), offset);
        let source = Source {
            topic: TOPIC.into(),
            partition: 0,
            offset,
            timestamp_ms: Some(crate::metrics::now_ms()),
            key: Some(Bytes::from(key)),
            value: Some(Bytes::from(value)),
        };
        Item::read(lane, source, Ok(headers), Format::Envelope, retry)
    }
}

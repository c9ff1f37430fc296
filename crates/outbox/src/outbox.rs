//! Writing events.

use envelope::{TopicPattern, TopicTemplate};
use uuid::Uuid;

use crate::{
    EmitError, Event, Refusal, Transaction,
    check::Rules,
    event::Payload,
    rows::{self, Rows},
};

/// Writes an event in the caller's transaction, with the settings of [`Outbox::new`]; returns its id.
///
/// # Errors
/// The event can't be published, or the database refused it.
pub async fn emit(transaction: impl Transaction, event: Event) -> Result<Uuid, EmitError> {
    Outbox::new().emit(transaction, event).await
}

/// Writes events in one statement, in their order, with the settings of [`Outbox::new`]; returns their
/// ids.
///
/// # Errors
/// One of them can't be published, or the database refused them: none is written.
pub async fn emit_all(
    transaction: impl Transaction,
    events: impl IntoIterator<Item = Event>,
) -> Result<Vec<Uuid>, EmitError> {
    Outbox::new().emit_all(transaction, events).await
}

/// An outbox table and what its events keep to. It holds no connection: one value serves a whole
/// service.
///
/// ```
/// use outbox::Outbox;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let outbox = Outbox::new()
///     .table("payments", "outbox")
///     .topics(["transfers.*".parse()?, "ledger.*".parse()?])
///     .max_bytes(4_000_000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Outbox {
    statement: String,
    rules: Rules,
    #[cfg(feature = "encryption")]
    encryption: Option<crate::encrypt::Encryption>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Outbox {
    /// The table `public.outbox`; topics named as the types, up to 1,000,000 bytes, no encryption: the
    /// defaults of the relay.
    pub fn new() -> Self {
        Self {
            statement: rows::statement("public.outbox"),
            rules: Rules::default(),
            #[cfg(feature = "encryption")]
            encryption: None,
        }
    }

    /// Another table of the same columns.
    pub fn table(mut self, schema: &str, table: &str) -> Self {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        self.statement = rows::statement(&format!("{}.{}", quoted(schema), quoted(table)));
        self
    }

    /// `topic` of the relay's table, where it is not `{type}`.
    pub fn topic(mut self, topic: TopicTemplate) -> Self {
        self.rules.topic = topic;
        self
    }

    /// `topics.allow` of the relay: events that would go elsewhere are refused here. Without it, every
    /// topic that Kafka takes is allowed.
    pub fn topics(mut self, allowed: impl IntoIterator<Item = TopicPattern>) -> Self {
        self.rules.topics.allow = allowed.into_iter().collect();
        self
    }

    /// `event.max_bytes` of the relay: bytes of key, value and headers together. How large a record becomes is known to within a few bytes;
    /// numbers with exponents may make it larger.
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.rules.max_bytes = max_bytes;
        self
    }

    /// Encrypts what `policy` names, with the current key of `keys`.
    ///
    /// ```
    /// use outbox::encryption::{Key, KeyAlgorithm, Keyring};
    /// use outbox::{EncryptionPolicy, Outbox};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let keys = Keyring::new(Key::generate("2026-01", KeyAlgorithm::A256Kw)?);
    /// let policy = EncryptionPolicy::new()
    ///     .payload("compliance.*")?
    ///     .fields("transfers.*", ["payload.customer.name", "payload.note?"])?;
    /// let outbox = Outbox::new().encryption(policy, keys);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "encryption")]
    pub fn encryption(
        mut self,
        policy: crate::EncryptionPolicy,
        keys: impl ::event::encryption::KeyStore + 'static,
    ) -> Self {
        self.encryption = Some(crate::encrypt::Encryption::new(policy, keys));
        self
    }

    /// Writes an event in the caller's transaction; returns its id.
    ///
    /// # Errors
    /// The event can't be published, or the database refused it.
    pub async fn emit(
        &self,
        transaction: impl Transaction,
        event: Event,
    ) -> Result<Uuid, EmitError> {
        let id = event.id;
        self.emit_all(transaction, [event]).await?;
        Ok(id)
    }

    /// Writes events in one statement, in their order; returns their ids. No event, no statement.
    ///
    /// All of them are in memory until the database has them: thousands are fine, millions are not.
    ///
    /// # Errors
    /// One of them can't be published, or the database refused them: none is written.
    pub async fn emit_all(
        &self,
        transaction: impl Transaction,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Vec<Uuid>, EmitError> {
        let events: Vec<Event> = events.into_iter().collect();
        let mut rows = Rows::default();
        for event in events {
            let (event_id, event_type) = (event.id, event.event_type.to_string());
            let refused = |refusal| EmitError::Refused {
                event_id,
                event_type,
                refusal,
            };
            self.add(event, &mut rows).await.map_err(refused)?;
        }
        if rows.ids.is_empty() {
            return Ok(Vec::new());
        }
        let written = transaction.insert(&self.statement, &rows).await;
        let written = written.map_err(EmitError::Database)?;
        let given = rows.ids.len();
        match u64::try_from(given) == Ok(written) {
            true => Ok(rows.ids),
            false => Err(EmitError::RowsMissing { given, written }),
        }
    }

    async fn add(&self, mut event: Event, rows: &mut Rows) -> Result<(), Refusal> {
        self.rules.check(&event)?;
        let payload = match std::mem::replace(&mut event.payload, Payload::Missing) {
            Payload::Json(payload) => payload,
            Payload::Missing => return Err(Refusal::NoPayload),
            Payload::Failed(error) => return Err(Refusal::Payload(error)),
        };
        #[cfg(feature = "encryption")]
        let payload = match &self.encryption {
            Some(encryption) => encryption.apply(&mut event, payload).await?,
            None => payload,
        };
        #[cfg(feature = "opentelemetry")]
        crate::trace::add_context(&mut event);
        let headers = rows::headers_column(&event)?;
        self.rules
            .check_written(&event, &payload, headers.as_deref())?;
        rows.push(event, payload, headers);
        Ok(())
    }
}

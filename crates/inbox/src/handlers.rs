//! Which handler an event goes to.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use event::EventType;
use event::envelope::Payload;
use serde::de::DeserializeOwned;

use crate::handler::{AnyHandler, BatchHandler, Handler, Many, One, parse};
use crate::opener::Opener;

/// What becomes of an event for whose type there is no handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// It becomes a dead letter.
    #[default]
    DeadLetter,
    /// It is passed over, and counted.
    Skip,
    /// The consumer stops with an error.
    Stop,
}

/// Handlers by event type.
///
/// ```
/// use inbox::{Event, Failure, Handlers, Transaction, Unknown};
///
/// #[derive(serde::Deserialize)]
/// struct Settled {
///     amount: i64,
/// }
///
/// async fn post(event: Event<Settled>, tx: &Transaction<'_>) -> Result<(), Failure> {
///     if event.payload.amount == 0 {
///         return Err(Failure::permanent("nothing was transferred"));
///     }
///     let sql = "INSERT INTO entries (transfer_id, amount) VALUES ($1, $2)";
///     tx.execute(sql, &[&event.transfer_id(), &event.payload.amount]).await?;
///     Ok(())
/// }
///
/// let handlers = Handlers::new()
///     .on("transfers.settled", post)
///     .unknown(Unknown::Skip);
/// ```
#[derive(Clone, Default)]
pub struct Handlers {
    by_type: HashMap<String, Arc<dyn AnyHandler>>,
    unknown: Unknown,
    opener: Opener,
}

impl Handlers {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Events of this type go to this handler, their payloads read as `T`. One that can't be read so
    /// becomes a dead letter.
    pub fn on<T>(self, event_type: impl Into<String>, handler: impl Handler<T>) -> Self
    where
        T: DeserializeOwned + Send + 'static,
    {
        let parse = parse::<T>;
        self.add(event_type, One { handler, parse })
    }

    /// Events of the type that `T` names go to this handler.
    pub fn on_typed<T>(self, handler: impl Handler<T>) -> Self
    where
        T: EventType + DeserializeOwned + Send + 'static,
    {
        self.on(T::TYPE, handler)
    }

    /// Events of this type go to this handler, many at once. How many, [`batch`] says.
    ///
    /// [`batch`]: crate::ConsumerBuilder::batch
    pub fn on_batch<T>(self, event_type: impl Into<String>, handler: impl BatchHandler<T>) -> Self
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let parsed = PhantomData;
        self.add(event_type, Many { handler, parsed })
    }

    /// Events of this type go to this handler, their payloads as they are.
    pub fn on_raw(self, event_type: impl Into<String>, handler: impl Handler<Payload>) -> Self {
        let parse = |payload: &Payload| Ok(payload.clone());
        self.add(event_type, One { handler, parse })
    }

    /// What becomes of other events.
    pub fn unknown(mut self, unknown: Unknown) -> Self {
        self.unknown = unknown;
        self
    }

    /// Reads encrypted payloads with these keys. Without them they become dead letters, as do those
    /// that the keys don't open; while a key store can't be asked, an event waits and holds up its key.
    #[cfg(feature = "encryption")]
    pub fn keys(mut self, keys: impl event::encryption::KeyStore + 'static) -> Self {
        self.opener.keys = Some(Arc::new(keys));
        self
    }

    fn add(mut self, event_type: impl Into<String>, handler: impl AnyHandler + 'static) -> Self {
        self.by_type.insert(event_type.into(), Arc::new(handler));
        self
    }

    pub(crate) fn of_type(&self, event_type: &str) -> Option<&Arc<dyn AnyHandler>> {
        self.by_type.get(event_type)
    }

    pub(crate) fn policy(&self) -> Unknown {
        self.unknown
    }

    pub(crate) fn opener(&self) -> &Opener {
        &self.opener
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut types: Vec<_> = self.by_type.keys().collect();
        types.sort();
        f.debug_struct("Handlers")
            .field("types", &types)
            .field("unknown", &self.unknown)
            .finish_non_exhaustive()
    }
}

//! What a consumer does with events.

use std::marker::PhantomData;
use std::pin::Pin;

use deadpool_postgres::Transaction;
use event::envelope::Payload;
use serde::de::DeserializeOwned;
use tracing::Instrument;

use crate::event::{Event, Opened};
use crate::failure::Failure;

/// Handles one event at a time.
///
/// Everything that it does on `tx` is committed together with the claim of the event, or not at all.
/// What it does elsewhere can happen more than once.
///
/// Functions are handlers; a handler with state of its own implements the trait:
///
/// ```
/// use inbox::{Event, Failure, Handler, Transaction};
///
/// #[derive(serde::Deserialize)]
/// struct Settled {
///     amount: i64,
/// }
///
/// struct Ledger {
///     account: String,
/// }
///
/// impl Handler<Settled> for Ledger {
///     async fn handle(&self, event: Event<Settled>, tx: &Transaction<'_>) -> Result<(), Failure> {
///         let sql = "INSERT INTO entries (account, amount) VALUES ($1, $2)";
///         tx.execute(sql, &[&self.account, &event.payload.amount]).await?;
///         Ok(())
///     }
/// }
/// ```
pub trait Handler<T>: Send + Sync + 'static {
    /// Handles the event on the transaction.
    ///
    /// # Errors
    /// The event was not handled; [`Failure`] says what follows.
    fn handle(
        &self,
        event: Event<T>,
        tx: &Transaction<'_>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Handles many events at once, in their order: for instance with one `INSERT … SELECT unnest(…)`.
///
/// If it fails, its events are divided until the one that is at fault is alone.
///
/// ```
/// use inbox::{Event, Failure, Handlers, Transaction};
///
/// #[derive(serde::Deserialize)]
/// struct Settled {
///     amount: i64,
/// }
///
/// async fn post(events: &[Event<Settled>], tx: &Transaction<'_>) -> Result<(), Failure> {
///     let ids: Vec<_> = events.iter().map(|event| event.transfer_id()).collect();
///     let amounts: Vec<_> = events.iter().map(|event| event.payload.amount).collect();
///     let sql = "INSERT INTO entries (transfer_id, amount) \
///                SELECT * FROM unnest($1::text[], $2::bigint[])";
///     tx.execute(sql, &[&ids, &amounts]).await?;
///     Ok(())
/// }
///
/// let handlers = Handlers::new().on_batch("transfers.settled", post);
/// ```
pub trait BatchHandler<T>: Send + Sync + 'static {
    /// Handles the events on the transaction.
    ///
    /// # Errors
    /// None of them was handled; [`Failure`] says what follows for an event that is alone.
    fn handle(
        &self,
        events: &[Event<T>],
        tx: &Transaction<'_>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What `async fn(Event<T>, &Transaction<'_>) -> Result<(), Failure>` is.
#[doc(hidden)]
pub trait HandlerFn<'a, T>: Fn(Event<T>, &'a Transaction<'a>) -> Self::Handling {
    type Handling: Future<Output = Result<(), Failure>> + Send;
}

impl<'a, T, F, H> HandlerFn<'a, T> for F
where
    F: Fn(Event<T>, &'a Transaction<'a>) -> H,
    H: Future<Output = Result<(), Failure>> + Send,
{
    type Handling = H;
}

impl<T: Send + 'static, F> Handler<T> for F
where
    F: for<'a> HandlerFn<'a, T> + Send + Sync + 'static,
{
    async fn handle(&self, event: Event<T>, tx: &Transaction<'_>) -> Result<(), Failure> {
        self(event, tx).await
    }
}

/// What `async fn(&[Event<T>], &Transaction<'_>) -> Result<(), Failure>` is.
#[doc(hidden)]
pub trait BatchHandlerFn<'a, T: 'a>:
    Fn(&'a [Event<T>], &'a Transaction<'a>) -> Self::Handling
{
    type Handling: Future<Output = Result<(), Failure>> + Send;
}

impl<'a, T: 'a, F, H> BatchHandlerFn<'a, T> for F
where
    F: Fn(&'a [Event<T>], &'a Transaction<'a>) -> H,
    H: Future<Output = Result<(), Failure>> + Send,
{
    type Handling = H;
}

impl<T: Send + Sync + 'static, F> BatchHandler<T> for F
where
    F: for<'a> BatchHandlerFn<'a, T> + Send + Sync + 'static,
{
    async fn handle(&self, events: &[Event<T>], tx: &Transaction<'_>) -> Result<(), Failure> {
        self(events, tx).await
    }
}

/// Some of the events given to a handler failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Which one, if that is known.
    pub at: Option<usize>,
    pub failure: Failure,
}

pub(crate) type Handling<'a> = Pin<Box<dyn Future<Output = Result<(), Failed>> + Send + 'a>>;

/// A handler whose payload type is forgotten.
pub(crate) trait AnyHandler: Send + Sync {
    fn handle<'a>(&'a self, events: &'a [Opened], tx: &'a Transaction<'_>) -> Handling<'a>;
}

/// Makes a value of a payload.
type Parse<T> = fn(&Payload) -> Result<T, Failure>;

pub(crate) struct One<T, H> {
    pub handler: H,
    pub parse: Parse<T>,
}

pub(crate) struct Many<T, H> {
    pub handler: H,
    pub parsed: PhantomData<fn() -> T>,
}

impl<T: Send + 'static, H: Handler<T>> AnyHandler for One<T, H> {
    fn handle<'a>(&'a self, events: &'a [Opened], tx: &'a Transaction<'_>) -> Handling<'a> {
        Box::pin(async move {
            for (at, opened) in events.iter().enumerate() {
                let at = Some(at);
                let payload = (self.parse)(&opened.payload);
                let event = opened.with(payload.map_err(|failure| Failed { at, failure })?);
                let handled = self
                    .handler
                    .handle(event, tx)
                    .instrument(opened.span.clone())
                    .await;
                handled.map_err(|failure| Failed { at, failure })?;
            }
            Ok(())
        })
    }
}

impl<T, H> AnyHandler for Many<T, H>
where
    T: DeserializeOwned + Send + Sync + 'static,
    H: BatchHandler<T>,
{
    fn handle<'a>(&'a self, events: &'a [Opened], tx: &'a Transaction<'_>) -> Handling<'a> {
        Box::pin(async move {
            let mut typed = Vec::with_capacity(events.len());
            for (at, opened) in events.iter().enumerate() {
                let at = Some(at);
                let payload = parse(&opened.payload).map_err(|failure| Failed { at, failure })?;
                typed.push(opened.with(payload));
            }
            let span = tracing::info_span!("events", count = typed.len());
            let handled = self.handler.handle(&typed, tx).instrument(span).await;
            let at = (typed.len() == 1).then_some(0);
            handled.map_err(|failure| Failed { at, failure })
        })
    }
}

pub(crate) fn parse<T: DeserializeOwned>(payload: &Payload) -> Result<T, Failure> {
    let parsed = payload.parse::<T>();
    // The error names a field and a place, and may quote a value: a reason must not show a payload.
    parsed.map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = match error.classify() {
            serde_json::error::Category::Data => "does not fit the handler's type",
            _ => "is not JSON",
        };
        Failure::coded(
            "payload",
            format!("the payload {what} (line {line}, column {column})"),
        )
    })
}

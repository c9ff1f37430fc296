//! Payloads that know what they are.

/// A payload that is always of one event type.
///
/// ```
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Settled {
///     amount_cents: i64,
/// }
///
/// impl event::EventType for Settled {
///     const TYPE: &'static str = "transfers.settled";
/// }
/// ```
pub trait EventType {
    /// The event type, such as `transfers.settled`.
    const TYPE: &'static str;
}

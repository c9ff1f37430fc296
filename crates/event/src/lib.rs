//! What producers and consumers of events share.
//!
//! [`envelope`] is an event as a consumer sees it: read from the value and the headers of a Kafka
//! record, in the formats that the relay writes. The crate does no IO and knows neither clock nor
//! connection.

pub mod envelope;

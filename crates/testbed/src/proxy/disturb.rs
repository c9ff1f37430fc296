//! Faults of single requests, for a proxy that understands Kafka's protocol.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::proxy::kafka::{Action, Api};
use crate::proxy::{Protocol, Proxy};

/// Each fault strikes the next `count` requests of a kind, over all connections; several faults of
/// one kind strike in the order in which they were asked for. [`Proxy::heal`] ends them all.
///
/// # Panics
/// All but the counters do so on a proxy that was not started with [`Proxy::start_kafka`]: they
/// would never strike.
impl Proxy {
    /// The server executes the request and answers; the answer is lost, and all that follows it on
    /// that connection, which stays open. So the client waits until its own timeout.
    pub fn swallow_responses(&self, api: Api, count: u32) {
        self.disturb(api, Action::SwallowResponse, count);
    }

    /// The server executes the request and answers; then the connection is closed in place of the
    /// answer.
    pub fn cut_after_request(&self, api: Api, count: u32) {
        self.disturb(api, Action::CutAfterRequest, count);
    }

    /// The connection is closed in place of forwarding the request. A client can't tell this from
    /// [`Proxy::cut_after_request`].
    pub fn cut_before_request(&self, api: Api, count: u32) {
        self.disturb(api, Action::CutBeforeRequest, count);
    }

    /// The request, and what follows it on its connection, stays in the proxy until
    /// [`Proxy::release_requests`] or [`Proxy::heal`], and reaches the server then, even if the
    /// client has gone meanwhile.
    pub fn hold_requests(&self, api: Api, count: u32) {
        self.disturb(api, Action::HoldRequest(None), count);
    }

    /// As [`Proxy::hold_requests`], but at most for this time.
    pub fn hold_requests_for(&self, api: Api, count: u32, time: Duration) {
        self.disturb(api, Action::HoldRequest(Some(time)), count);
    }

    /// As [`Proxy::hold_requests`], and the client loses its connection at once. So it asks again on
    /// another one, and the first request arrives when released.
    pub fn strand_requests(&self, api: Api, count: u32) {
        self.disturb(api, Action::StrandRequest, count);
    }

    /// Lets all requests go on that are held now. Those that come later are held as before.
    pub fn release_requests(&self) {
        self.link.release();
    }

    /// How many requests are held now.
    pub fn held(&self) -> usize {
        self.link.lock().rules.holding
    }

    /// Waits until so many requests are held.
    ///
    /// # Errors
    /// When fewer are held after `within`.
    pub fn await_held(&self, count: usize, within: Duration) -> Result<()> {
        if self.link.await_holding(count, within) {
            return Ok(());
        }
        Err(Error::Timeout {
            what: format!("{count} requests held by the proxy"),
            within,
            tail: String::new(),
        })
    }

    /// How many requests of this kind came from clients since the start.
    pub fn seen(&self, api: Api) -> u64 {
        self.link.lock().rules.seen(api)
    }

    /// How many of them a fault has struck.
    pub fn disturbed(&self, api: Api) -> u64 {
        self.link.lock().rules.disturbed(api)
    }

    /// The error codes with which the server answered disturbed requests that it executed, late
    /// ones among them; 0 is success. Only for EndTxn and InitProducerId.
    pub fn withheld_errors(&self, api: Api) -> Vec<i16> {
        self.link.lock().rules.errors(api)
    }

    fn disturb(&self, api: Api, action: Action, count: u32) {
        assert!(
            self.protocol == Protocol::Kafka,
            "{action:?} on a proxy that does not understand Kafka"
        );
        self.link
            .change(|state| state.rules.add(api, action, count));
    }
}

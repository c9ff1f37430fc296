use std::collections::{HashMap, HashSet};

use crate::proxy::kafka::Api;

/// The head of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub api: Api,
    version: i16,
    pub correlation: i32,
}

impl Request {
    /// Reads a frame's first piece; none if it is no request.
    pub fn parse(frame: &[u8]) -> Option<Request> {
        let field = |at: usize| Some(i16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
        Some(Request {
            api: Api(field(4)?),
            version: field(6)?,
            correlation: i32::from_be_bytes(frame.get(8..12)?.try_into().ok()?),
        })
    }
}

/// The answer to a request of this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Response {
    pub api: Api,
    /// The error code, for the kinds that begin with one.
    pub error: Option<i16>,
    /// Its request was held back.
    pub late: bool,
}

/// What is asked and not yet answered on one connection. An answer names only the number that its
/// request bore.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    asked: HashMap<i32, Request>,
    /// Requests that were held back: the connection to the server stays until they are answered.
    held: HashSet<i32>,
    /// The client hears nothing any more.
    pub muted: bool,
}

impl Exchange {
    pub fn ask(&mut self, request: Request) {
        self.asked.insert(request.correlation, request);
    }

    pub fn hold(&mut self, request: Request) {
        self.held.insert(request.correlation);
    }

    /// Which request this answers; none when nobody asked.
    pub fn answer(&mut self, frame: &[u8]) -> Option<Response> {
        let correlation = i32::from_be_bytes(frame.get(4..8)?.try_into().ok()?);
        let Request { api, version, .. } = self.asked.remove(&correlation)?;
        Some(Response {
            api,
            error: api.leading_error(version, frame.get(8..)?),
            late: self.held.remove(&correlation),
        })
    }

    pub fn owes_answers(&self) -> bool {
        !self.held.is_empty()
    }

    /// The server has gone: it will not answer.
    pub fn give_up(&mut self) {
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// EndTxn, version 1, number 7.
    const REQUEST: [u8; 12] = [0, 0, 0, 8, 0, 26, 0, 1, 0, 0, 0, 7];
    const ANSWER: [u8; 14] = [0, 0, 0, 10, 0, 0, 0, 7, 0, 0, 0, 0, 0, 90];

    #[test]
    fn an_answer_is_matched_to_its_request_once() {
        let mut exchange = Exchange::default();
        exchange.ask(Request::parse(&REQUEST).unwrap());
        let expected = Response {
            api: Api::END_TXN,
            error: Some(90),
            late: false,
        };
        assert_eq!(exchange.answer(&ANSWER), Some(expected));
        assert_eq!(exchange.answer(&ANSWER), None);
    }

    #[test]
    fn an_answer_to_a_held_request_is_owed_until_it_comes() {
        let mut exchange = Exchange::default();
        let request = Request::parse(&REQUEST).unwrap();
        exchange.ask(request);
        exchange.hold(request);
        assert!(exchange.owes_answers());
        assert!(exchange.answer(&ANSWER).unwrap().late);
        assert!(!exchange.owes_answers());
    }
}

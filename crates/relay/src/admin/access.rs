//! Who may ask: whoever reaches the port or, with a token, whoever knows that.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{AppendHeaders, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{Admin, Secret};

/// The rule of one process.
#[derive(Clone)]
pub(super) struct Access {
    token: Option<Secret>,
    probes: Probes,
}

/// Whether `/live` and `/ready` answer without a token: with their status code and nothing else.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Probes {
    Open,
    Closed,
}

impl Access {
    /// What the configuration says.
    pub fn of(admin: &Admin) -> Self {
        Self {
            token: admin.token.clone(),
            probes: match admin.open_probes {
                true => Probes::Open,
                false => Probes::Closed,
            },
        }
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        // The file may have changed.
        let token = token.current();
        let given = headers.get(header::AUTHORIZATION).map(|v| v.as_bytes());
        let is_token = |given: &[u8]| is_same(given, token.expose().trim().as_bytes());
        given.and_then(bearer).is_some_and(is_token)
            || given
                .and_then(password)
                .is_some_and(|given| is_token(&given))
    }
}

/// The token of `Bearer TOKEN`; the scheme is not case-sensitive (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

/// The password of `Basic BASE64`, whatever the user's name is: what a browser asks a person for (RFC 7617).
fn password(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, encoded) = value.split_at_checked(b"Basic ".len())?;
    let is_basic = scheme.eq_ignore_ascii_case(b"Basic ");
    let pair = is_basic.then(|| STANDARD.decode(encoded.trim_ascii()).ok())??;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

/// Compares digests in constant time, so that the time tells neither where they differ nor how long the
/// token is. An empty token, of an emptied file, is nobody's.
fn is_same(given: &[u8], token: &[u8]) -> bool {
    let (given, known) = (Sha256::digest(given), Sha256::digest(token));
    !token.is_empty() && bool::from(given[..].ct_eq(&known[..]))
}

/// Stands before every endpoint.
pub(super) async fn check(State(access): State<Access>, request: Request, next: Next) -> Response {
    if access.admits(request.headers()) {
        return next.run(request).await;
    }
    let is_probe = matches!(request.uri().path(), "/live" | "/ready");
    if is_probe && access.probes == Probes::Open {
        let status = next.run(request).await.status();
        return (status, Json(json!({ "ok": status.is_success() }))).into_response();
    }
    // A browser asks a person only for what it knows.
    let challenge = AppendHeaders([
        (header::WWW_AUTHENTICATE, "Bearer realm=\"outboxd\""),
        (
            header::WWW_AUTHENTICATE,
            "Basic realm=\"outboxd, the token as password\"",
        ),
    ]);
    let body = Json(json!({ "error": "a bearer token is needed: see admin.token_file" }));
    (StatusCode::UNAUTHORIZED, challenge, body).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn admits(token: Option<&str>, given: Option<&str>) -> bool {
        let access = Access {
            token: token.map(Secret::new),
            probes: Probes::Closed,
        };
        let mut headers = HeaderMap::new();
        if let Some(given) = given {
            headers.insert(header::AUTHORIZATION, given.parse().unwrap());
        }
        access.admits(&headers)
    }

    #[test]
    fn only_the_token_opens() {
        for given in ["Bearer right", "bearer right", "BEARER  right "] {
            assert!(admits(Some("right"), Some(given)), "{given}");
        }
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert!(admits(Some("right"), Some(&basic("anybody:right"))));
        for wrong in ["right", "right:", ":wrong", "right:wrong"] {
            assert!(!admits(Some("right"), Some(&basic(wrong))), "{wrong}");
        }
        for given in [
            "Bearer wrong",
            "Bearer righ",
            "Bearer rightt",
            "Bearer ",
            "Bearer",
            "Basic right",
            "right",
        ] {
            assert!(!admits(Some("right"), Some(given)), "{given}");
        }
        assert!(!admits(Some("right"), None));
    }

    #[test]
    fn an_empty_token_opens_to_nobody() {
        for given in [None, Some("Bearer "), Some("Bearer x")] {
            assert!(!admits(Some(""), given), "{given:?}");
        }
    }

    #[test]
    fn without_a_token_everybody_may_ask() {
        assert!(admits(None, None));
        assert!(admits(None, Some("Bearer x")));
    }
}

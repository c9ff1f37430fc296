//! Keys of the process.

use std::time::Duration;

use super::super::Config;
use super::super::allowed::Allowed;
use super::super::field::Field;
use super::{Key, key, open_key};

/// Keys at the top of the file.
pub(in super::super) static GLOBAL: &[Key<Config>] = &[
    key(
        "shutdown_timeout",
        |c| Field::Time(&mut c.shutdown_timeout),
        Allowed::Time(Duration::from_secs(1), Duration::from_secs(600)),
        "Time for draining after SIGTERM. What is not published by then is published after the \
         next start.",
    ),
    key(
        "admin.listen",
        |c| Field::Address(&mut c.admin.listen),
        Allowed::Anything,
        "Address of the admin endpoints. They listen on loopback unless told otherwise. Port 0 takes a \
         free one.",
    ),
    open_key(
        "admin.tls_cert",
        |c| Field::MaybePath(&mut c.admin.tls_cert),
        Allowed::NonEmpty,
        "PEM file of the admin endpoints' certificate, with the chain behind it; needs `tls_key`. Both \
         are read again when they change.",
        "plain HTTP",
        "\"/etc/outboxd/admin.pem\"",
    ),
    open_key(
        "admin.tls_key",
        |c| Field::MaybePath(&mut c.admin.tls_key),
        Allowed::NonEmpty,
        "PEM file of the certificate's key.",
        "plain HTTP",
        "\"/etc/outboxd/admin.key\"",
    ),
    open_key(
        "admin.token_file",
        |c| Field::MaybePath(&mut c.admin.token_file),
        Allowed::NonEmpty,
        "File with a token of 16 characters or more, which requests must then carry as \
         `Authorization: Bearer TOKEN`. It is read again for each request.",
        "whoever reaches the port may ask",
        "\"/run/secrets/outboxd-admin\"",
    ),
    key(
        "admin.open_probes",
        |c| Field::Flag(&mut c.admin.open_probes),
        Allowed::Anything,
        "With a token: `/live` and `/ready` answer without it too, with the status code alone.",
    ),
    key(
        "log.format",
        |c| Field::Choice(&mut c.log.format),
        Allowed::Anything,
        "`json` writes one object per line, `text` is for reading at a terminal.",
    ),
    key(
        "log.level",
        |c| Field::Text(&mut c.log.level),
        Allowed::Texts(
            "error, warn, info, debug or trace, or several target=level separated by commas",
            is_log_level,
        ),
        "Least severe level that is written, for everything or for each target.",
    ),
    key(
        "log.events",
        |c| Field::Flag(&mut c.log.events),
        Allowed::Anything,
        "Writes one line per event with its eventId and transferId. Payloads are never written.",
    ),
    key(
        "log.repeats",
        |c| Field::Whole(&mut c.log.repeats),
        Allowed::Whole(0, 1_000_000),
        "How many like lines are written in a minute: of the same place in the program, message, pipeline, `code` and \
         `class`. One more then tells how many were left out (`left_out`). 0 leaves none out; none is ever left out of \
         `log.events`, debug and trace.",
    ),
    open_key(
        "otlp.endpoint",
        |c| Field::MaybeText(&mut c.otlp.endpoint),
        Allowed::Texts(
            "an http or https URL without user and password",
            is_http_url,
        ),
        "Base URL of a collector that takes OTLP over HTTP: it gets a span per published event, and what `metrics` and \
         `logs` say. Credentials belong into OTEL_EXPORTER_OTLP_HEADERS; that and OTEL_EXPORTER_OTLP_TIMEOUT hold as \
         OpenTelemetry defines them.",
        "nothing is exported",
        "\"http://localhost:4318\"",
    ),
    key(
        "otlp.sample_ratio",
        |c| Field::Factor(&mut c.otlp.sample_ratio),
        Allowed::Factor(0.0, 1.0),
        "Of the events without a trace of their own, the part that gets one. Events that come with a `traceparent` \
         have a span if, and only if, that is sampled.",
    ),
    key(
        "otlp.metrics",
        |c| Field::Flag(&mut c.otlp.metrics),
        Allowed::Anything,
        "Sends what `/metrics` shows to that collector too; needs `endpoint`.",
    ),
    key(
        "otlp.metrics_interval",
        |c| Field::Time(&mut c.otlp.metrics_interval),
        Allowed::Time(Duration::from_secs(1), Duration::from_secs(3600)),
        "How often metrics are sent.",
    ),
    key(
        "otlp.logs",
        |c| Field::Flag(&mut c.otlp.logs),
        Allowed::Anything,
        "Sends the lines of the log to that collector too; needs `endpoint`.",
    ),
];

fn is_http_url(text: &str) -> bool {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    rest.is_some_and(|rest| {
        let authority = rest.split('/').next().unwrap_or_default();
        !authority.is_empty() && !authority.contains('@') && !rest.contains(char::is_whitespace)
    })
}

fn is_log_level(text: &str) -> bool {
    let is_level = |word: &str| {
        ["off", "error", "warn", "info", "debug", "trace"].contains(&word.to_lowercase().as_str())
    };
    let is_target = |word: &str| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_:-".contains(c))
    };
    text.split(',')
        .map(str::trim)
        .all(|part| match part.split_once('=') {
            Some((target, level)) => is_target(target) && is_level(level),
            None => is_level(part),
        })
}

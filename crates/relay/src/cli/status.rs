//! `outboxd status`: asks a running relay.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::Exit;
use super::admin_client::{Endpoint, Scheme};
use super::problem::Problem;
use crate::config::{self, Admin, Overrides, Secret};

#[derive(Args)]
pub(super) struct StatusArgs {
    /// TOML file with the relay's admin.listen; also OUTBOXD_CONFIG.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the relay's admin endpoints listen, such as http://localhost:8080 or
    /// https://relay.internal:8443, instead of what the configuration says.
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    url: Option<String>,
    /// File of the relay's token; by default that of the configuration.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file of who signed the relay's certificate, where that is no public authority.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Print the relay's answer as it is.
    #[arg(long)]
    json: bool,
}

pub(super) fn status(args: &StatusArgs) -> Result<(), Exit> {
    let endpoint = endpoint(args)?;
    let answer = endpoint.get("/status").and_then(|body| {
        let parsed = serde_json::from_str::<Value>(&body);
        parsed
            .map(|status| (body, status))
            .map_err(|_| endpoint.stranger())
    });
    match answer {
        Ok((body, _)) if args.json => println!("{body}"),
        Ok((_, status)) => print!("{}", table(&status)),
        Err(problem) => {
            problem.report();
            return Err(Exit::Failure);
        }
    }
    Ok(())
}

/// Where the relay is: as the flags say, else as the configuration does.
fn endpoint(args: &StatusArgs) -> Result<Endpoint, Exit> {
    let usage = |problem: Problem| {
        problem.report();
        Exit::Usage
    };
    let token = match &args.token_file {
        Some(file) => Some(Secret::read(file).map_err(|error| {
            let message = format!("reading {}: {error}", file.display());
            usage(Problem::new(
                message,
                "Name a file that holds the relay's token.",
            ))
        })?),
        None => None,
    };
    let ca = args.ca_file.as_deref();
    if let Some(url) = &args.url {
        let (scheme, authority) = Endpoint::parse(url).map_err(usage)?;
        return Endpoint::new(scheme, authority, ca, token).map_err(usage);
    }
    let admin = configured(args.config.clone())?;
    let scheme = match admin.tls_cert {
        Some(_) => Scheme::Https,
        None => Scheme::Http,
    };
    let authority = reachable(admin.listen).to_string();
    let roots = ca.or(admin.tls_cert.as_deref());
    Endpoint::new(scheme, authority, roots, token.or(admin.token)).map_err(usage)
}

/// How the configured relay listens. Only that matters here, so what `run` also needs may be
/// missing.
fn configured(file: Option<PathBuf>) -> Result<Admin, Exit> {
    let overrides = Overrides {
        config: file,
        postgres: Some("postgres://localhost/unused".to_owned()),
        sink: Some("stdout".to_owned()),
        ..Overrides::default()
    };
    let config = config::load_from_process(&overrides).map_err(|errors| {
        eprintln!("{errors}");
        Exit::Config
    })?;
    Ok(config.admin)
}

/// One that listens on all addresses is asked on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

const HEADINGS: [&str; 7] = [
    "PIPELINE",
    "STATE",
    "READY",
    "CONFIRMED",
    "SLOT LAG",
    "WAL KEPT",
    "PUBLISH LAG",
];

/// The answer for people: a line per pipeline, and below what is wrong with it.
fn table(status: &Value) -> String {
    let pipelines = status["pipelines"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(pipelines.iter().map(row));
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let mut text = format!("outboxd {}\n", status["version"].as_str().unwrap_or("?"));
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        let _ = writeln!(text, "{}", line.join("  ").trim_end());
    }
    for pipeline in pipelines {
        complaints(pipeline, &mut text);
    }
    text
}

fn row(pipeline: &Value) -> [String; 7] {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let ready = match pipeline["ready"].as_bool() {
        Some(true) => "yes",
        Some(false) | None => "no",
    };
    let slot = &pipeline["slot"];
    [
        text(&pipeline["pipeline"]),
        text(&pipeline["state"]),
        ready.to_owned(),
        text(&pipeline["confirmed_lsn"]),
        bytes(&slot["lag_bytes"]),
        bytes(&slot["retained_bytes"]),
        seconds(&pipeline["publish_lag_seconds"]),
    ]
}

fn bytes(value: &Value) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let Some(bytes) = value.as_f64() else {
        return "-".to_owned();
    };
    let (mut size, mut unit) = (bytes, "B");
    for larger in UNITS {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, larger);
    }
    match unit {
        "B" => format!("{size:.0} B"),
        _ => format!("{size:.1} {unit}"),
    }
}

fn seconds(value: &Value) -> String {
    match value.as_f64() {
        Some(seconds) => format!("{seconds:.1} s"),
        None => "-".to_owned(),
    }
}

fn complaints(pipeline: &Value, text: &mut String) {
    let name = pipeline["pipeline"].as_str().unwrap_or("?");
    let reasons = pipeline["reasons"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let reasons: Vec<_> = reasons.iter().filter_map(Value::as_str).collect();
    for reason in &reasons {
        let _ = writeln!(text, "{name}: not ready: {reason}");
    }
    // An earlier failure may have nothing to do with what is wrong now.
    let told = |message: &str| reasons.iter().any(|reason| reason.contains(message));
    for failure in ["last_failure", "catalog_failure"].map(|failure| &pipeline[failure]) {
        let is_told = failure["message"].as_str().is_some_and(told);
        if let (true, Some(remedy)) = (is_told, failure["remedy"].as_str()) {
            let _ = writeln!(text, "{name}: remedy: {remedy}");
        }
    }
    let write_back = &pipeline["write_back_failure"];
    if let (Some(message), Some(remedy)) = (
        write_back["message"].as_str(),
        write_back["remedy"].as_str(),
    ) {
        let _ = writeln!(text, "{name}: write-back waits: {message}");
        let _ = writeln!(text, "{name}: remedy: {remedy}");
    }
    let consumers = pipeline["consumers"].as_array();
    for consumer in consumers.map_or(&[][..], Vec::as_slice) {
        let failure = &consumer["failure"];
        if let (Some(message), Some(remedy)) =
            (failure["message"].as_str(), failure["remedy"].as_str())
        {
            let _ = writeln!(text, "{name}: consumer lag is not known: {message}");
            let _ = writeln!(text, "{name}: remedy: {remedy}");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_relay_is_shown_as_a_table_with_its_complaints() {
        let status = json!({ "version": "1.2.3", "pipelines": [
            {
                "pipeline": "outbox", "state": "streaming", "ready": true, "reasons": [],
                "confirmed_lsn": "0/1A2B3C", "publish_lag_seconds": 0.04,
                "slot": { "lag_bytes": 512, "retained_bytes": 3 << 20 },
                "last_failure": { "remedy": "Nothing, any more." },
                "write_back_failure": { "message": "locked", "remedy": "Unlock." },
                "consumers": [{ "failure": null },
                    { "failure": { "message": "group g: denied", "remedy": "Grant." } }],
            },
            {
                "pipeline": "b", "state": "stopped", "ready": false, "slot": null,
                "confirmed_lsn": null, "publish_lag_seconds": null,
                "reasons": ["stopped: slot \"b\" is lost [slot-lost]"],
                "last_failure": { "message": "slot \"b\" is lost", "remedy": "Compare." },
            },
            {
                "pipeline": "c", "state": "streaming", "ready": false, "slot": null,
                "confirmed_lsn": null, "publish_lag_seconds": null,
                "reasons": ["the catalog has not been readable: locked [catalog-blocked]"],
                "last_failure": { "message": "no broker", "remedy": "Start the brokers." },
                "catalog_failure": { "message": "locked", "remedy": "End the lock." },
            },
        ]});
        let expected = "outboxd 1.2.3\n\
            PIPELINE  STATE      READY  CONFIRMED  SLOT LAG  WAL KEPT  PUBLISH LAG\n\
            outbox    streaming  yes    0/1A2B3C   512 B     3.0 MiB   0.0 s\n\
            b         stopped    no     -          -         -         -\n\
            c         streaming  no     -          -         -         -\n\
            outbox: write-back waits: locked\n\
            outbox: remedy: Unlock.\n\
            outbox: consumer lag is not known: group g: denied\n\
            outbox: remedy: Grant.\n\
            b: not ready: stopped: slot \"b\" is lost [slot-lost]\n\
            b: remedy: Compare.\n\
            c: not ready: the catalog has not been readable: locked [catalog-blocked]\n\
            c: remedy: End the lock.\n";
        assert_eq!(table(&status), expected);
    }

    #[test]
    fn an_answer_of_another_shape_is_shown_as_far_as_it_goes() {
        assert!(table(&json!({})).starts_with("outboxd ?\nPIPELINE"));
        assert!(table(&json!({ "pipelines": [1] })).contains("\n-         -"));
    }

    #[test]
    fn a_relay_that_listens_everywhere_is_asked_on_loopback() {
        let check = |listen: &str, expected: &str| {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), expected);
        };
        check("0.0.0.0:8080", "127.0.0.1:8080");
        check("[::]:8080", "[::1]:8080");
        check("10.0.0.1:8080", "10.0.0.1:8080");
    }

    #[test]
    fn sizes_are_shown_in_units_that_fit() {
        for (size, expected) in [
            (0_i64, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 30, "5.0 GiB"),
            (5 << 50, "5120.0 TiB"),
        ] {
            assert_eq!(bytes(&json!(size)), expected);
        }
        assert_eq!(bytes(&Value::Null), "-");
    }
}

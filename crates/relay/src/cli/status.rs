//! `outboxd status`: asks a running relay.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::Exit;
use super::problem::Problem;
use crate::config::{self, Overrides};

const PATIENCE: Duration = Duration::from_secs(5);
/// A relay's answer takes less than a kilobyte per pipeline.
const ANSWER_BYTES: u64 = 4 << 20;
const HTTP_PORT: u16 = 80;

#[derive(Args)]
pub(super) struct StatusArgs {
    /// TOML file with the relay's admin.listen; also OUTBOXD_CONFIG.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the relay's admin endpoints listen, such as http://localhost:8080, instead of what the
    /// configuration says.
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    url: Option<String>,
    /// Print the relay's answer as it is.
    #[arg(long)]
    json: bool,
}

pub(super) fn status(args: &StatusArgs) -> Result<(), Exit> {
    let authority = match &args.url {
        Some(url) => authority(url).map_err(|problem| {
            problem.report();
            Exit::Usage
        })?,
        None => configured(args.config.clone())?.to_string(),
    };
    let answer = ask(&authority).and_then(|body| {
        let parsed = serde_json::from_str::<Value>(&body);
        parsed
            .map(|status| (body, status))
            .map_err(|_| stranger(&authority))
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

/// Where the configured relay listens. Only that matters here, so what `run` also needs may be
/// missing.
fn configured(file: Option<PathBuf>) -> Result<SocketAddr, Exit> {
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
    Ok(reachable(config.admin.listen))
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

/// `host:port` of an URL; a path behind it is dropped.
fn authority(url: &str) -> Result<String, Problem> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let authority = rest.split('/').next().unwrap_or_default();
    if rest.contains("://") || authority.is_empty() || authority.contains('@') {
        return Err(Problem::new(
            "--url is not a plain http URL",
            "Write it as http://host:port; the admin endpoints speak neither TLS nor passwords.",
        ));
    }
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(match has_port {
        true => authority.to_owned(),
        false => format!("{authority}:{HTTP_PORT}"),
    })
}

fn ask(authority: &str) -> Result<String, Problem> {
    let answer = exchange(authority).map_err(|error| silent(authority, &error))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| stranger(authority))?;
    let status = head.lines().next().and_then(|line| line.split(' ').nth(1));
    match status {
        Some("200") => Ok(body.to_owned()),
        Some(_) | None => Err(stranger(authority)),
    }
}

/// HTTP/1.0, so that the answer comes in one piece and the connection ends behind it.
fn exchange(authority: &str) -> io::Result<String> {
    let mut stream = connect(authority)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /status HTTP/1.0\r\nHost: {authority}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}

fn connect(authority: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn silent(authority: &str, error: &io::Error) -> Problem {
    Problem::new(
        format!("no relay answers on {authority}: {error}"),
        "Start `outboxd run`, or say where it listens with --url (its admin.listen).",
    )
}

fn stranger(authority: &str) -> Problem {
    Problem::new(
        format!("what answers on {authority} is not outboxd's /status"),
        "Say where the relay listens with --url (its admin.listen).",
    )
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
    fn urls_are_taken_with_and_without_scheme_path_and_port() {
        let cases = [
            ("http://relay:8080", "relay:8080"),
            ("http://relay:8080/status", "relay:8080"),
            ("relay:8080", "relay:8080"),
            ("http://relay", "relay:80"),
            ("http://[::1]:8080/", "[::1]:8080"),
            ("http://[::1]", "[::1]:80"),
        ];
        for (url, expected) in cases {
            assert_eq!(authority(url).unwrap(), expected, "{url}");
        }
        for url in ["https://relay:8080", "http://", "http://me:pw@relay"] {
            assert!(authority(url).is_err(), "{url}");
        }
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

//! `outboxd status`: asks a running relay.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::Exit;
use super::admin_client::Endpoint;
use super::problem::Problem;
use super::running::RunningRelay;
use crate::cli::out;

#[derive(Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    relay: RunningRelay,
    /// Print the relay's answer as it is.
    #[arg(long)]
    json: bool,
    /// Ask again every second, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

/// From one look to the next.
const WATCH_STEP: Duration = Duration::from_secs(1);
/// To the upper left, and nothing below it.
const CLEAR: &str = "\x1b[H\x1b[J";

pub(super) fn status(args: &StatusArgs) -> Result<(), Exit> {
    let endpoint = args.relay.endpoint()?;
    if !args.watch {
        return look(&endpoint, args)
            .map(|text| out::write(format_args!("{text}")))
            .map_err(|problem| {
                problem.report();
                Exit::Failure
            });
    }
    let clear = match !args.json && std::io::stdout().is_terminal() {
        true => CLEAR,
        false => "",
    };
    loop {
        // A relay that is restarted answers again.
        let text = look(&endpoint, args).unwrap_or_else(|problem| match args.json {
            true => format!("{}\n", json!({ "error": problem.message })),
            false => format!("{}\n", problem.message),
        });
        // A reader that has gone has seen enough.
        let written =
            write!(std::io::stdout(), "{clear}{text}").and_then(|()| std::io::stdout().flush());
        if written.is_err() {
            return Ok(());
        }
        std::thread::sleep(WATCH_STEP);
    }
}

fn look(endpoint: &Endpoint, args: &StatusArgs) -> Result<String, Problem> {
    let (body, status) = endpoint.status()?;
    Ok(match args.json {
        true => format!("{body}\n"),
        false => table(&status),
    })
}

const HEADINGS: [&str; 8] = [
    "PIPELINE",
    "STATE",
    "READY",
    "CONFIRMED",
    "SLOT LAG",
    "WAL KEPT",
    "BACKLOG",
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

fn row(pipeline: &Value) -> [String; 8] {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let ready = match pipeline["ready"].as_bool() {
        Some(true) => "yes",
        Some(false) | None => "no",
    };
    // Old figures would look like those of now.
    let known = |shown: String| match pipeline["stale"].as_bool() {
        Some(true) => "-".to_owned(),
        Some(false) | None => shown,
    };
    let slot = &pipeline["slot"];
    [
        text(&pipeline["pipeline"]),
        text(&pipeline["state"]),
        ready.to_owned(),
        text(&pipeline["confirmed_lsn"]),
        known(bytes(&slot["lag_bytes"])),
        known(bytes(&slot["retained_bytes"])),
        known(count(&pipeline["activity"]["backlog"])),
        seconds(&pipeline["publish_lag_seconds"]),
    ]
}

fn count(value: &Value) -> String {
    value
        .as_u64()
        .map_or_else(|| "-".to_owned(), |count| count.to_string())
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
    let failures = ["trouble", "catalog_failure", "last_failure"].map(|failure| &pipeline[failure]);
    let present = failures
        .iter()
        .filter(|failure| failure["message"].as_str().is_some_and(told));
    let mut remedies: Vec<_> = present
        .filter_map(|failure| failure["remedy"].as_str())
        .collect();
    remedies.dedup();
    for remedy in remedies {
        let _ = writeln!(text, "{name}: remedy: {remedy}");
    }
    let write_back = &pipeline["write_back_failure"];
    if let (Some(message), Some(remedy)) = (
        write_back["message"].as_str(),
        write_back["remedy"].as_str(),
    ) {
        let _ = writeln!(text, "{name}: write-back waits: {message}");
        let _ = writeln!(text, "{name}: remedy: {remedy}");
    }
    let told = [
        (
            "parked_keys",
            "keys are parked: their events wait for `outboxd dlq release`",
        ),
        (
            "dead_letters",
            "dead letters since its start: `outboxd dlq stats` says which are open",
        ),
    ];
    for (figure, meaning) in told {
        if let Some(count @ 1..) = pipeline["activity"][figure].as_u64() {
            let _ = writeln!(text, "{name}: {count} {meaning}");
        }
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
                "activity": { "backlog": 1234, "parked_keys": 2, "dead_letters": 0 },
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
            PIPELINE  STATE      READY  CONFIRMED  SLOT LAG  WAL KEPT  BACKLOG  PUBLISH LAG\n\
            outbox    streaming  yes    0/1A2B3C   512 B     3.0 MiB   1234     0.0 s\n\
            b         stopped    no     -          -         -         -        -\n\
            c         streaming  no     -          -         -         -        -\n\
            outbox: write-back waits: locked\n\
            outbox: remedy: Unlock.\n\
            outbox: 2 keys are parked: their events wait for `outboxd dlq release`\n\
            outbox: consumer lag is not known: group g: denied\n\
            outbox: remedy: Grant.\n\
            b: not ready: stopped: slot \"b\" is lost [slot-lost]\n\
            b: remedy: Compare.\n\
            c: not ready: the catalog has not been readable: locked [catalog-blocked]\n\
            c: remedy: End the lock.\n";
        assert_eq!(table(&status), expected);
    }

    #[test]
    fn old_figures_are_not_shown_as_those_of_now() {
        let status = json!({ "pipelines": [{
            "pipeline": "outbox", "state": "stopped", "ready": false, "stale": true,
            "publish_lag_seconds": 8.6, "activity": { "backlog": 0 },
            "slot": { "lag_bytes": 0, "retained_bytes": 328 },
        }] });
        let row = row(&status["pipelines"][0]);
        assert_eq!(row[4..], ["-", "-", "-", "8.6 s"]);
    }

    #[test]
    fn an_answer_of_another_shape_is_shown_as_far_as_it_goes() {
        assert!(table(&json!({})).starts_with("outboxd ?\nPIPELINE"));
        assert!(table(&json!({ "pipelines": [1] })).contains("\n-         -"));
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

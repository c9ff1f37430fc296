//! `outboxd wait`: until every event that is committed now is durable in Kafka.

use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::Exit;
use super::problem::Problem;
use super::running::RunningRelay;
use crate::cli::out::say;
use crate::config::parse_duration;

/// How often the relay is asked.
const STEP: Duration = Duration::from_millis(200);
const BEHIND: &str =
    "Ask the active relay, not a standby. `outboxd status` says what is in its way.";

#[derive(Args)]
pub(super) struct WaitArgs {
    #[command(flatten)]
    relay: RunningRelay,
    /// Give up after this time, such as 60s or 5m.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "60s")]
    timeout: Duration,
}

pub(super) fn wait(args: &WaitArgs) -> Result<(), Exit> {
    let endpoint = args.relay.endpoint()?;
    let began = Instant::now();
    loop {
        // A relay that is restarted answers again.
        let (missing, remedy) = match endpoint.status() {
            Ok((_, status)) => (missing(&status, began.elapsed()), BEHIND.to_owned()),
            Err(problem) => (Some(problem.message), problem.remedy),
        };
        let Some(missing) = missing else {
            say!("every event that was committed is durable in Kafka");
            return Ok(());
        };
        if began.elapsed() > args.timeout {
            let message = format!(
                "not everything is durable in Kafka after {:?}: {missing}",
                args.timeout
            );
            Problem::new(message, remedy).report();
            return Err(Exit::Failure);
        }
        sleep(STEP);
    }
}

/// What is in the way. A lag of 0 speaks of all WAL that was there at the last look at it; so it counts only if
/// that look came after the command.
fn missing(status: &Value, waited: Duration) -> Option<String> {
    let pipelines = status["pipelines"].as_array();
    let pipelines = pipelines.map_or(&[][..], Vec::as_slice);
    let waits = pipelines.iter().find_map(|pipeline| {
        let name = pipeline["pipeline"].as_str().unwrap_or("?");
        let state = pipeline["state"].as_str().unwrap_or("?");
        let age = pipeline["slot_age_seconds"].as_f64();
        match pipeline["publish_lag_seconds"].as_f64() {
            None => Some(format!("{name} is {state}, and says nothing of its lag")),
            Some(lag) if lag > 0.0 => Some(format!("{name} is {state}, {lag:.1} s behind")),
            Some(_) if age.is_some_and(|age| age < waited.as_secs_f64()) => None,
            Some(_) => Some(format!(
                "{name} is {state}, and has not looked at the WAL since"
            )),
        }
    });
    match pipelines.is_empty() {
        true => Some("the relay has no pipeline".to_owned()),
        false => waits,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(lag: Value, age: f64) -> Option<String> {
        let status = json!({ "pipelines": [{
            "pipeline": "p", "state": "streaming", "publish_lag_seconds": lag, "slot_age_seconds": age,
        }]});
        missing(&status, Duration::from_secs(1))
    }

    #[test]
    fn only_a_look_after_the_command_counts() {
        assert_eq!(of(json!(0.0), 0.5), None);
        assert!(of(json!(0.0), 1.5).is_some_and(|text| text.contains("not looked")));
    }

    #[test]
    fn what_lags_or_does_not_say_is_waited_for() {
        assert!(of(json!(2.5), 0.5).is_some_and(|text| text.contains("2.5 s behind")));
        assert!(of(Value::Null, 0.5).is_some_and(|text| text.contains("says nothing")));
        assert!(missing(&json!({}), Duration::from_secs(1)).is_some());
    }
}

//! A throwaway Prometheus, from the machine's package.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use testbed::{Program, free_port};

use crate::relay::http_get;
use crate::wait;

const READY_WITHIN: Duration = Duration::from_secs(60);
/// As often as a busy machine can.
const SCRAPE: &str = "500ms";
const EVALUATE: &str = "250ms";
/// What the minutes of the rules become, so that a fault shows and is over soon.
const FOR: &str = "1s";
const RANGE: &str = "5s";

/// A running Prometheus.
pub struct Prometheus {
    _program: Program,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts it with these rules; `targets` are scraped as job `outboxd`.
    pub async fn start(folder: &Path, rules: &str, targets: &[SocketAddr]) -> Result<Self> {
        let folder = folder.join("prometheus");
        fs::create_dir(&folder)?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let config = folder.join("prometheus.yml");
        fs::write(folder.join("rules.yml"), rules)?;
        fs::write(&config, configuration(targets))?;
        let args = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address={address}"),
        ];
        let log = folder.join("prometheus.log");
        let program = Program::start(Path::new("prometheus"), &args, &[], &log)?;
        let ready = wait::until("Prometheus is ready", READY_WITHIN, async || {
            if let Some(status) = program.exit_status() {
                bail!("Prometheus has ended ({status}); is it installed? run make deps");
            }
            Ok(matches!(http_get(address, "/-/ready"), Ok((200, _))))
        });
        ready
            .await
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(Self {
            _program: program,
            address,
        })
    }

    fn get(&self, path: &str) -> Result<Value> {
        let (status, body) = http_get(self.address, path)?;
        ensure!(status == 200, "{path}: {status} {body}");
        let mut answer: Value = serde_json::from_str(&body)?;
        ensure!(answer["status"] == "success", "{path}: {answer}");
        Ok(answer["data"].take())
    }

    /// The samples that a query gives now.
    pub fn query(&self, query: &str) -> Result<Vec<Value>> {
        let path = format!("/api/v1/query?query={}", encoded(query));
        let mut data = self.get(&path).with_context(|| query.to_owned())?;
        match data["result"].take() {
            Value::Array(samples) => Ok(samples),
            other => bail!("{query}: {other}"),
        }
    }

    /// The alerts that are firing.
    pub fn firing(&self) -> Result<Vec<Value>> {
        let mut data = self.get("/api/v1/alerts")?;
        let Value::Array(alerts) = data["alerts"].take() else {
            bail!("no alerts in {data}");
        };
        let firing = alerts.into_iter().filter(|a| a["state"] == "firing");
        Ok(firing.collect())
    }
}

fn configuration(targets: &[SocketAddr]) -> String {
    let targets: Vec<String> = targets.iter().map(|t| format!("'{t}'")).collect();
    format!(
        "global: {{scrape_interval: {SCRAPE}, scrape_timeout: {SCRAPE}, evaluation_interval: {EVALUATE}}}\n\
         rule_files: [rules.yml]\n\
         scrape_configs:\n\
         - job_name: outboxd\n  \
           static_configs: [{{targets: [{}]}}]\n",
        targets.join(", ")
    )
}

/// The same rules with seconds in the place of their minutes.
pub fn hastened(rules: &str) -> String {
    let mut text = String::new();
    for line in rules.lines() {
        let indent = line.len() - line.trim_start().len();
        let hastened = if line.trim_start().starts_with("for: ") {
            format!("{}for: {FOR}", &line[..indent])
        } else {
            ranges(line)
        };
        // Writing to a string can't fail.
        let _ = writeln!(text, "{hastened}");
    }
    text
}

/// A query with seconds in the place of the minutes that it looks back.
pub fn ranges(query: &str) -> String {
    let mut query = query.replace("$__rate_interval", RANGE);
    for minutes in ["5m", "10m"] {
        for before in ["[", "offset "] {
            query = query.replace(&format!("{before}{minutes}"), &format!("{before}{RANGE}"));
        }
    }
    query
}

fn encoded(query: &str) -> String {
    let mut text = String::new();
    for byte in query.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => text.push(char::from(byte)),
            other => {
                let _ = write!(text, "%{other:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_become_seconds_and_nothing_else_changes() {
        let rules = "  expr: a > 10 unless a offset 10m and rate(b[5m])\n  for: 5m\n  labels: x";
        let expected =
            "  expr: a > 10 unless a offset 5s and rate(b[5s])\n  for: 1s\n  labels: x\n";
        assert_eq!(hastened(rules), expected);
    }
}

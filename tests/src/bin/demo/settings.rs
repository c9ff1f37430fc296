//! What the environment says of the demo.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const RATE: f64 = 10.0;
const RATE_MAX: f64 = 5000.0;
const POSTGRES: u32 = 18;
const DAY: f64 = 86_400.0;

/// How the demo runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How long the service writes; without it, until Ctrl-C.
    pub duration: Option<Duration>,
    /// Transactions a second.
    pub rate: f64,
    /// Major version of Postgres.
    pub postgres: u32,
}

impl Settings {
    /// From `DEMO_SECONDS`, `DEMO_RATE` and `PG`.
    pub fn from_env() -> Result<Settings> {
        Settings::from(|name| env::var(name).ok())
    }

    /// An empty variable counts as not set.
    fn from(variable: impl Fn(&str) -> Option<String>) -> Result<Settings> {
        let number = |name: &str| {
            let text = variable(name).filter(|text| !text.is_empty());
            let parse = |text: String| {
                text.parse::<f64>()
                    .with_context(|| format!("{name}={text}"))
            };
            text.map(parse).transpose()
        };
        let seconds = number("DEMO_SECONDS")?;
        let rate = number("DEMO_RATE")?.unwrap_or(RATE);
        let is_sane = |seconds: f64| (0.0..=DAY).contains(&seconds);
        ensure!(seconds.is_none_or(is_sane), "DEMO_SECONDS: from 0 to {DAY}");
        ensure!(
            (0.1..=RATE_MAX).contains(&rate),
            "DEMO_RATE: from 0.1 to {RATE_MAX}"
        );
        Ok(Settings {
            duration: seconds.map(Duration::from_secs_f64),
            rate,
            postgres: number("PG")?.map_or(POSTGRES, |version| version as u32),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Settings> {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name);
        Settings::from(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn it_runs_until_interrupted_unless_told_otherwise() {
        assert_eq!(from(&[("DEMO_SECONDS", "")]).unwrap().duration, None);
        let duration = from(&[("DEMO_SECONDS", "1.5")]).unwrap().duration;
        assert_eq!(duration, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn nonsense_is_refused() {
        for value in ["-1", "1e9", "NaN", "soon"] {
            assert!(from(&[("DEMO_SECONDS", value)]).is_err(), "{value}");
        }
        assert!(from(&[("DEMO_RATE", "0")]).is_err());
    }
}

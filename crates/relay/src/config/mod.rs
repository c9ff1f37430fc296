//! Configuration: read once at the start, checked as a whole, and plain data from then on.
//!
//! ```text
//!  defaults ─► file ─► environment ─► flags        later sources win, key by key
//!                 └───────┴─────────────┴──► draft ──► validate ──► Config
//! ```
//!
//! The table in `keys` says for each key where it lies in the draft, what it may be and what it
//! means. The file, the environment, [`print()`], the reference page and the annotated example all
//! follow it. Sources and drafts know nothing of Postgres or Kafka, and nothing here does IO of its
//! own: files are read by a function that the caller gives.
//!
//! Everything that is wrong is reported at once, each with its place, its key and a remedy, and
//! without the value of any secret.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use draft::Draft;
use error::{Fault, Faults};
use field::Sources;

pub use connection::database_by_url;
pub use consumers::{ConsumerLag, ConsumerSpec, OffsetReset};
pub use dead_letter::{DeadLetterBounds, DeadLetterSpec};
pub use decrypt::{Decrypt, KeyringSource};
pub use delivery::WriteBack;
pub use error::{ConfigError, ConfigErrors, Place};
pub use flags::Overrides;
pub use kafka::{Kafka, Property, TopicDefaults};
pub use pipeline::{
    Backfill, Batch, Event, Mode, Pipeline, Retry, Rows, SinkKind, Sla, is_timestamp,
};
pub use postgres::{Host, HostAddr, Login, Postgres, SslMode};
pub use print::print;
pub use reference::{example, reference};
pub use secret::{REDACTED, Secret};
pub use write_back::{Retention, StateSpec, WriteBackBounds};

mod allowed;
mod choice;
mod connection;
mod connection_url;
mod consumers;
mod dead_letter;
mod decrypt;
mod draft;
mod environment;
mod error;
mod field;
mod file;
mod flags;
mod kafka;
mod keys;
mod librdkafka;
mod nearest;
mod pipeline;
mod postgres;
mod print;
mod reference;
mod secret;
#[cfg(test)]
mod tests;
mod units;
mod validate;
mod value;
mod write_back;

/// Reads and checks the configuration: defaults, the file that `overrides` or `OUTBOXD_CONFIG`
/// names, the variables of `env`, then `overrides`.
///
/// `read_file` reads the configuration file and the files of secrets.
///
/// # Errors
/// Everything that is wrong, not only the first thing.
pub fn load(
    overrides: &Overrides,
    env: impl IntoIterator<Item = (String, String)>,
    read_file: impl Fn(&Path) -> io::Result<String>,
) -> Result<Config, ConfigErrors> {
    let env: BTreeMap<_, _> = env.into_iter().collect();
    let sources = Sources {
        env: &env,
        read_file: &read_file,
    };
    let mut faults = Faults::default();
    let mut draft = Draft::new();
    let file_is_read = read_named_file(overrides, &mut draft, &sources, &mut faults);
    draft.fill_in();
    environment::read(&mut draft, &sources, &mut faults);
    flags::read(overrides, &mut draft, &sources, &mut faults);
    // What a broken file would have said must not be reported as missing.
    let config = file_is_read.then(|| validate::finish(&draft, &sources, &mut faults));
    faults.into_result(config)
}

/// Reads the file, if one is named; false if it is named and cannot be read.
fn read_named_file(
    overrides: &Overrides,
    draft: &mut Draft,
    sources: &Sources<'_>,
    faults: &mut Faults,
) -> bool {
    let Some((path, place)) = file_name(overrides, sources.env) else {
        return true;
    };
    match (sources.read_file)(&path) {
        Ok(text) => file::read(&path, &text, draft, sources, faults),
        Err(error) => {
            let problem = format!("cannot read {}: {error}", path.display());
            let remedy = "check that the file exists and that the relay's user may read it";
            faults.push(&place, "", Fault::new(problem, remedy));
            false
        }
    }
}

/// [`load`] with the variables and files of this process. Variables that are not UTF-8 are passed
/// over.
///
/// # Errors
/// As [`load`].
pub fn load_from_process(overrides: &Overrides) -> Result<Config, ConfigErrors> {
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load(overrides, env, |path| std::fs::read_to_string(path))
}

/// Reads a duration as the file has it, such as `7d`; what is wrong with it otherwise.
///
/// # Errors
/// A sentence that says what to write.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).map_err(|fault| format!("{}: {}", fault.problem, fault.remedy))
}

/// The file to read, if any, and who named it.
fn file_name(overrides: &Overrides, env: &BTreeMap<String, String>) -> Option<(PathBuf, Place)> {
    let flag = overrides
        .config
        .clone()
        .map(|path| (path, Place::Flag("--config")));
    flag.or_else(|| {
        let path = env.get(environment::FILE).filter(|path| !path.is_empty())?;
        Some((
            PathBuf::from(path),
            Place::Variable(environment::FILE.into()),
        ))
    })
}

/// The whole configuration, valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Admin endpoints.
    pub admin: Admin,
    /// Log output.
    pub log: Log,
    /// OpenTelemetry.
    pub otlp: Otlp,
    /// Time for draining after SIGTERM.
    pub shutdown_timeout: Duration,
    /// Never empty after loading; names are unique.
    pub pipelines: Vec<Pipeline>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            admin: Admin::default(),
            log: Log::default(),
            otlp: Otlp::default(),
            shutdown_timeout: Duration::from_secs(10),
            pipelines: vec![Pipeline::default()],
        }
    }
}

/// Admin endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where they listen.
    pub listen: SocketAddr,
    /// PEM file of their certificate; given together with `tls_key`. Without, they speak plain HTTP.
    pub tls_cert: Option<PathBuf>,
    /// PEM file of its key.
    pub tls_key: Option<PathBuf>,
    /// File of the token that whoever asks must give.
    pub token_file: Option<PathBuf>,
    /// What that file holds.
    pub token: Option<Secret>,
    /// Whether `/live` and `/ready` answer without a token.
    pub open_probes: bool,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            tls_cert: None,
            tls_key: None,
            token_file: None,
            token: None,
            open_probes: true,
        }
    }
}

/// Log output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Form of a line.
    pub format: LogFormat,
    /// A level, or several `target=level` separated by commas.
    pub level: String,
    /// One line per event.
    pub events: bool,
    /// Like lines that are written in a minute; 0 for all of them.
    pub repeats: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            level: "info".into(),
            events: false,
            repeats: 20,
        }
    }
}

/// Export by OTLP.
#[derive(Clone, Debug, PartialEq)]
pub struct Otlp {
    /// Base URL of a collector that takes OTLP over HTTP; nothing is exported without one.
    pub endpoint: Option<String>,
    /// Of the events without a trace of their own, the part that gets one: 0 to 1.
    pub sample_ratio: f64,
    /// Whether metrics are exported.
    pub metrics: bool,
    /// How often.
    pub metrics_interval: Duration,
    /// Whether log lines are exported.
    pub logs: bool,
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            endpoint: None,
            sample_ratio: 0.0,
            metrics: false,
            metrics_interval: Duration::from_secs(30),
            logs: false,
        }
    }
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// For reading at a terminal.
    Text,
}

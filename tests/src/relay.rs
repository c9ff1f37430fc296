//! A running outboxd.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testbed::Program;

use crate::{stage, wait};

const READY_WITHIN: Duration = Duration::from_secs(60);
const HTTP_WITHIN: Duration = Duration::from_secs(5);
static RELAYS: AtomicU32 = AtomicU32::new(0);

/// One outboxd process and its admin endpoints.
pub struct Relay {
    program: Program,
    admin: SocketAddr,
    log: PathBuf,
}

impl Relay {
    /// Starts `outboxd run` with these flags, its log in a file of `folder`.
    pub fn launch(
        flags: &[String],
        env: &[(&str, &str)],
        folder: impl AsRef<Path>,
    ) -> Result<Self> {
        Self::launch_at(free_address()?, flags, env, folder)
    }

    /// As `launch`, with the admin endpoints at an address that somebody watches.
    pub fn launch_at(
        admin: SocketAddr,
        flags: &[String],
        env: &[(&str, &str)],
        folder: impl AsRef<Path>,
    ) -> Result<Self> {
        let mut args = vec![
            "run".to_owned(),
            "--admin-listen".to_owned(),
            admin.to_string(),
        ];
        args.extend(flags.iter().cloned());
        let number = RELAYS.fetch_add(1, Ordering::Relaxed);
        let log = folder.as_ref().join(format!("relay-{number}.log"));
        let program = Program::start(&stage::outboxd()?, &args, env, &log)?;
        Ok(Self {
            program,
            admin,
            log,
        })
    }

    /// The process.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Its peak memory so far, in KiB.
    pub fn vm_hwm_kib(&self) -> Result<u64> {
        Ok(testbed::vm_hwm_kib(self.program.pid())?)
    }

    /// Where its admin endpoints are.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Waits until /ready answers 200.
    pub async fn ready(&self) -> Result<()> {
        let ready = wait::until("the relay is ready", READY_WITHIN, async || {
            if let Some(status) = self.program.exit_status() {
                bail!("the relay has ended: {status}");
            }
            Ok(matches!(self.get("/ready"), Ok((200, _))))
        });
        ready.await.map(|_| ()).with_context(|| {
            let log = self.log_text();
            format!("last lines of {}:\n{}", self.log.display(), tail(&log, 10))
        })
    }

    /// SIGTERM: must end with exit code 0 in a few seconds.
    pub async fn stop(self) -> Result<Duration> {
        let (status, took) = self.terminate(Duration::from_secs(20))?;
        if !status.success() {
            bail!("the relay ended with {status}");
        }
        Ok(took)
    }

    /// SIGTERM; how it ended, and after how long.
    pub fn terminate(&self, within: Duration) -> Result<(ExitStatus, Duration)> {
        self.program
            .terminate(within)
            .context("the relay did not end after SIGTERM")
    }

    /// Status code and body of an admin path.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        http_get(self.admin, path)
    }

    /// An admin path's JSON, whatever the status code.
    pub fn json(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.get(path)?.1)?)
    }

    /// The sum of all samples of a metric whose labels contain `label`; `None` without any.
    pub fn metric(&self, name: &str, label: &str) -> Result<Option<f64>> {
        let (_, text) = self.get("/metrics")?;
        Ok(sum_of(&text, name, label))
    }

    /// As `metric`, 0 without a sample.
    pub fn count(&self, name: &str, label: &str) -> Result<f64> {
        Ok(self.metric(name, label)?.unwrap_or(0.0))
    }

    /// Everything that it has logged.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The log's path.
    pub fn log_path(&self) -> &Path {
        &self.log
    }
}

fn sum_of(text: &str, name: &str, label: &str) -> Option<f64> {
    let sample = |line: &str| -> Option<f64> {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        if !labels.contains(label) {
            return None;
        }
        value.split(' ').next()?.parse().ok()
    };
    text.lines().filter_map(sample).reduce(|a, b| a + b)
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// An address that nobody listens on.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A GET request without a library: the answer ends with the connection.
pub fn http_get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut socket = TcpStream::connect_timeout(&address, HTTP_WITHIN)?;
    socket.set_read_timeout(Some(HTTP_WITHIN))?;
    write!(socket, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("not an HTTP answer")?;
    let status = head.split(' ').nth(1).context("no status code")?.parse()?;
    Ok((status, body.to_owned()))
}

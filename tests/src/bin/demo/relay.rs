//! The relay, with its admin endpoints at the same address in all of its lives.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use scenarios::relay::http_get;
use scenarios::stage;
use scenarios::supervised::{Launch, Supervised};
use testbed::PASSWORD;

const POLL: Duration = Duration::from_millis(50);
const READY_WITHIN: Duration = Duration::from_secs(60);

/// `outboxd run`; it ends with this value.
pub struct Relay {
    admin: SocketAddr,
    pub process: Supervised,
}

impl Relay {
    /// Starts it between these servers, its log in a file of `folder`.
    pub fn start(postgres: &str, kafka: &str, folder: &Path) -> Result<Relay> {
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, testbed::free_port()?));
        let listen = admin.to_string();
        let args = ["run", "--postgres", postgres, "--kafka", kafka];
        let shown = ["--admin-listen", &listen, "--log-format", "text"];
        let launch = Launch {
            binary: stage::outboxd()?,
            args: args.into_iter().chain(shown).map(str::to_owned).collect(),
            env: vec![("PGPASSWORD".to_owned(), PASSWORD.to_owned())],
            log: folder.join("relay.log"),
        };
        let process = Supervised::start(launch)?;
        Ok(Relay { admin, process })
    }

    /// Where its admin endpoints are.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Waits until /ready says 200.
    pub fn await_ready(&self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while self.get("/ready").ok() != Some(200) {
            if self.process.has_ended() || Instant::now() > deadline {
                let log = self.process.log_text();
                bail!("the relay did not become ready:\n{log}");
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// The status code of an admin endpoint.
    pub fn get(&self, path: &str) -> Result<u16> {
        http_get(self.admin, path).map(|(code, _)| code)
    }
}

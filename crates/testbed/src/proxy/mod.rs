//! A TCP proxy on 127.0.0.1 that fails on command.
//!
//! ```text
//!  client ─► acceptor ─► connection ─┬─ reader ─► bounded queue ─► writer ─► server
//!                                    └─ writer ◄─ bounded queue ◄─ reader ◄─┘
//! ```
//! Writers ask the [`Link`] for leave before each write; that is where every fault acts. A proxy
//! that understands Kafka's protocol splits the stream at frame boundaries, and each frame's writer
//! asks for a [`verdict`] on it.

mod connection;
mod disturb;
mod kafka;
mod lane;
mod link;
mod verdict;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::port;
use link::Link;

pub use kafka::Api;

const PORT_TRIES: u32 = 5;
const CHANGE_WITHIN: Duration = Duration::from_secs(10);
const REBIND_INTERVAL: Duration = Duration::from_millis(10);

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From those who connect to the proxy to its upstream.
    ToServer,
    /// From the upstream to those who connected.
    ToClient,
    /// Either way.
    Both,
}

/// What is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// Bytes.
    Opaque,
    /// Kafka's, without TLS.
    Kafka,
}

/// Forwards connections to one address until told otherwise; ends with this value.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    protocol: Protocol,
    link: Arc<Link>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a port of its own. The upstream need not be there yet; while it is not,
    /// connections are closed as soon as they are accepted.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(upstream: SocketAddr) -> Result<Proxy> {
        Proxy::open(upstream, Protocol::Opaque)
    }

    /// As [`Proxy::start`], for a Kafka broker without TLS: single requests can be disturbed, see
    /// [`Proxy::swallow_responses`]. A client that speaks something else is disconnected.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub fn start_kafka(upstream: SocketAddr) -> Result<Proxy> {
        Proxy::open(upstream, Protocol::Kafka)
    }

    fn open(upstream: SocketAddr, protocol: Protocol) -> Result<Proxy> {
        for _ in 0..PORT_TRIES {
            let port = port::free_port()?;
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                let link = Arc::new(Link::new());
                let shared = Arc::clone(&link);
                let acceptor = Acceptor {
                    port,
                    upstream,
                    protocol,
                };
                let acceptor = thread::spawn(move || acceptor.run(listener, &shared));
                return Ok(Proxy {
                    port,
                    protocol,
                    link,
                    acceptor: Some(acceptor),
                });
            }
        }
        Err(Error::NoPort { tries: PORT_TRIES })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Closes all connections and refuses new ones until [`Proxy::heal`].
    ///
    /// # Errors
    /// When the port is still open after 10 s.
    pub fn cut(&self) -> Result<()> {
        self.link.cut();
        self.wake_acceptor();
        self.await_listening(false)
    }

    /// Stops forwarding one way and keeps all sockets open, new ones too. At most 1 MiB per
    /// connection and direction is still taken from the sender.
    pub fn freeze(&self, direction: Direction) {
        self.link.freeze(direction);
    }

    /// Forwards each byte this much later; the rate stays.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.link.delay(direction, delay);
    }

    /// Forwards at most this many bytes a second each way, over all connections together.
    pub fn throttle(&self, direction: Direction, bytes_per_s: u64) {
        self.link.throttle(direction, bytes_per_s);
    }

    /// Closes the clients' side of all connections. The server is not told: its side stays open
    /// and silent until [`Proxy::heal`], which closes it. New connections are served.
    pub fn sever_clients(&self) {
        self.link.sever_clients();
    }

    /// Ends all faults. What was held back is forwarded now; what was cut stays closed.
    ///
    /// # Errors
    /// When the port cannot be opened again within 10 s.
    pub fn heal(&self) -> Result<()> {
        self.link.heal();
        self.await_listening(true)
    }

    /// How many connections are open through the proxy.
    pub fn connections(&self) -> usize {
        self.link.connections()
    }

    fn await_listening(&self, wanted: bool) -> Result<()> {
        if self.link.await_listening(wanted, CHANGE_WITHIN) {
            return Ok(());
        }
        Err(Error::Timeout {
            what: format!(
                "{} the proxy's port {}",
                if wanted { "opening" } else { "closing" },
                self.port
            ),
            within: CHANGE_WITHIN,
            tail: String::new(),
        })
    }

    /// A blocked `accept` returns only for a connection.
    fn wake_acceptor(&self) {
        let _ = TcpStream::connect_timeout(&self.addr(), CHANGE_WITHIN);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.link.close();
        self.wake_acceptor();
        let _ = self.acceptor.take().map(JoinHandle::join);
    }
}

struct Acceptor {
    port: u16,
    upstream: SocketAddr,
    protocol: Protocol,
}

impl Acceptor {
    fn run(self, first: TcpListener, link: &Arc<Link>) {
        let mut listener = Some(first);
        while let Some(open) = listener {
            link.set_listening(true);
            while let Ok((client, _)) = open.accept() {
                if !link.takes_connections() {
                    break;
                }
                let (link, upstream, protocol) = (Arc::clone(link), self.upstream, self.protocol);
                thread::spawn(move || connection::run(client, upstream, protocol, &link));
            }
            drop(open);
            link.set_listening(false);
            listener = open_again(self.port, link);
        }
    }
}

/// The listener once the cut is healed, none when the proxy ends.
fn open_again(port: u16, link: &Link) -> Option<TcpListener> {
    while link.await_healing() {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Some(listener);
        }
        thread::sleep(REBIND_INTERVAL);
    }
    None
}

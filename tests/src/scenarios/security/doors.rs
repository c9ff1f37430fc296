//! The admin endpoints: who is let in, and what happens to those who come to block them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::{Authority, Usage};

use super::household::Household;
use crate::relay::Relay;
use crate::wait;

/// More than the relay holds at a time.
const SLOW: usize = 300;
/// What one of them may take is given up after 10 s.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(20);
const NEW_TOKEN: &str = "fedcba9876543210-admin-token-75ba";

/// Tries all doors; how many slow connections there were.
pub(super) async fn hold(house: &mut Household<'_>, relay: &Relay) -> Result<usize> {
    only_the_token_opens(house, relay)?;
    let before = relay.vm_hwm_kib()?;
    let began = Instant::now();
    let slow = slow_connections(relay)?;
    ensure!(house.get(relay, "/ready")?.0 == 200, "probes are kept out");
    huge_requests(house, relay)?;
    new_token(house, relay)?;
    new_certificate(house, relay)?;
    all_given_up(slow, began).await?;
    ensure!(house.get(relay, "/ready")?.0 == 200);
    let grown = relay.vm_hwm_kib()?.saturating_sub(before);
    ensure!(grown < 64 << 10, "{grown} KiB were taken");
    Ok(SLOW)
}

fn only_the_token_opens(house: &Household<'_>, relay: &Relay) -> Result<()> {
    for path in ["/status", "/metrics", "/version", "/nowhere"] {
        for lines in [&[][..], &["Authorization: Bearer wrong"]] {
            let (status, body) = house.ask(relay, path, lines)?;
            ensure!(status == 401, "{path}: {status} {body}");
        }
    }
    for path in ["/live", "/ready"] {
        let (status, body) = house.ask(relay, path, &[])?;
        ensure!(
            status == 200 && body == r#"{"ok":true}"#,
            "{path}: {status} {body}"
        );
    }
    let (status, body) = house.get(relay, "/ready")?;
    ensure!(
        status == 200 && body.contains("pipelines"),
        "{status} {body}"
    );
    let asked = status_of(house, relay, &house.authority)?;
    ensure!(asked.succeeded, "{}", asked.text);
    Ok(())
}

/// Connections that begin and don't go on: some before the TLS handshake, some in it.
fn slow_connections(relay: &Relay) -> Result<Vec<TcpStream>> {
    let open = |number: usize| -> Result<TcpStream> {
        let mut socket = TcpStream::connect(relay.admin())?;
        if number.is_multiple_of(2) {
            // The beginning of a handshake record.
            socket.write_all(&[22, 3, 1])?;
        }
        Ok(socket)
    };
    (0..SLOW).map(open).collect()
}

/// All are closed by the relay, none later than it says.
async fn all_given_up(sockets: Vec<TcpStream>, began: Instant) -> Result<()> {
    for socket in &sockets {
        socket.set_nonblocking(true)?;
    }
    let within = GIVEN_UP_WITHIN.saturating_sub(began.elapsed());
    wait::until("slow connections are closed", within, async || {
        let is_closed = |socket: &TcpStream| {
            let mut byte = [0; 1];
            match (&mut &*socket).read(&mut byte) {
                Ok(count) => count == 0,
                Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
            }
        };
        Ok(sockets.iter().all(is_closed))
    })
    .await
    .map(drop)
}

/// A header without end, and a body that nobody wants.
fn huge_requests(house: &Household<'_>, relay: &Relay) -> Result<()> {
    let long = format!("X-Long: {}", "x".repeat(100_000));
    let token = format!("Authorization: Bearer {}", house.token.read()?);
    refused(
        "a long header",
        house.ask(relay, "/status", &[&token, &long]),
    )?;
    let many: Vec<String> = (0..200).map(|n| format!("X-{n}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    refused("many lines", house.ask(relay, "/status", &many))?;
    // The answer comes at once: nobody waits for the body.
    let body = ["Content-Length: 100000000000", &token];
    let (status, _) = house.ask(relay, "/version", &body)?;
    ensure!(status == 200, "a body: {status}");
    Ok(())
}

/// With status code 431, or by a connection that is closed while there is more to read.
fn refused(what: &str, answer: Result<(u16, String)>) -> Result<()> {
    match answer {
        Ok((status, _)) => ensure!(status == 431, "{what}: {status}"),
        Err(error) => {
            let is_cut = error.downcast_ref::<std::io::Error>().is_some();
            ensure!(is_cut, "{what}: {error:#}");
        }
    }
    Ok(())
}

fn new_token(house: &Household<'_>, relay: &Relay) -> Result<()> {
    let old = format!("Authorization: Bearer {}", house.token.read()?);
    house.token.write(NEW_TOKEN)?;
    ensure!(
        house.ask(relay, "/status", &[&old])?.0 == 401,
        "the old token opens"
    );
    ensure!(
        house.get(relay, "/status")?.0 == 200,
        "the new token does not open"
    );
    Ok(())
}

/// Certificate and key are replaced by those of another authority.
fn new_certificate(house: &mut Household<'_>, relay: &Relay) -> Result<()> {
    let other = Authority::make(&house.stage.folder().join("admin-ca-2"))?;
    let issued = other.issue("admin", "localhost", Usage::Server)?;
    // For a moment they don't fit together: the known ones stay in force.
    std::fs::copy(&issued.key, &house.admin.key)?;
    ensure!(
        house.get(relay, "/live")?.0 == 200,
        "half a change shuts the door"
    );
    std::fs::copy(&issued.certificate, &house.admin.certificate)?;
    let refused = status_of(house, relay, &house.authority)?;
    ensure!(!refused.succeeded, "the old certificate is still there");
    ensure!(refused.text.contains("--ca-file"), "{}", refused.text);
    house.authority = other;
    let asked = status_of(house, relay, &house.authority)?;
    ensure!(asked.succeeded, "{}", asked.text);
    house.get(relay, "/live").context("the new certificate")?;
    Ok(())
}

/// `outboxd status` by URL, token and authority.
fn status_of(
    house: &Household<'_>,
    relay: &Relay,
    authority: &Authority,
) -> Result<super::household::Said> {
    let mut command = std::process::Command::new(crate::stage::outboxd()?);
    let url = format!("https://localhost:{}", relay.admin().port());
    command.args(["status", "--url", &url, "--token-file", &house.token.path()]);
    command.arg("--ca-file").arg(authority.certificate());
    house.run(&mut command)
}

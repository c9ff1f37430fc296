//! Each fault of the proxy is seen by both ends and ends with `heal`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use testbed::{Direction, Proxy};

const PROMPTLY: Duration = Duration::from_secs(20);
/// Long enough for a byte to come through if nothing holds it.
const A_WHILE: Duration = Duration::from_millis(200);

/// Echoes every connection and reports how many bytes each read brought.
fn echo_server() -> (SocketAddr, Receiver<usize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let (report, seen) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let report = report.clone();
            thread::spawn(move || echo(stream, &report));
        }
    });
    (addr, seen)
}

fn echo(mut stream: TcpStream, report: &mpsc::Sender<usize>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        let _ = report.send(count);
        if count == 0 {
            return Ok(());
        }
        stream.write_all(buffer.get(..count).unwrap_or_default())?;
    }
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.addr()).unwrap();
    stream.set_read_timeout(Some(PROMPTLY)).unwrap();
    stream
}

fn round_trip(stream: &mut TcpStream, bytes: usize) -> Duration {
    let sent = Instant::now();
    stream.write_all(&vec![7; bytes]).unwrap();
    stream.read_exact(&mut vec![0; bytes]).unwrap();
    sent.elapsed()
}

fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(A_WHILE)).unwrap();
    let outcome = stream.read(&mut [0; 1]).map_err(|error| error.kind());
    stream.set_read_timeout(Some(PROMPTLY)).unwrap();
    matches!(outcome, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn a_cut_closes_and_refuses_until_healed() {
    let (server, _seen) = echo_server();
    let proxy = Proxy::start(server).unwrap();
    let mut stream = connect(&proxy);
    round_trip(&mut stream, 100_000);
    assert_eq!(proxy.connections(), 1);

    proxy.cut().unwrap();
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    let refused = TcpStream::connect(proxy.addr()).map_err(|error| error.kind());
    assert!(
        matches!(refused, Err(ErrorKind::ConnectionRefused)),
        "{refused:?}"
    );
    assert_eq!(proxy.connections(), 0);

    proxy.heal().unwrap();
    round_trip(&mut connect(&proxy), 10);
}

#[test]
fn a_frozen_answer_arrives_after_healing() {
    let (server, seen) = echo_server();
    let proxy = Proxy::start(server).unwrap();
    let mut stream = connect(&proxy);
    round_trip(&mut stream, 1);
    assert_eq!(seen.recv_timeout(PROMPTLY), Ok(1));

    proxy.freeze(Direction::ToClient);
    stream.write_all(&[1, 2, 3]).unwrap();
    assert_eq!(
        seen.recv_timeout(PROMPTLY),
        Ok(3),
        "the way to the server is open"
    );
    assert!(is_silent(&mut stream));

    proxy.heal().unwrap();
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [1, 2, 3]);
}

#[test]
fn a_frozen_link_accepts_and_stays_silent() {
    let (server, seen) = echo_server();
    let proxy = Proxy::start(server).unwrap();
    proxy.freeze(Direction::Both);
    let mut stream = connect(&proxy);
    stream.write_all(&[1]).unwrap();
    assert!(is_silent(&mut stream));
    assert!(seen.try_recv().is_err(), "the server has heard nothing");
    proxy.heal().unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
}

#[test]
fn a_delay_acts_on_each_way() {
    let (server, _seen) = echo_server();
    let proxy = Proxy::start(server).unwrap();
    let mut stream = connect(&proxy);
    proxy.delay(Direction::Both, Duration::from_millis(60));
    assert!(round_trip(&mut stream, 10) >= Duration::from_millis(120));
}

#[test]
fn a_throttle_bounds_the_rate() {
    let (server, _seen) = echo_server();
    let proxy = Proxy::start(server).unwrap();
    let mut stream = connect(&proxy);
    proxy.throttle(Direction::Both, 100_000);
    assert!(round_trip(&mut stream, 30_000) >= Duration::from_millis(300));
}

#[test]
fn the_end_of_a_stream_is_passed_on() {
    let (server, seen) = echo_server();
    let proxy = Proxy::start(server).unwrap();
    let mut stream = connect(&proxy);
    round_trip(&mut stream, 5);
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(seen.iter().take_while(|count| *count > 0).sum::<usize>(), 5);
}

#[test]
fn a_missing_upstream_closes_the_connection() {
    let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let proxy = Proxy::start(unused).unwrap();
    let mut stream = connect(&proxy);
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
}

#[test]
fn the_port_closes_with_the_proxy() {
    let (server, _seen) = echo_server();
    let proxy = Proxy::start(server).unwrap();
    let addr = proxy.addr();
    let mut stream = connect(&proxy);
    round_trip(&mut stream, 1);
    drop(proxy);
    assert!(TcpStream::connect(addr).is_err());
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
}

#[test]
fn a_severed_client_is_gone_and_the_server_does_not_know() {
    let (server, seen) = echo_server();
    let proxy = Proxy::start(server).unwrap();
    let mut stream = connect(&proxy);
    round_trip(&mut stream, 1);
    assert_eq!(seen.recv_timeout(PROMPTLY), Ok(1));
    proxy.sever_clients();
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    assert_eq!(proxy.connections(), 0);
    round_trip(&mut connect(&proxy), 2);
    assert_eq!(seen.recv_timeout(PROMPTLY), Ok(2));
    assert_eq!(
        seen.recv_timeout(PROMPTLY),
        Ok(0),
        "the second one has ended"
    );
    assert!(seen.recv_timeout(A_WHILE).is_err(), "the first one has not");
    proxy.heal().unwrap();
    assert_eq!(seen.recv_timeout(PROMPTLY), Ok(0));
}

#[test]
fn delay_and_throttle_act_one_way_only() {
    let (server, seen) = echo_server();
    let proxy = Proxy::start(server).unwrap();
    let mut stream = connect(&proxy);
    proxy.delay(Direction::ToClient, PROMPTLY * 10);
    proxy.throttle(Direction::ToClient, 1);
    stream.write_all(&[0; 1000]).unwrap();
    let mut arrived = 0;
    while arrived < 1000 {
        arrived += seen.recv_timeout(PROMPTLY).unwrap();
    }
    assert!(is_silent(&mut stream));
}

//! Faults that strike single requests, before a server that speaks as much of Kafka's protocol as
//! they need.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use testbed::{Api, Direction, Proxy};

const PROMPTLY: Duration = Duration::from_secs(20);
/// Long enough for a frame to come through if nothing holds it.
const A_WHILE: Duration = Duration::from_millis(200);
/// The answer of an EndTxn to a fenced producer.
const FENCED: i16 = 90;

/// Answers every request, and reports its kind and number once it has come whole.
fn server() -> (SocketAddr, Receiver<(Api, i32)>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let (report, executed) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let report = report.clone();
            thread::spawn(move || serve(stream, &report));
        }
    });
    (addr, executed)
}

fn serve(mut stream: TcpStream, report: &mpsc::Sender<(Api, i32)>) -> io::Result<()> {
    loop {
        let request = read_frame(&mut stream)?;
        let key = i16::from_be_bytes([request[0], request[1]]);
        let number = i32::from_be_bytes(request[4..8].try_into().unwrap());
        let _ = report.send((Api(key), number));
        let error = FENCED.to_be_bytes();
        write_frame(
            &mut stream,
            &[&request[4..8], &[0; 4], &error, &request[8..]].concat(),
        )?;
    }
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    let length = (frame.len() as u32).to_be_bytes();
    stream.write_all(&[&length, frame].concat())
}

struct Client(TcpStream);

impl Client {
    fn connect(proxy: &Proxy) -> Client {
        let stream = TcpStream::connect(proxy.addr()).unwrap();
        stream.set_read_timeout(Some(PROMPTLY)).unwrap();
        Client(stream)
    }

    fn ask(&mut self, api: Api, number: i32, body: usize) {
        let head = [api.0.to_be_bytes(), 1_i16.to_be_bytes()].concat();
        let body = vec![7; body];
        let frame = [&head[..], &number.to_be_bytes(), &body].concat();
        write_frame(&mut self.0, &frame).unwrap();
    }

    /// The number of the next answer and how long it is.
    fn answer(&mut self) -> io::Result<(i32, usize)> {
        let frame = read_frame(&mut self.0)?;
        let number = i32::from_be_bytes(frame[..4].try_into().unwrap());
        Ok((number, frame.len()))
    }

    fn is_answered(&mut self, number: i32) -> bool {
        self.answer().is_ok_and(|(answered, _)| answered == number)
    }

    fn hears_nothing(&mut self) -> bool {
        self.0.set_read_timeout(Some(A_WHILE)).unwrap();
        let outcome = self.0.read(&mut [0; 1]).map_err(|error| error.kind());
        self.0.set_read_timeout(Some(PROMPTLY)).unwrap();
        matches!(outcome, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }
}

fn executed(seen: &Receiver<(Api, i32)>) -> (Api, i32) {
    seen.recv_timeout(PROMPTLY).unwrap()
}

fn nothing_executed(seen: &Receiver<(Api, i32)>) -> bool {
    seen.recv_timeout(A_WHILE) == Err(RecvTimeoutError::Timeout)
}

#[test]
fn frames_of_all_sizes_pass_and_are_counted() {
    let (addr, _seen) = server();
    let proxy = Proxy::start_kafka(addr).unwrap();
    let mut client = Client::connect(&proxy);
    let bodies = [0, 1, 15, 16, 17, 1_000, 100_000, 1 << 20, 5, 3 << 20];
    for (number, body) in (0..).zip(bodies) {
        client.ask(Api::PRODUCE, number, body);
        assert_eq!(client.answer().unwrap(), (number, body + 10));
    }
    assert_eq!(proxy.seen(Api::PRODUCE), bodies.len() as u64);
    assert_eq!(proxy.seen(Api::END_TXN), 0);
    assert_eq!(proxy.disturbed(Api::PRODUCE), 0);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (addr, _seen) = server();
    let proxy = Proxy::start_kafka(addr).unwrap();
    let mut client = Client::connect(&proxy);
    for number in 0..500 {
        client.ask(Api::PRODUCE, number, 100);
    }
    for number in 0..500 {
        assert!(client.is_answered(number));
    }
}

#[test]
fn a_swallowed_answer_leaves_the_connection_open_and_silent() {
    let (addr, seen) = server();
    let proxy = Proxy::start_kafka(addr).unwrap();
    let (mut client, mut other) = (Client::connect(&proxy), Client::connect(&proxy));
    proxy.swallow_responses(Api::END_TXN, 1);
    client.ask(Api::METADATA, 1, 0);
    assert!(client.is_answered(1), "another kind passes");
    assert_eq!(executed(&seen), (Api::METADATA, 1));

    client.ask(Api::END_TXN, 2, 0);
    assert_eq!(executed(&seen), (Api::END_TXN, 2));
    client.ask(Api::METADATA, 3, 0);
    assert_eq!(executed(&seen), (Api::METADATA, 3));
    assert!(client.hears_nothing());
    assert_eq!(proxy.connections(), 2);
    assert_eq!(proxy.disturbed(Api::END_TXN), 1);
    assert_eq!(proxy.withheld_errors(Api::END_TXN), [FENCED]);

    other.ask(Api::END_TXN, 4, 0);
    assert!(other.is_answered(4), "one is one");
}

#[test]
fn a_cut_after_a_request_comes_when_it_is_executed() {
    let (addr, seen) = server();
    let proxy = Proxy::start_kafka(addr).unwrap();
    let mut client = Client::connect(&proxy);
    proxy.cut_after_request(Api::END_TXN, 1);
    client.ask(Api::END_TXN, 1, 0);
    assert!(client.answer().is_err());
    assert_eq!(executed(&seen), (Api::END_TXN, 1));
    assert_eq!(proxy.withheld_errors(Api::END_TXN), [FENCED]);

    let mut client = Client::connect(&proxy);
    client.ask(Api::END_TXN, 2, 0);
    assert!(client.is_answered(2), "a new connection is served");
}

#[test]
fn a_cut_before_a_request_keeps_it_from_the_server() {
    let (addr, seen) = server();
    let proxy = Proxy::start_kafka(addr).unwrap();
    let mut client = Client::connect(&proxy);
    proxy.cut_before_request(Api::END_TXN, 1);
    client.ask(Api::END_TXN, 1, 0);
    assert!(client.answer().is_err());
    assert!(nothing_executed(&seen));
    assert_eq!(proxy.disturbed(Api::END_TXN), 1);
    assert_eq!(proxy.withheld_errors(Api::END_TXN), []);
}

#[test]
fn a_held_request_reaches_the_server_after_its_client_has_gone() {
    let (addr, seen) = server();
    let proxy = Proxy::start_kafka(addr).unwrap();
    let mut client = Client::connect(&proxy);
    proxy.hold_requests(Api::END_TXN, 1);
    client.ask(Api::END_TXN, 1, 0);
    proxy.await_held(1, PROMPTLY).unwrap();
    drop(client);
    let mut other = Client::connect(&proxy);
    other.ask(Api::END_TXN, 2, 0);
    assert!(other.is_answered(2));
    assert_eq!(executed(&seen), (Api::END_TXN, 2));
    assert!(nothing_executed(&seen));

    proxy.release_requests();
    assert_eq!(executed(&seen), (Api::END_TXN, 1));
    assert_eq!(proxy.held(), 0);
    drop(other);
    // The answer has been read once the connection is over.
    assert!(eventually(|| proxy.connections() == 0));
    assert_eq!(proxy.withheld_errors(Api::END_TXN), [FENCED]);
}

#[test]
fn a_held_request_is_answered_late_while_its_client_waits() {
    let (addr, seen) = server();
    let proxy = Proxy::start_kafka(addr).unwrap();
    let mut client = Client::connect(&proxy);
    proxy.hold_requests_for(Api::END_TXN, 1, A_WHILE * 2);
    client.ask(Api::END_TXN, 1, 0);
    client.ask(Api::METADATA, 2, 0);
    assert!(nothing_executed(&seen), "what follows waits, too");
    assert!(client.is_answered(1));
    assert!(client.is_answered(2));
}

#[test]
fn a_stranded_request_costs_its_client_the_connection_and_arrives_later() {
    let (addr, seen) = server();
    let proxy = Proxy::start_kafka(addr).unwrap();
    let mut client = Client::connect(&proxy);
    proxy.strand_requests(Api::END_TXN, 1);
    client.ask(Api::END_TXN, 1, 0);
    assert!(client.answer().is_err());
    let mut again = Client::connect(&proxy);
    again.ask(Api::END_TXN, 2, 0);
    assert!(again.is_answered(2));
    assert_eq!(executed(&seen), (Api::END_TXN, 2));
    assert_eq!(proxy.held(), 1);
    proxy.release_requests();
    assert_eq!(executed(&seen), (Api::END_TXN, 1));
    drop(again);
    assert!(eventually(|| proxy.connections() == 0));
    assert_eq!(proxy.withheld_errors(Api::END_TXN), [FENCED]);
}

#[test]
fn healing_releases_what_is_held_and_ends_what_is_to_come() {
    let (addr, seen) = server();
    let proxy = Proxy::start_kafka(addr).unwrap();
    let mut client = Client::connect(&proxy);
    proxy.hold_requests(Api::END_TXN, 9);
    proxy.swallow_responses(Api::METADATA, 9);
    client.ask(Api::END_TXN, 1, 0);
    proxy.await_held(1, PROMPTLY).unwrap();
    proxy.heal().unwrap();
    assert!(client.is_answered(1));
    client.ask(Api::END_TXN, 2, 0);
    client.ask(Api::METADATA, 3, 0);
    assert!(client.is_answered(2) && client.is_answered(3));
    assert_eq!(seen.iter().take(3).count(), 3);
}

#[test]
fn other_faults_work_between_frames_and_within() {
    let (addr, seen) = server();
    let proxy = Proxy::start_kafka(addr).unwrap();
    let mut client = Client::connect(&proxy);
    proxy.throttle(Direction::ToServer, 1_000_000);
    let sent = std::time::Instant::now();
    client.ask(Api::PRODUCE, 1, 300_000);
    assert!(client.is_answered(1));
    assert!(sent.elapsed() >= A_WHILE);
    proxy.heal().unwrap();
    proxy.freeze(Direction::ToClient);
    client.ask(Api::PRODUCE, 2, 10);
    assert_eq!(executed(&seen), (Api::PRODUCE, 1));
    assert_eq!(executed(&seen), (Api::PRODUCE, 2));
    assert!(client.hears_nothing());
    proxy.heal().unwrap();
    assert!(client.is_answered(2));
    proxy.cut().unwrap();
    assert!(client.answer().is_err());
}

#[test]
fn another_protocol_ends_the_connection() {
    let (addr, seen) = server();
    let proxy = Proxy::start_kafka(addr).unwrap();
    let mut client = Client::connect(&proxy);
    client.0.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(client.answer().is_err());
    assert!(nothing_executed(&seen));
}

#[test]
#[should_panic(expected = "does not understand Kafka")]
fn a_proxy_without_the_protocol_refuses_faults_that_would_never_strike() {
    let (addr, _seen) = server();
    Proxy::start(addr)
        .unwrap()
        .swallow_responses(Api::END_TXN, 1);
}

fn eventually(condition: impl Fn() -> bool) -> bool {
    let until = std::time::Instant::now() + PROMPTLY;
    while std::time::Instant::now() < until {
        if condition() {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

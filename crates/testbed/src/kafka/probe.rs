use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// `ApiVersions` v0 with request header v1: length 10, key 18, version 0, a correlation id, no
/// client id (the protocol guide's "Messages").
const REQUEST: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0x6f, 0x62, 0x78, 0x64, 0xff, 0xff];
/// That correlation id and error code 0.
const ANSWER: [u8; 6] = [0x6f, 0x62, 0x78, 0x64, 0, 0];

/// Whether a broker answers on a port of 127.0.0.1.
pub(crate) fn answers_api_versions(port: u16) -> bool {
    ask(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok_and(|answer| answer == ANSWER)
}

fn ask(addr: SocketAddr) -> io::Result<[u8; 6]> {
    let mut stream = TcpStream::connect_timeout(&addr, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(&REQUEST)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = [0; 6];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

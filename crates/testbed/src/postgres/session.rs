//! A superuser session over the Unix socket: just enough of protocol 3.0 (the manual's chapter
//! "Frontend/Backend Protocol") to run SQL text and to see whether the server is ready.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::postgres::SUPERUSER;

/// One row, each column as text, `None` for NULL.
pub type Row = Vec<Option<String>>;

const PROTOCOL: i32 = 3 << 16;
/// Larger than any result that a test reads as a whole.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

pub(crate) struct Session {
    stream: UnixStream,
    socket: String,
}

impl Session {
    /// Connects and waits for the server's `ReadyForQuery`.
    pub fn open(socket: &Path, database: &str, within: Duration) -> Result<Session> {
        let name = socket.display().to_string();
        let failed = |source| Error::Connection {
            server: name.clone(),
            during: "connecting",
            source,
        };
        let stream = UnixStream::connect(socket).map_err(failed)?;
        stream.set_read_timeout(Some(within)).map_err(failed)?;
        stream.set_write_timeout(Some(within)).map_err(failed)?;
        let mut session = Session {
            stream,
            socket: name,
        };
        session.send(&startup(database), "starting a session")?;
        session.until_ready("starting a session")?;
        Ok(session)
    }

    /// Runs SQL text, possibly several statements; returns the rows of the last that has any.
    pub fn run(&mut self, sql: &str) -> Result<Vec<Row>> {
        self.send(&query(sql), "sending a query")?;
        self.until_ready("running a query")
    }

    fn send(&mut self, bytes: &[u8], during: &'static str) -> Result<()> {
        let sent = self.stream.write_all(bytes);
        sent.map_err(|source| self.failed(during, source))
    }

    fn until_ready(&mut self, during: &'static str) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let mut refusal = None;
        loop {
            let (kind, body) = match self.message() {
                Ok(message) => message,
                // After a FATAL error the server hangs up; the error says more than that.
                Err(source) => return Err(refusal.unwrap_or(self.failed(during, source))),
            };
            match kind {
                b'Z' => return refusal.map_or(Ok(rows), Err),
                b'E' => refusal = Some(refused(&body)),
                b'R' if body != [0; 4] => return Err(self.failed(during, not_trusted())),
                b'T' => rows.clear(),
                b'D' => {
                    let row = data_row(&body);
                    rows.push(row.ok_or_else(|| self.failed(during, malformed()))?);
                }
                b'G' => self.send(&copy_fail(), during)?,
                _ => {}
            }
        }
    }

    fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(i32::from_be_bytes(length)).ok();
        let body_length = length
            .and_then(|length| length.checked_sub(4))
            .filter(|length| *length <= MESSAGE_BYTES_MAX)
            .ok_or_else(malformed)?;
        let mut body = vec![0; body_length];
        self.stream.read_exact(&mut body)?;
        Ok((kind, body))
    }

    fn failed(&self, during: &'static str, source: io::Error) -> Error {
        Error::Connection {
            server: self.socket.clone(),
            during,
            source,
        }
    }
}

fn startup(database: &str) -> Vec<u8> {
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    let parameters = [
        "user",
        SUPERUSER,
        "database",
        database,
        "application_name",
        "testbed",
        "client_encoding",
        "UTF8",
    ];
    for word in parameters {
        body.extend_from_slice(word.as_bytes());
        body.push(0);
    }
    body.push(0);
    with_length(&body)
}

fn query(sql: &str) -> Vec<u8> {
    tagged(b'Q', sql)
}

fn copy_fail() -> Vec<u8> {
    tagged(b'f', "COPY is not supported here")
}

fn tagged(kind: u8, text: &str) -> Vec<u8> {
    let mut body = text.as_bytes().to_vec();
    body.push(0);
    let mut message = vec![kind];
    message.extend(with_length(&body));
    message
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    let mut message = length.to_be_bytes().to_vec();
    message.extend_from_slice(body);
    message
}

fn data_row(body: &[u8]) -> Option<Row> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            rest = after;
            row.push(None);
            continue;
        };
        let (value, after) = after.split_at_checked(length)?;
        rest = after;
        row.push(Some(String::from_utf8_lossy(value).into_owned()));
    }
    Some(row)
}

/// The fields of an `ErrorResponse`: a letter and a zero-terminated text each.
fn refused(body: &[u8]) -> Error {
    let field = |wanted: u8| {
        body.split(|byte| *byte == 0)
            .find_map(|field| field.split_first().filter(|(kind, _)| **kind == wanted))
            .map(|(_, text)| String::from_utf8_lossy(text).into_owned())
            .unwrap_or_default()
    };
    Error::Sql {
        code: field(b'C'),
        message: field(b'M'),
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed message")
}

fn not_trusted() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "the server asks for a password",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_data_row_tells_null_from_empty() {
        let body = [
            0, 3, 0, 0, 0, 2, b'h', b'i', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
        ];
        let row = data_row(&body).unwrap();
        assert_eq!(row, vec![Some("hi".to_owned()), None, Some(String::new())]);
        assert!(data_row(body.get(..7).unwrap()).is_none());
    }

    #[test]
    fn an_error_response_keeps_code_and_message() {
        let error = refused(b"SERROR\0C42P01\0Mrelation \"x\" does not exist\0\0");
        assert_eq!(
            error.to_string(),
            "Postgres answered 42P01: relation \"x\" does not exist"
        );
    }
}

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SendError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::proxy::Protocol;
use crate::proxy::kafka::{Framer, NotKafka, Piece};
use crate::proxy::lane::Way;
use crate::proxy::link::{ConnectionId, Link};
use crate::proxy::verdict::Verdict;

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const CHUNK_BYTES: usize = 16 << 10;
/// 1 MiB in flight for each direction.
const QUEUED_CHUNKS: usize = 64;

/// What one read brought of one frame, or at all; empty at the end of the stream.
struct Chunk {
    arrived: Instant,
    piece: Piece,
}

/// Serves one accepted client until either side or the link ends it.
pub(crate) fn run(client: TcpStream, upstream: SocketAddr, protocol: Protocol, link: &Link) {
    let Ok(server) = TcpStream::connect_timeout(&upstream, CONNECT_WITHIN) else {
        return;
    };
    for socket in [&client, &server] {
        let _ = socket.set_nodelay(true);
    }
    let (client, server) = (Arc::new(client), Arc::new(server));
    let Some(id) = link.enter(&client, &server) else {
        return;
    };
    thread::scope(|scope| {
        for (way, from, to) in [
            (Way::ToServer, &client, &server),
            (Way::ToClient, &server, &client),
        ] {
            let (queue, chunks) = sync_channel(QUEUED_CHUNKS);
            let framer = match protocol {
                Protocol::Opaque => None,
                Protocol::Kafka => Some(Framer::new(way)),
            };
            scope.spawn(move || Reader { framer, queue }.run(from));
            let writer = Writer { link, id, way };
            scope.spawn(move || {
                if !writer.run(to, &chunks) {
                    link.leave(id);
                }
            });
        }
    });
    link.leave(id);
}

/// Takes bytes from one side.
struct Reader {
    framer: Option<Framer>,
    queue: SyncSender<Chunk>,
}

impl Reader {
    fn run(mut self, mut from: &TcpStream) {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            // A reset counts as an end: the writer on this side's other lane will notice it.
            let count = from.read(&mut buffer).unwrap_or(0);
            let bytes = buffer.get(..count).unwrap_or_default();
            // Where the protocol is not understood, nothing can be forwarded: the stream ends.
            let pieces = self.split(bytes).unwrap_or_else(|NotKafka| vec![end()]);
            let ended = pieces.iter().any(|piece| piece.bytes.is_empty());
            if self.pass_on(pieces).is_err() || ended {
                return;
            }
        }
    }

    fn split(&mut self, bytes: &[u8]) -> Result<Vec<Piece>, NotKafka> {
        match &mut self.framer {
            Some(framer) if !bytes.is_empty() => framer.push(bytes),
            _ => Ok(vec![Piece {
                bytes: bytes.to_vec(),
                begins: false,
            }]),
        }
    }

    fn pass_on(&self, pieces: Vec<Piece>) -> Result<(), SendError<Chunk>> {
        let arrived = Instant::now();
        let mut pieces = pieces.into_iter();
        pieces.try_for_each(|piece| self.queue.send(Chunk { arrived, piece }))
    }
}

fn end() -> Piece {
    Piece {
        bytes: Vec::new(),
        begins: false,
    }
}

/// Forwards to one side what the link lets pass.
#[derive(Clone, Copy)]
struct Writer<'a> {
    link: &'a Link,
    id: ConnectionId,
    way: Way,
}

impl Writer<'_> {
    /// Forwards until the end of the stream, which it passes on; false when the connection broke.
    fn run(self, to: &TcpStream, chunks: &Receiver<Chunk>) -> bool {
        let mut forwarding = true;
        for Chunk { arrived, piece } in chunks {
            if piece.bytes.is_empty() {
                return self.end(to, arrived);
            }
            if piece.begins {
                if !self.link.await_leave(self.id, self.way, arrived, 0) {
                    return false;
                }
                forwarding = match self.link.judge(self.id, self.way, &piece.bytes) {
                    Verdict::Forward => true,
                    Verdict::Drop => false,
                    Verdict::Close => return false,
                };
            }
            if forwarding && !self.forward(to, arrived, &piece.bytes) {
                forwarding = false;
                let goes_on = self.way == Way::ToClient;
                if !goes_on || !self.link.goes_on_without_client(self.id) {
                    return false;
                }
            }
        }
        true
    }

    fn forward(self, mut to: &TcpStream, arrived: Instant, bytes: &[u8]) -> bool {
        bytes.chunks(self.link.piece_bytes(self.way)).all(|part| {
            let link = self.link;
            link.await_leave(self.id, self.way, arrived, part.len()) && to.write_all(part).is_ok()
        })
    }

    fn end(self, to: &TcpStream, arrived: Instant) -> bool {
        match self.way {
            Way::ToServer => self.link.await_late_answers(self.id),
            Way::ToClient => self.link.server_ended(self.id),
        }
        self.link.await_leave(self.id, self.way, arrived, 0) && to.shutdown(Shutdown::Write).is_ok()
    }
}

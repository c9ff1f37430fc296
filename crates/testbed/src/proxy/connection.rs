use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::proxy::link::{ConnectionId, Link, Way};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const CHUNK_BYTES: usize = 16 << 10;
/// 1 MiB in flight for each direction.
const QUEUED_CHUNKS: usize = 64;

/// What one read brought; empty at the end of the stream.
struct Chunk {
    arrived: Instant,
    bytes: Vec<u8>,
}

/// Serves one accepted client until either side or the link ends it.
pub(crate) fn run(client: TcpStream, upstream: SocketAddr, link: &Link) {
    let Ok(server) = TcpStream::connect_timeout(&upstream, CONNECT_WITHIN) else {
        return;
    };
    for socket in [&client, &server] {
        let _ = socket.set_nodelay(true);
    }
    let (client, server) = (Arc::new(client), Arc::new(server));
    let Some(id) = link.enter([Arc::clone(&client), Arc::clone(&server)]) else {
        return;
    };
    thread::scope(|scope| {
        for (way, from, to) in [
            (Way::ToServer, &client, &server),
            (Way::ToClient, &server, &client),
        ] {
            let (queue, chunks) = sync_channel(QUEUED_CHUNKS);
            scope.spawn(move || read(from, &queue));
            scope.spawn(move || {
                if !write(to, &chunks, link, id, way) {
                    link.leave(id);
                }
            });
        }
    });
    link.leave(id);
}

fn read(mut from: &TcpStream, queue: &SyncSender<Chunk>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        // A reset counts as an end: the writer on this side's other lane will notice it.
        let count = from.read(&mut buffer).unwrap_or(0);
        let bytes = buffer.get(..count).unwrap_or_default().to_vec();
        let sent = queue.send(Chunk {
            arrived: Instant::now(),
            bytes,
        });
        if sent.is_err() || count == 0 {
            return;
        }
    }
}

/// Forwards until the end of the stream, which it passes on; false when the connection broke.
fn write(
    mut to: &TcpStream,
    chunks: &Receiver<Chunk>,
    link: &Link,
    id: ConnectionId,
    way: Way,
) -> bool {
    for chunk in chunks {
        if chunk.bytes.is_empty() {
            return link.await_leave(id, way, chunk.arrived, 0)
                && to.shutdown(Shutdown::Write).is_ok();
        }
        for piece in chunk.bytes.chunks(link.piece_bytes()) {
            if !link.await_leave(id, way, chunk.arrived, piece.len())
                || to.write_all(piece).is_err()
            {
                return false;
            }
        }
    }
    true
}

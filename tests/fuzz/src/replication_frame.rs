//! Frames of the replication stream, as the client library reads them for the relay: a stream of
//! backend messages, of which CopyData holds `XLogData` or a keepalive, the first of them a
//! message of pgoutput.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use pgwire_replication::protocol::framing::MessageReader;
use pgwire_replication::protocol::{ReplicationCopyData, parse_copy_data, parse_error_response};

use crate::pgoutput_message;

/// Larger messages are refused before they are buffered.
const MAX_MESSAGE_BYTES: usize = 1 << 16;

/// Reads `bytes` as a stream, and as the content of one CopyData.
pub fn check(bytes: &[u8]) {
    let mut reader = MessageReader::new().with_max_message_size(MAX_MESSAGE_BYTES);
    let mut stream = bytes;
    loop {
        // A slice is always ready.
        let mut context = Context::from_waker(Waker::noop());
        let polled = pin!(reader.read(&mut stream)).poll(&mut context);
        let Poll::Ready(read) = polled else {
            panic!("reading from a slice never waits");
        };
        let Ok(message) = read else { break };
        if message.is_copy_data() {
            check_frame(message.payload);
        } else if message.is_error() {
            assert!(parse_error_response(&message.payload).len() <= 4 * message.payload.len() + 64);
        }
    }
    check_frame(Bytes::copy_from_slice(bytes));
}

/// Fields are where the manual's "Streaming Replication Protocol" says.
fn check_frame(payload: Bytes) {
    let number = |at: usize| -> Option<u64> {
        let bytes = payload.get(at..at + 8)?;
        bytes.try_into().ok().map(u64::from_be_bytes)
    };
    match parse_copy_data(payload.clone()) {
        Ok(ReplicationCopyData::XLogData {
            wal_start,
            wal_end,
            server_time_micros,
            data,
        }) => {
            assert_eq!(payload.first(), Some(&b'w'));
            assert_eq!(number(1), Some(wal_start.as_u64()));
            assert_eq!(number(9), Some(wal_end.as_u64()));
            assert_eq!(number(17), Some(server_time_micros as u64));
            assert_eq!(payload.get(25..), Some(&*data));
            pgoutput_message::check(&data);
        }
        Ok(ReplicationCopyData::KeepAlive {
            wal_end,
            server_time_micros,
            reply_requested,
        }) => {
            assert_eq!(payload.first(), Some(&b'k'));
            assert_eq!(number(1), Some(wal_end.as_u64()));
            assert_eq!(number(9), Some(server_time_micros as u64));
            assert_eq!(
                payload.get(17).map(|byte| *byte != 0),
                Some(reply_requested)
            );
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

use crate::proxy::lane::Way;

/// Enough of a frame to know what it is, and an answer's error code.
const HEAD_BYTES: usize = 32;
const LENGTH_BYTES: usize = 4;
/// Longer than any frame that a broker takes; beyond it this is not Kafka's protocol.
const FRAME_BYTES_MAX: usize = 1 << 30;

/// A part of one frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub bytes: Vec<u8>,
    /// It holds the frame's head: all of a short frame, else at least 32 bytes.
    pub begins: bool,
}

/// The stream is not Kafka's protocol.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotKafka;

/// Splits a stream at frame boundaries. Frames are passed on as they come and never gathered.
#[derive(Debug)]
pub(crate) struct Framer {
    frame_bytes_min: usize,
    head: Vec<u8>,
    /// Bytes of the present frame that are yet to come behind its head.
    missing: usize,
}

impl Framer {
    pub fn new(way: Way) -> Framer {
        let frame_bytes_min = match way {
            // Key, version, correlation id.
            Way::ToServer => 8,
            Way::ToClient => 4,
        };
        Framer {
            frame_bytes_min,
            head: Vec::new(),
            missing: 0,
        }
    }

    /// The pieces that `bytes` complete.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Piece>, NotKafka> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            if self.missing > 0 {
                let bytes = self.rest_of_frame(&mut bytes);
                pieces.push(Piece {
                    bytes,
                    begins: false,
                });
            } else if let Some(frame) = self.fill_head(&mut bytes)? {
                self.missing = frame - self.head.len();
                let mut whole = std::mem::take(&mut self.head);
                whole.extend(self.rest_of_frame(&mut bytes));
                pieces.push(Piece {
                    bytes: whole,
                    begins: true,
                });
            }
        }
        Ok(pieces)
    }

    fn rest_of_frame(&mut self, bytes: &mut &[u8]) -> Vec<u8> {
        let rest = take(bytes, self.missing);
        self.missing -= rest.len();
        rest.to_vec()
    }

    /// How long the frame is, length field included, once its head is complete.
    fn fill_head(&mut self, bytes: &mut &[u8]) -> Result<Option<usize>, NotKafka> {
        self.fill_to(LENGTH_BYTES, bytes);
        let Some(length) = self.head.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| NotKafka)?;
        if length < self.frame_bytes_min || length > FRAME_BYTES_MAX {
            return Err(NotKafka);
        }
        let frame = LENGTH_BYTES + length;
        let wanted = frame.min(HEAD_BYTES);
        self.fill_to(wanted, bytes);
        Ok((self.head.len() == wanted).then_some(frame))
    }

    fn fill_to(&mut self, wanted: usize, bytes: &mut &[u8]) {
        let lacking = wanted.saturating_sub(self.head.len());
        self.head.extend_from_slice(take(bytes, lacking));
    }
}

fn take<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    taken
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn frame(length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, 0, length];
        frame.extend(1..=length);
        frame
    }

    /// Frames as the pieces tell them, however the stream was cut.
    fn framed(stream: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut framer = Framer::new(Way::ToServer);
        let mut frames: Vec<Vec<u8>> = Vec::new();
        for bytes in stream.chunks(step) {
            for piece in framer.push(bytes).unwrap() {
                match piece.begins {
                    true => frames.push(piece.bytes),
                    false => frames.last_mut().unwrap().extend(piece.bytes),
                }
            }
        }
        frames
    }

    #[test]
    fn frames_are_found_however_the_stream_is_cut() {
        let frames = [frame(8), frame(27), frame(28), frame(29), frame(200)];
        let stream = frames.concat();
        for step in 1..=stream.len() {
            assert_eq!(framed(&stream, step), frames, "{step} bytes at a time");
        }
    }

    #[test]
    fn a_piece_that_begins_a_frame_holds_its_head() {
        let mut framer = Framer::new(Way::ToServer);
        let long = frame(100);
        assert_eq!(framer.push(&long[..31]), Ok(vec![]));
        let pieces = framer.push(&long[31..40]).unwrap();
        assert_eq!(
            pieces,
            [Piece {
                bytes: long[..40].to_vec(),
                begins: true
            }]
        );
    }

    #[test]
    fn other_protocols_are_refused() {
        for stream in [&b"GET / HTTP/1.0"[..], &[0, 0, 0, 7], &[0xff; 4]] {
            assert_eq!(Framer::new(Way::ToServer).push(stream), Err(NotKafka));
        }
    }
}

//! Checkpoint records: any bytes are read or refused, and what is read is written and read again
//! as the same.

use allocation_counter::measure;
use delivery::{CHECKPOINT_FORMAT, Checkpoint, CheckpointError};

/// What reads and writes a record.
#[derive(Clone, Copy)]
pub struct Codec {
    /// Reads.
    pub decode: fn(&[u8]) -> Result<Checkpoint, CheckpointError>,
    /// Writes.
    pub encode: fn(&Checkpoint) -> Vec<u8>,
}

/// Checks [`Checkpoint`].
pub fn check(bytes: &[u8]) {
    let codec = Codec {
        decode: Checkpoint::decode,
        encode: Checkpoint::encode,
    };
    check_with(bytes, codec);
}

/// Checks `codec`.
pub fn check_with(bytes: &[u8], codec: Codec) {
    let mut decoded = None;
    let allocated = measure(|| decoded = Some((codec.decode)(bytes)));
    let bound = 64 * bytes.len() as u64 + (1 << 14);
    assert!(
        allocated.bytes_max <= bound,
        "{} bytes of memory for a record of {}",
        allocated.bytes_max,
        bytes.len()
    );
    match decoded {
        Some(Ok(checkpoint)) => check_record(&checkpoint, codec),
        Some(Err(CheckpointError::Newer { found })) => {
            assert!(found > u64::from(CHECKPOINT_FORMAT));
        }
        Some(Err(error)) => assert!(!error.to_string().is_empty()),
        None => unreachable!("the measured closure ran"),
    }
}

fn check_record(checkpoint: &Checkpoint, codec: Codec) {
    let encoded = (codec.encode)(checkpoint);
    match (codec.decode)(&encoded) {
        Ok(again) => assert_eq!(again, *checkpoint, "it is read back as another"),
        Err(error) => panic!("{checkpoint:?} is written so that it can't be read: {error:?}"),
    }
    let again = (codec.encode)(checkpoint);
    assert_eq!(again, encoded, "it is not always written the same");
}

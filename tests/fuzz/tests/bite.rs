//! Broken parsers are caught: each test hands a harness one bug, and some input of the corpus
//! shows it. `replay.rs` shows that the same inputs pass without the bug.
#![allow(clippy::unwrap_used)]

mod corpus;

use std::panic::{UnwindSafe, catch_unwind};

use arbitrary::{Arbitrary, Unstructured};
use corpus::files;
use delivery::Checkpoint;
use envelope::{Headers, MapError, Origin, Record, RecordBatch, RowMapper};
use fuzz::{checkpoint, config_secrets, connection_url, envelope_row, pgoutput_message};
use outboxd::config::{Config, ConfigErrors, Postgres};
use pgoutput::{Message, ParseError, Tuple, parse};

/// What the harness says of the first input of the corpus that shows the bug.
#[track_caller]
fn caught(target: &str, check: impl Fn(&[u8]) + UnwindSafe + Copy) -> String {
    for (_, bytes) in files("corpus", target) {
        if let Err(panic) = catch_unwind(move || check(&bytes)) {
            return match panic.downcast::<String>() {
                Ok(text) => *text,
                Err(panic) => (*panic.downcast::<&str>().unwrap()).to_owned(),
            };
        }
    }
    panic!("no input of {target} shows the bug");
}

#[test]
fn a_decoder_that_loses_a_bit_is_caught() {
    let said = caught("pgoutput", fuzz::planted::check);
    assert!(said.contains("encodes to other bytes"), "{said}");
}

#[test]
fn a_decoder_that_trusts_a_length_is_caught() {
    fn trusting(bytes: &[u8]) -> Result<Message<'_>, ParseError> {
        let announced = bytes
            .last_chunk()
            .map_or(0, |length| u32::from_be_bytes(*length));
        std::hint::black_box(Vec::<u8>::with_capacity(announced as usize));
        parse(bytes)
    }
    let said = caught("pgoutput", |bytes| {
        pgoutput_message::check_with(bytes, trusting);
    });
    assert!(said.contains("decoding allocates"), "{said}");
}

#[test]
fn a_checkpoint_that_forgets_its_position_is_caught() {
    fn forgetful(checkpoint: &Checkpoint) -> Vec<u8> {
        let position = None;
        Checkpoint {
            position,
            ..checkpoint.clone()
        }
        .encode()
    }
    let codec = checkpoint::Codec {
        decode: Checkpoint::decode,
        encode: forgetful,
    };
    let said = caught("checkpoint", |bytes| checkpoint::check_with(bytes, codec));
    assert!(said.contains("read back as another"), "{said}");
}

#[test]
fn a_password_that_is_shown_is_caught() {
    fn open(loaded: &Result<Config, ConfigErrors>) -> String {
        let pipelines = loaded.iter().flat_map(|config| &config.pipelines);
        let passwords = pipelines.filter_map(|pipeline| pipeline.postgres.password.as_ref());
        passwords.map(|password| password.expose()).collect()
    }
    let said = caught("config_secrets", |bytes| {
        if let Ok(case) = config_secrets::Case::arbitrary_take_rest(Unstructured::new(bytes)) {
            config_secrets::check_with(&case, open);
        }
    });
    assert!(said.contains(config_secrets::MARKER), "{said}");
}

#[test]
fn a_url_that_is_unescaped_twice_is_caught() {
    fn twice(url: &str) -> Option<Postgres> {
        connection_url::read(&url.replace("%25", "%"))
    }
    caught("connection_url", |bytes| {
        if let Ok(url) = std::str::from_utf8(bytes) {
            connection_url::check_with(url, twice);
        }
    });
}

/// Checks a mapper with every row of the corpus.
#[track_caller]
fn caught_mapping(map: envelope_row::Mapper) -> String {
    caught("envelope", |bytes| {
        if let Ok(case) = envelope_row::Case::arbitrary_take_rest(Unstructured::new(bytes)) {
            envelope_row::check_with(&case, map);
        }
    })
}

#[test]
fn a_payload_that_is_parsed_and_written_again_is_caught() {
    fn retyping(
        mapper: &mut RowMapper,
        tuple: Tuple<'_>,
        origin: Origin,
        batch: &mut RecordBatch,
    ) -> Result<(), MapError> {
        mapper.map(tuple, origin, batch)?;
        let mut own = RecordBatch::new();
        batch.move_tail(batch.len() - 1, &mut own);
        let record = own.get(0).unwrap();
        let json = record
            .value
            .map(serde_json::from_slice::<serde_json::Value>);
        let value = match json {
            Some(Ok(json)) => Some(json.to_string().into_bytes()),
            Some(Err(_)) | None => record.value.map(<[u8]>::to_vec),
        };
        let headers: Vec<_> = record.headers().collect();
        batch.push(&Record {
            value: value.as_deref(),
            headers: Headers::from(&headers[..]),
            ..record
        });
        Ok(())
    }
    caught_mapping(retyping);
}

#[test]
fn a_refused_row_that_leaves_something_behind_is_caught() {
    fn leaving(
        mapper: &mut RowMapper,
        tuple: Tuple<'_>,
        origin: Origin,
        batch: &mut RecordBatch,
    ) -> Result<(), MapError> {
        let verdict = mapper.map(tuple, origin, batch);
        if verdict.is_err() {
            let mut copy = RecordBatch::new();
            copy.push(&batch.get(0).unwrap());
            copy.move_tail(0, batch);
        }
        verdict
    }
    let said = caught_mapping(leaving);
    assert!(said.contains("something stays in the batch"), "{said}");
}

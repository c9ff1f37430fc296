#![allow(clippy::unwrap_used)]

use delivery::{Opened, Opener};
use envelope::{Fate, Format, Headers, Record, TableId, TableSpec};
use event::encryption::{FieldPath, Key, KeyAlgorithm, Keyring, Scope, Subject, seal};
use futures_util::FutureExt;
use pgoutput::{CommitLsn, Lsn, PgTimestamp, Position};
use serde_json::value::RawValue;

use super::{Decryption, OF_ENCRYPTION};
use crate::config::{Decrypt, KeyringSource, Pipeline, Secret};

const SUBJECT: Subject<'static> = Subject {
    event_id: "0198a1b2-0000-7000-8000-000000000001",
    event_type: "recon.matched",
};
/// With what a parser that writes again would not keep.
const PAYLOAD: &str =
    r#"{"b":1.50,  "a":{"iban":"DE02"} ,"b":"\u00e9","items":[{"iban":"X"},{"iban":"Y"}]}"#;

fn keyring(kid: &str) -> Keyring {
    Keyring::new(Key::generate(kid, KeyAlgorithm::A256Kw).unwrap())
}

fn decryption(keys: &Keyring) -> Decryption {
    let pipeline = Pipeline {
        tables: [Format::Envelope, Format::Payload]
            .map(|format| TableSpec {
                format,
                ..TableSpec::default()
            })
            .into(),
        ..Pipeline::default()
    };
    let decrypt = Decrypt {
        topics: vec!["recon.*".parse().unwrap()],
        keyring: KeyringSource::Text(Secret::new("")),
    };
    Decryption::new(&pipeline, &decrypt, keys.clone())
}

/// The payload with something encrypted, and its headers.
fn sealed(keys: &Keyring, scope: &Scope) -> (String, Vec<(&'static str, Vec<u8>)>) {
    let payload = RawValue::from_string(PAYLOAD.into()).unwrap();
    let sealed = seal(keys, SUBJECT, scope, &payload).now_or_never().unwrap();
    let sealed = sealed.unwrap().unwrap();
    let headers = sealed.scope.headers().into_iter();
    let headers = headers.map(|(name, value)| match value.as_str() {
        Some(text) => (name, text.as_bytes().to_vec()),
        None => (name, value.to_string().into_bytes()),
    });
    (sealed.payload.get().to_owned(), headers.collect())
}

fn open(
    decryption: &Decryption,
    (topic, table): (&str, u16),
    value: Option<&str>,
    headers: &[(&'static str, Vec<u8>)],
) -> Option<Result<Opened, String>> {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, Some(&value[..])))
        .collect();
    decryption.open(&Record {
        topic,
        key: None,
        value: value.map(str::as_bytes),
        timestamp_ms: 0,
        event_id: SUBJECT.event_id,
        event_type: SUBJECT.event_type,
        transfer_id: None,
        seq: None,
        table: TableId(table),
        position: Position {
            commit_lsn: CommitLsn(Lsn::from(1)),
            index: 0,
        },
        commit_time: PgTimestamp(0),
        xid: 1,
        fate: Fate::Sent,
        headers: Headers::from(&headers[..]),
    })
}

fn envelope(payload: &str) -> String {
    format!(r#"{{"eventId":"…","type":"t","transferId":"\"payload\":1","payload":{payload}}}"#)
}

fn scopes() -> [Scope; 2] {
    let paths = ["payload.a.iban", "payload.items.*.iban"];
    let paths = paths.map(|path| path.parse::<FieldPath>().unwrap());
    [Scope::Payload, Scope::fields(paths.into()).unwrap()]
}

#[test]
fn payload_and_fields_are_published_in_the_clear_and_all_else_as_it_stands() {
    let keys = keyring("k");
    let decryption = decryption(&keys);
    for scope in scopes() {
        let (payload, headers) = sealed(&keys, &scope);
        for (table, value, expected) in [
            (0, envelope(&payload), envelope(PAYLOAD)),
            (1, payload.clone(), PAYLOAD.to_owned()),
        ] {
            let opened = open(
                &decryption,
                ("recon.matched", table),
                Some(&value),
                &headers,
            );
            let opened = opened.unwrap().unwrap();
            assert_eq!(opened.value, expected);
            assert_eq!(opened.without, OF_ENCRYPTION);
        }
    }
}

#[test]
fn other_topics_and_what_is_not_encrypted_pass_through() {
    let keys = keyring("k");
    let decryption = decryption(&keys);
    let (payload, headers) = sealed(&keys, &Scope::Payload);
    let value = envelope(&payload);
    assert_eq!(
        open(&decryption, ("ledger.posted", 0), Some(&value), &headers),
        None
    );
    let plain = envelope(PAYLOAD);
    assert_eq!(
        open(&decryption, ("recon.matched", 0), Some(&plain), &[]),
        None
    );
}

#[test]
fn what_cannot_be_decrypted_says_why_and_shows_no_payload() {
    let keys = keyring("k");
    let (payload, headers) = sealed(&keys, &Scope::Payload);
    let value = envelope(&payload);
    let reason = |keys: &Keyring, value: Option<&str>, headers: &[_]| {
        let opened = open(&decryption(keys), ("recon.matched", 0), value, headers);
        let reason = opened.unwrap().unwrap_err();
        assert!(!reason.contains("DE02"), "{reason}");
        reason
    };
    let unknown = reason(&keyring("other"), Some(&value), &headers);
    assert!(
        unknown.contains("encrypted with key \"k\", which this keyring"),
        "{unknown}"
    );
    let forged = reason(&keyring("k"), Some(&value), &headers);
    assert!(
        forged.contains("could not be decrypted with key \"k\""),
        "{forged}"
    );
    let plain = envelope(PAYLOAD);
    let plain = reason(&keys, Some(&plain), &headers);
    assert!(plain.contains("it is not a string"), "{plain}");
    let none = reason(&keys, None, &headers);
    assert!(none.contains("not valid JSON"), "{none}");
    let strange = [("content-encryption", b"pgp".to_vec())];
    let strange = reason(&keys, Some(&value), &strange);
    assert!(strange.contains("only \"jwe\" is known"), "{strange}");
}

#[test]
fn debug_shows_no_key() {
    let key = Key::from_slice("k", KeyAlgorithm::Direct, &[77; 32]).unwrap();
    let shown = format!("{:?}", decryption(&Keyring::new(key)));
    assert!(!shown.contains("77") && !shown.contains("TU1N"), "{shown}");
}

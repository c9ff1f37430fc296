//! Sealing and opening payloads, with keyrings that change.
#![allow(missing_docs, clippy::unwrap_used)]

use event::encryption::{
    ContentKey, Key, KeyAlgorithm, KeyFuture, KeyStore, KeyStoreError, Keyring, OpenError, Scope,
    SealError, Sealed, Subject, WrappedKey, open, seal,
};
use proptest::prelude::*;
use serde_json::value::RawValue;
use std::sync::atomic::{AtomicUsize, Ordering};

const SUBJECT: Subject<'static> = Subject {
    event_id: "0198a1b2-0000-7000-8000-000000000001",
    event_type: "transfers.settled",
};

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.into()).unwrap()
}

fn keyring(kid: &str) -> Keyring {
    Keyring::new(Key::generate(kid, KeyAlgorithm::A256Kw).unwrap())
}

fn fields(paths: &[&str]) -> Scope {
    Scope::fields(paths.iter().map(|path| path.parse().unwrap()).collect()).unwrap()
}

/// Neither sealing nor opening with a keyring waits for anything.
fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn sealed(keys: &dyn KeyStore, scope: &Scope, payload: &str) -> Sealed {
    now(seal(keys, SUBJECT, scope, &raw(payload)))
        .unwrap()
        .unwrap()
}

fn opened(keys: &dyn KeyStore, sealed: &Sealed) -> Result<String, OpenError> {
    let opened = now(open(keys, SUBJECT, &sealed.scope, &sealed.payload))?;
    Ok(opened.get().to_owned())
}

#[test]
fn a_whole_payload_comes_back_byte_for_byte() {
    for algorithm in [KeyAlgorithm::A256Kw, KeyAlgorithm::Direct] {
        let keys = Keyring::new(Key::generate("k", algorithm).unwrap());
        for payload in [
            r#"{"b": 1.10, "a": 12345678901234567890123}"#,
            "null",
            "\"x\"",
        ] {
            let sealed = sealed(&keys, &Scope::Payload, payload);
            assert!(sealed.payload.get().starts_with("\"ey"));
            assert_eq!(opened(&keys, &sealed).unwrap(), payload);
        }
    }
}

#[test]
fn fields_are_sealed_and_what_stands_around_them_is_left() {
    let keys = keyring("k");
    let payload =
        r#"{"amount": 1.10, "customer": {"name": "Ann", "n": 7}, "items": [{"iban": "X"}, {}]}"#;
    let scope = fields(&[
        "payload.customer.name",
        "payload.items.*.iban?",
        "payload.note?",
    ]);
    let sealed = sealed(&keys, &scope, payload);
    let text = sealed.payload.get();
    assert!(
        text.starts_with(r#"{"amount": 1.10, "customer": {"name": "ey"#),
        "{text}"
    );
    assert!(!text.contains("Ann") && !text.contains("\"X\""));
    // Only what was there is named in the headers.
    assert_eq!(
        sealed.scope,
        fields(&["payload.customer.name", "payload.items.*.iban?"])
    );
    assert_eq!(opened(&keys, &sealed).unwrap(), payload);
}

#[test]
fn a_field_that_must_be_encrypted_and_is_missing_is_an_error() {
    let keys = keyring("k");
    let scope = fields(&["payload.customer.name"]);
    let error = now(seal(&keys, SUBJECT, &scope, &raw("{}"))).unwrap_err();
    assert!(matches!(error, SealError::FieldMissing { .. }));
    assert!(
        error.to_string().contains("payload.customer.name?"),
        "{error}"
    );
    let scope = fields(&["payload.customer.name?"]);
    assert!(
        now(seal(&keys, SUBJECT, &scope, &raw("{}")))
            .unwrap()
            .is_none()
    );
}

#[test]
fn fields_can_not_be_swapped_within_an_event() {
    let keys = keyring("k");
    let scope = fields(&["payload.from", "payload.to"]);
    let mut sealed = sealed(&keys, &scope, r#"{"from":"A","to":"B"}"#);
    let swapped = sealed.payload.get().replace("\"from\"", "\"x\"");
    let swapped = swapped
        .replace("\"to\"", "\"from\"")
        .replace("\"x\"", "\"to\"");
    sealed.payload = raw(&swapped);
    let error = opened(&keys, &sealed).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Moved {
                parameter: "path",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn after_a_rotation_old_and_new_events_are_read() {
    let mut keys = keyring("old");
    let old = sealed(&keys, &Scope::Payload, "1");
    keys.add(Key::generate("new", KeyAlgorithm::A256Kw).unwrap())
        .unwrap();
    keys.make_current("new").unwrap();
    let new = sealed(&keys, &Scope::Payload, "2");
    assert_eq!(opened(&keys, &old).unwrap(), "1");
    assert_eq!(opened(&keys, &new).unwrap(), "2");

    keys.remove("old").unwrap();
    let error = opened(&keys, &old).unwrap_err();
    assert!(
        matches!(&error, OpenError::UnknownKey { kid, .. } if kid == "old"),
        "{error}"
    );
    assert_eq!(opened(&keys, &new).unwrap(), "2");
}

#[test]
fn another_key_of_the_same_name_opens_nothing() {
    for algorithm in [KeyAlgorithm::A256Kw, KeyAlgorithm::Direct] {
        let [one, other] = [(); 2].map(|()| Keyring::new(Key::generate("k", algorithm).unwrap()));
        let error = opened(&other, &sealed(&one, &Scope::Payload, "1")).unwrap_err();
        assert!(matches!(error, OpenError::NotAuthentic { .. }), "{error}");
        assert!(!error.is_passing());
    }
}

#[test]
fn a_key_is_used_in_one_way_only() {
    let bytes = [9; 32];
    let of = |algorithm| Keyring::new(Key::from_slice("k", algorithm, &bytes).unwrap());
    let sealed = sealed(&of(KeyAlgorithm::Direct), &Scope::Payload, "1");
    let error = opened(&of(KeyAlgorithm::A256Kw), &sealed).unwrap_err();
    assert!(matches!(error, OpenError::NotAuthentic { .. }), "{error}");
}

#[test]
fn headers_that_name_more_than_is_there_are_an_error() {
    let keys = keyring("k");
    let mut sealed = sealed(&keys, &fields(&["payload.a"]), r#"{"a":1,"b":2}"#);
    sealed.scope = fields(&["payload.a", "payload.c"]);
    assert!(matches!(
        opened(&keys, &sealed),
        Err(OpenError::FieldMissing { .. })
    ));
    sealed.scope = fields(&["payload.a", "payload.b"]);
    let error = opened(&keys, &sealed).unwrap_err();
    assert!(error.to_string().contains("payload.b is no JWE"), "{error}");
}

/// A service that holds one key, and counts how often it is asked.
struct Service {
    keys: Keyring,
    asked: AtomicUsize,
    is_down: bool,
}

impl KeyStore for Service {
    fn content_key(&self) -> KeyFuture<'_, (ContentKey, WrappedKey)> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.is_down {
            true => Box::pin(async { Err(KeyStoreError::passing("down")) }),
            false => self.keys.content_key(),
        }
    }

    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey) -> KeyFuture<'a, Option<ContentKey>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.is_down {
            true => Box::pin(async { Err(KeyStoreError::passing("down")) }),
            false => self.keys.unwrap(wrapped),
        }
    }
}

#[test]
fn a_service_is_asked_once_for_all_fields_of_an_event_and_may_be_down() {
    let mut service = Service {
        keys: keyring("k"),
        asked: AtomicUsize::new(0),
        is_down: false,
    };
    let payload = r#"{"a":1,"b":2}"#;
    let scope = fields(&["payload.a", "payload.b"]);
    let sealed = sealed(&service, &scope, payload);
    assert_eq!(opened(&service, &sealed).unwrap(), payload);
    assert_eq!(service.asked.load(Ordering::Relaxed), 2);

    service.is_down = true;
    let error = opened(&service, &sealed).unwrap_err();
    assert!(error.is_passing(), "{error}");
    let error = now(seal(&service, SUBJECT, &scope, &raw(payload))).unwrap_err();
    assert!(matches!(error, SealError::Keys(source) if source.is_passing()));
}

proptest! {
    #[test]
    fn any_text_is_refused_or_opened_without_panic(text in "\\PC{0,200}", dots in "[a-zA-Z0-9_.-]{0,200}") {
        let keys = keyring("k");
        for text in [text, dots] {
            let payload = serde_json::value::to_raw_value(&text).unwrap();
            prop_assert!(now(open(&keys, SUBJECT, &Scope::Payload, &payload)).is_err());
            let scope = Scope::from_headers(Some(b"jwe"), Some(text.as_bytes()));
            prop_assert!(scope.is_err() || text.starts_with('['));
            let _ = Keyring::from_json(&text);
        }
    }

    #[test]
    fn any_string_comes_back(value in "\\PC*", name in "[^.?*]{1,8}") {
        let keys = keyring("k");
        let payload = serde_json::json!({ name.clone(): value, "other": 1 }).to_string();
        let scope = fields(&[&format!("payload.{name}")]);
        let sealed = sealed(&keys, &scope, &payload);
        prop_assert_eq!(opened(&keys, &sealed).unwrap(), payload);
    }
}

//! Another language's JOSE library opens what is sealed here, and the other way round. `.ci/deps`
//! installs it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::io::Write;
use std::process::{Command, Stdio};

use event::encryption::{Key, KeyAlgorithm, Keyring, Scope, Subject, open, seal};
use serde_json::{Value, json, value::to_raw_value};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop.py");
const SUBJECT: Subject<'static> = Subject {
    event_id: "0198a1b2-0000-7000-8000-000000000001",
    event_type: "transfers.settled",
};

/// The first Python that has jwcrypto; Debian's packages are those of `/usr/bin/python3` alone.
fn python() -> &'static str {
    let has_it = |python: &&str| {
        let mut import = Command::new(python);
        import.args(["-c", "import jwcrypto"]).stderr(Stdio::null());
        import.status().is_ok_and(|status| status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(has_it);
    found.expect("no Python with jwcrypto: run .ci/deps")
}

fn ask(mut question: Value, path: &str) -> Value {
    for (name, value) in [
        ("eventId", SUBJECT.event_id),
        ("eventType", SUBJECT.event_type),
        ("path", path),
    ] {
        // A question may name another place on purpose.
        let members = question.as_object_mut().unwrap();
        members.entry(name).or_insert_with(|| value.into());
    }
    let mut command = Command::new(python());
    command
        .arg(SCRIPT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(question.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn keyrings() -> impl Iterator<Item = Keyring> {
    let algorithms = [KeyAlgorithm::A256Kw, KeyAlgorithm::Direct];
    algorithms
        .map(|algorithm| Keyring::new(Key::generate("k", algorithm).unwrap()))
        .into_iter()
}

fn now<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

#[test]
fn another_library_opens_what_is_sealed_here() {
    let value = json!({"name": "Zoë", "amount": 12, "nested": [null, true]});
    for keys in keyrings() {
        let text = keys.to_json();
        let whole = to_raw_value(&value).unwrap();
        let sealed = now(seal(&keys, SUBJECT, &Scope::Payload, &whole))
            .unwrap()
            .unwrap();
        let jwe: Value = serde_json::from_str(sealed.payload.get()).unwrap();
        let question = json!({"keyring": *text, "open": jwe});
        assert_eq!(ask(question.clone(), "payload"), json!({"value": value}));

        let mut elsewhere = question;
        elsewhere["eventId"] = "another".into();
        let refused = ask(elsewhere, "payload");
        assert!(
            refused["error"].as_str().unwrap().contains("another place"),
            "{refused}"
        );

        let field = Scope::fields(vec!["payload.name".parse().unwrap()]).unwrap();
        let sealed = now(seal(&keys, SUBJECT, &field, &whole)).unwrap().unwrap();
        let payload: Value = serde_json::from_str(sealed.payload.get()).unwrap();
        let question = json!({"keyring": *text, "open": payload["name"]});
        assert_eq!(ask(question, "payload.name"), json!({"value": "Zoë"}));
    }
}

#[test]
fn what_another_library_sealed_is_opened_here() {
    let value = json!({"name": "Zoë", "amount": 12});
    for keys in keyrings() {
        let question =
            |value: &Value| json!({"keyring": *keys.to_json(), "kid": "k", "seal": value});
        let payload = to_raw_value(&ask(question(&value), "payload")["jwe"]).unwrap();
        let opened = now(open(&keys, SUBJECT, &Scope::Payload, &payload)).unwrap();
        assert_eq!(serde_json::from_str::<Value>(opened.get()).unwrap(), value);

        let name = ask(question(&value["name"]), "payload.name");
        let payload = to_raw_value(&json!({"name": name["jwe"], "amount": 12})).unwrap();
        let field = Scope::fields(vec!["payload.name".parse().unwrap()]).unwrap();
        let opened = now(open(&keys, SUBJECT, &field, &payload)).unwrap();
        assert_eq!(serde_json::from_str::<Value>(opened.get()).unwrap(), value);
    }
}

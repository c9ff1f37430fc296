#![allow(clippy::unwrap_used)]

use super::*;

const SUBJECT: Subject<'static> = Subject {
    event_id: "0198a1b2-0000-7000-8000-000000000001",
    event_type: "transfers.settled",
};
const PLACE: Place<'static> = Place {
    subject: SUBJECT,
    path: "payload",
};

fn key() -> ContentKey {
    ContentKey::from_slice(&[7; 32]).unwrap()
}

fn wrapped() -> WrappedKey {
    WrappedKey {
        kid: "k".into(),
        alg: "dir".into(),
        encrypted_key: Vec::new(),
    }
}

fn open(jwe: &str, place: Place<'_>) -> Result<Vec<u8>, OpenError> {
    let opened = Sealed::parse(jwe, place.path)?.open(Some(&key()), place)?;
    Ok(opened.to_vec())
}

fn with_header(header: &str) -> String {
    let protected = BASE64_URL_SAFE_NO_PAD.encode(header);
    let message = Payload {
        msg: b"{}".as_slice(),
        aad: protected.as_bytes(),
    };
    let sealed = cipher(&key()).encrypt(&[0; 12].into(), message).unwrap();
    let (ciphertext, tag) = sealed.split_last_chunk::<16>().unwrap();
    let [nonce, ciphertext, tag] =
        [&[0; 12][..], ciphertext, tag].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
    format!("{protected}..{nonce}.{ciphertext}.{tag}")
}

/// RFC 7516, appendix A.1, whose content key is known.
#[test]
fn the_ciphertext_of_the_rfc_is_decrypted() {
    let protected = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ";
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
    let mut message = decode(
        "5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6jiSdiwkIr3ajwQzaBtQD_A",
    );
    message.extend(decode("XFBoMYUZodetZdvTiFvSkQ"));
    let content_key = [
        177, 161, 244, 128, 84, 143, 225, 115, 63, 180, 3, 255, 107, 154, 212, 246, 138, 7, 110,
        91, 112, 46, 34, 105, 47, 130, 203, 46, 122, 234, 64, 252,
    ];
    let sealed = Sealed {
        protected,
        // The place is bound by headers that the example does not have.
        header: serde_json::to_vec(&NewHeader {
            alg: "",
            enc: ENC,
            kid: "",
            event_id: SUBJECT.event_id,
            event_type: SUBJECT.event_type,
            path: "payload",
        })
        .unwrap(),
        wrapped: wrapped(),
        nonce: decode("48V1_ALb6US04U3b").try_into().unwrap(),
        message,
    };
    let key = ContentKey::from_slice(&content_key).unwrap();
    let opened = sealed.open(Some(&key), PLACE).unwrap();
    assert_eq!(
        opened.as_slice(),
        b"The true sign of intelligence is not knowledge but imagination."
    );
}

#[test]
fn what_is_sealed_for_a_place_opens_there_and_nowhere_else() {
    let jwe = seal(b"\"secret\"", (&key(), &wrapped()), PLACE).unwrap();
    assert_eq!(open(&jwe, PLACE).unwrap(), b"\"secret\"");
    let moved = |parameter: &str, place: Place<'_>| {
        let error = open(&jwe, place).unwrap_err();
        assert!(
            matches!(&error, OpenError::Moved { parameter: found, .. } if *found == parameter),
            "{error}"
        );
    };
    let subject = |event_id, event_type| Subject {
        event_id,
        event_type,
    };
    let at = |subject| Place { subject, ..PLACE };
    moved("eventId", at(subject("other", SUBJECT.event_type)));
    moved(
        "eventType",
        at(subject(SUBJECT.event_id, "transfers.failed")),
    );
    moved(
        "path",
        Place {
            path: "payload.a",
            ..PLACE
        },
    );
}

#[test]
fn no_two_ciphertexts_are_alike() {
    let seal = || seal(b"1", (&key(), &wrapped()), PLACE).unwrap();
    assert_ne!(seal(), seal());
}

#[test]
fn a_changed_bit_anywhere_is_noticed() {
    let jwe = seal(b"{\"a\":1}", (&key(), &wrapped()), PLACE).unwrap();
    for at in 0..jwe.len() {
        let mut bytes = jwe.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(changed) = String::from_utf8(bytes) else {
            continue;
        };
        assert!(open(&changed, PLACE).is_err(), "{at} of {jwe}");
    }
}

#[test]
fn a_shortened_tag_is_refused() {
    let jwe = seal(b"1", (&key(), &wrapped()), PLACE).unwrap();
    let (rest, tag) = jwe.rsplit_once('.').unwrap();
    let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).unwrap();
    for length in 0..16 {
        let tag = BASE64_URL_SAFE_NO_PAD.encode(&tag[..length]);
        let error = open(&format!("{rest}.{tag}"), PLACE).unwrap_err();
        assert!(error.to_string().contains("not 16 bytes"), "{error}");
    }
}

#[test]
fn only_this_profile_is_opened() {
    let bound = r#""eventId":"0198a1b2-0000-7000-8000-000000000001","eventType":"transfers.settled","path":"payload""#;
    let header = |rest: &str| with_header(&format!(r#"{{"alg":"dir","kid":"k",{rest}}}"#));
    assert!(open(&header(&format!(r#""enc":"A256GCM",{bound}"#)), PLACE).is_ok());
    assert!(open(&header(&format!(r#""enc":"A256GCM","x":1,{bound}"#)), PLACE).is_ok());

    let refused = |rest: &str, expected: &str| {
        let error = open(&header(rest), PLACE).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(&format!(r#""enc":"A128GCM",{bound}"#), "enc \"A128GCM\"");
    refused(&format!(r#""enc":"A256GCM","zip":"DEF",{bound}"#), "zip");
    refused(
        &format!(r#""enc":"A256GCM","crit":["x"],"x":1,{bound}"#),
        "crit",
    );
    refused(r#""enc":"A256GCM""#, "lacks eventId");
    refused(bound, "no JSON object with alg and enc");
    refused(
        &format!(r#""enc":"A256GCM","enc":"A256GCM",{bound}"#),
        "no JSON object",
    );
    let no_kid = with_header(&format!(r#"{{"alg":"dir","enc":"A256GCM",{bound}}}"#));
    assert!(
        open(&no_kid, PLACE)
            .unwrap_err()
            .to_string()
            .contains("no kid")
    );
}

#[test]
fn what_is_no_jwe_is_told() {
    let error = |jwe: &str| open(jwe, PLACE).unwrap_err().to_string();
    for jwe in ["", ".", "a.b.c.d", "a.b.c.d.e.f"] {
        assert!(error(jwe).contains("five parts"), "{jwe}");
    }
    assert!(error("!.b.c.d.e").contains("base64url"));
    assert!(error("e30....").contains("no JSON object"));
    let long = "A".repeat(HEADER_BYTES_MAX + 1);
    assert!(error(&format!("{long}....")).contains("too long"));
}

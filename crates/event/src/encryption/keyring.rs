//! Several keys, one of them current.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Key, KeyAlgorithm, error::KeyError};

/// Keys by name: the current one encrypts, all of them decrypt.
///
/// As text it is a JWK Set (RFC 7517) of symmetric keys with one more member, `current`, which may be
/// missing where there is one key only:
///
/// ```json
/// {"keys": [{"kty": "oct", "kid": "2026-01", "alg": "A256KW", "use": "enc", "k": "…"}],
///  "current": "2026-01"}
/// ```
///
/// `Debug` shows names and algorithms only.
///
/// ```
/// use event::encryption::{Key, KeyAlgorithm, Keyring};
///
/// let mut keys = Keyring::new(Key::generate("2026-01", KeyAlgorithm::A256Kw)?);
/// keys.add(Key::generate("2026-02", KeyAlgorithm::A256Kw)?)?;
/// assert_eq!(keys.current().kid(), "2026-01");
/// keys.make_current("2026-02")?;
///
/// let read = Keyring::from_json(&keys.to_json())?;
/// assert_eq!(read.current().kid(), "2026-02");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Keyring {
    /// Never empty.
    keys: Vec<Key>,
    current: usize,
}

impl Keyring {
    /// With one key, which is the current one.
    pub fn new(key: Key) -> Self {
        Self {
            keys: vec![key],
            current: 0,
        }
    }

    /// Reads a JWK Set.
    ///
    /// # Errors
    /// What is wrong with it. No error holds a key.
    pub fn from_json(json: &str) -> Result<Self, KeyError> {
        let set: JwkSet = serde_json::from_str(json).map_err(|error| malformed(&error))?;
        let mut keys = Vec::with_capacity(set.keys.len());
        for jwk in &set.keys {
            let key = jwk.read()?;
            if keys.iter().any(|other: &Key| other.kid() == key.kid()) {
                return Err(KeyError::Duplicate {
                    kid: jwk.kid.clone(),
                });
            }
            keys.push(key);
        }
        let current = match (set.current, keys.as_slice()) {
            (_, []) => return Err(KeyError::Empty),
            (Some(kid), keys) => match keys.iter().position(|key| key.kid() == kid) {
                Some(current) => current,
                None => return Err(KeyError::CurrentMissing { kid }),
            },
            (None, [_]) => 0,
            (None, _) => return Err(KeyError::NoCurrent),
        };
        Ok(Self { keys, current })
    }

    /// The keyring as a JWK Set, keys included: for a file that only its owner can read.
    pub fn to_json(&self) -> Zeroizing<String> {
        let keys: Vec<_> = self.keys.iter().map(|key| (key, key.to_base64())).collect();
        let set = NewJwkSet {
            keys: keys.iter().map(|(key, k)| NewJwk::of(key, k)).collect(),
            current: self.current().kid(),
        };
        // Strings in structs always are JSON.
        let json = serde_json::to_string_pretty(&set).unwrap_or_default();
        Zeroizing::new(json + "\n")
    }

    /// The key that encrypts.
    pub fn current(&self) -> &Key {
        // `current` always is the place of a key.
        &self.keys[self.current]
    }

    /// The key of that name.
    pub fn get(&self, kid: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.kid() == kid)
    }

    /// All keys, in the order in which they were added.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Adds a key that decrypts. It encrypts only once [`Keyring::make_current`] says so: first
    /// every consumer must have it.
    ///
    /// # Errors
    /// There is one of that name.
    pub fn add(&mut self, key: Key) -> Result<(), KeyError> {
        if self.get(key.kid()).is_some() {
            let kid = key.kid().to_owned();
            return Err(KeyError::Duplicate { kid });
        }
        self.keys.push(key);
        Ok(())
    }

    /// From now on, the key of that name encrypts.
    ///
    /// # Errors
    /// There is none.
    pub fn make_current(&mut self, kid: &str) -> Result<(), KeyError> {
        self.current = self.place(kid)?;
        Ok(())
    }

    /// Removes a key: what is encrypted with it can't be read any more.
    ///
    /// # Errors
    /// There is none of that name, or it is the current one.
    pub fn remove(&mut self, kid: &str) -> Result<(), KeyError> {
        let place = self.place(kid)?;
        if place == self.current {
            return Err(KeyError::StillCurrent { kid: kid.into() });
        }
        self.keys.remove(place);
        self.current -= usize::from(place < self.current);
        Ok(())
    }

    fn place(&self, kid: &str) -> Result<usize, KeyError> {
        let place = self.keys.iter().position(|key| key.kid() == kid);
        place.ok_or_else(|| KeyError::Unknown { kid: kid.into() })
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("keys", &self.keys)
            .field("current", &self.current().kid())
            .finish()
    }
}

/// Parser errors may quote the text, so only their place is passed on.
fn malformed(error: &serde_json::Error) -> KeyError {
    KeyError::Malformed {
        line: error.line(),
        column: error.column(),
        what: match error.classify() {
            serde_json::error::Category::Eof => "it ends too early",
            serde_json::error::Category::Syntax => "it is not valid JSON",
            serde_json::error::Category::Data | serde_json::error::Category::Io => {
                "a member is missing or of another type"
            }
        },
    }
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
    current: Option<String>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: String,
    alg: Option<String>,
    k: Option<Zeroizing<String>>,
}

impl Jwk {
    fn read(&self) -> Result<Key, KeyError> {
        let kid = || self.kid.clone();
        if self.kid.is_empty() {
            return Err(KeyError::NoKid);
        }
        if self.kty != "oct" {
            let kty = self.kty.clone();
            return Err(KeyError::KeyType { kid: kid(), kty });
        }
        let alg = self.alg.as_deref().unwrap_or_default();
        let algorithm = KeyAlgorithm::parse(alg).ok_or_else(|| KeyError::Algorithm {
            kid: kid(),
            alg: alg.to_owned(),
        })?;
        let text = self.k.as_deref().map_or("", String::as_str);
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| KeyError::Length { kid: kid() })?;
        Key::from_slice(kid(), algorithm, &bytes)
    }
}

#[derive(Serialize)]
struct NewJwkSet<'a> {
    keys: Vec<NewJwk<'a>>,
    current: &'a str,
}

#[derive(Serialize)]
struct NewJwk<'a> {
    kty: &'a str,
    kid: &'a str,
    alg: &'a str,
    r#use: &'a str,
    k: &'a str,
}

impl<'a> NewJwk<'a> {
    fn of(key: &'a Key, k: &'a str) -> Self {
        Self {
            kty: "oct",
            kid: key.kid(),
            alg: key.algorithm().as_str(),
            r#use: "enc",
            k,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn key(kid: &str) -> Key {
        Key::generate(kid, KeyAlgorithm::A256Kw).unwrap()
    }

    #[test]
    fn a_keyring_survives_being_written_and_read() {
        let mut keyring = Keyring::new(key("old"));
        keyring
            .add(Key::generate("new", KeyAlgorithm::Direct).unwrap())
            .unwrap();
        keyring.make_current("new").unwrap();
        let read = Keyring::from_json(&keyring.to_json()).unwrap();
        assert_eq!(read.to_json(), keyring.to_json());
        assert_eq!(read.current().kid(), "new");
        assert_eq!(read.current().algorithm(), KeyAlgorithm::Direct);
    }

    #[test]
    fn the_current_key_stays_current_when_others_come_and_go() {
        let mut keyring = Keyring::new(key("1"));
        for kid in ["2", "3"] {
            keyring.add(key(kid)).unwrap();
        }
        assert_eq!(keyring.current().kid(), "1");
        keyring.make_current("3").unwrap();
        keyring.remove("1").unwrap();
        assert_eq!(keyring.current().kid(), "3");
        assert_eq!(
            keyring.remove("3"),
            Err(KeyError::StillCurrent { kid: "3".into() })
        );
        keyring.remove("2").unwrap();
        assert_eq!(keyring.keys().len(), 1);
        let unknown = || Err(KeyError::Unknown { kid: "2".into() });
        assert_eq!(keyring.remove("2"), unknown());
        assert_eq!(keyring.make_current("2"), unknown());
        assert_eq!(
            keyring.add(key("3")),
            Err(KeyError::Duplicate { kid: "3".into() })
        );
    }

    #[track_caller]
    fn refused(json: &str) -> String {
        let error = Keyring::from_json(json).unwrap_err().to_string();
        assert!(!error.contains("c2VjcmV0"), "{error}");
        error
    }

    #[test]
    fn mistakes_are_told_without_the_key() {
        let k = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0Li4";
        let jwk = |kid: &str, alg: &str, k: &str| {
            format!(r#"{{"kty":"oct","kid":"{kid}","alg":"{alg}","k":"{k}"}}"#)
        };
        let good = jwk("a", "A256KW", k);
        let set = |keys: &str, rest: &str| format!(r#"{{"keys":[{keys}]{rest}}}"#);
        assert!(Keyring::from_json(&set(&good, "")).is_ok());

        assert!(refused(k).contains("not valid JSON"));
        assert!(refused(&set(&good, "").replace('}', "")).contains("not valid JSON"));
        assert!(refused(&good).contains("a member is missing"));
        assert!(refused(&format!(r#"{{"keys":["{k}"]}}"#)).contains("of another type"));
        assert!(refused(&set("", "")).contains("no key"));
        assert!(refused(&set(&jwk("", "dir", k), "")).contains("empty kid"));
        assert!(refused(&set(&jwk("a", "A128KW", k), "")).contains("use A256KW, or dir"));
        assert!(refused(&set(&jwk("a", "dir", &k[..40]), "")).contains("32 bytes"));
        assert!(refused(&set(&jwk("a", "dir", &format!("{k}=")), "")).contains("32 bytes"));
        assert!(refused(&set(&good.replace("oct", "RSA"), "")).contains("symmetric"));
        let twice = format!("{good},{good}");
        assert!(refused(&set(&twice, "")).contains("two keys"));
        let two = format!("{good},{}", jwk("b", "dir", k));
        assert!(refused(&set(&two, "")).contains("no \"current\""));
        assert!(refused(&set(&two, r#","current":"c""#)).contains("\"c\" is not in it"));
        assert!(Keyring::from_json(&set(&two, r#","current":"b""#)).is_ok());
    }
}

//! Events that are encrypted in their rows and published in the clear.

use std::path::PathBuf;

use envelope::TopicPattern;
use event::encryption::Keyring;

use super::draft::{PipelineDraft, Scope};
use super::error::{Fault, Faults};
use super::secret::Secret;
use super::validate::patterns;

const TOPICS: &str = "decrypt.topics";
const FILE: &str = "decrypt.keyring_file";
const TEXT: &str = "decrypt.keyring";

/// What is published in the clear, and the keys for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decrypt {
    /// Topics whose events are decrypted; never empty.
    pub topics: Vec<TopicPattern>,
    /// The keys.
    pub keyring: KeyringSource,
}

/// Where a keyring is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyringSource {
    /// In this file, which may change while the relay runs.
    File(PathBuf),
    /// In the configuration, or in what that refers to.
    Text(Secret),
}

/// As given.
#[derive(Clone, Default)]
pub(super) struct DecryptDraft {
    pub topics: Vec<String>,
    pub keyring_file: Option<PathBuf>,
    pub keyring: Option<Secret>,
}

impl From<Option<&Decrypt>> for DecryptDraft {
    fn from(decrypt: Option<&Decrypt>) -> Self {
        let Some(Decrypt { topics, keyring }) = decrypt else {
            return Self::default();
        };
        let (keyring_file, keyring) = match keyring {
            KeyringSource::File(path) => (Some(path.clone()), None),
            KeyringSource::Text(text) => (None, Some(text.clone())),
        };
        Self {
            topics: topics.iter().map(ToString::to_string).collect(),
            keyring_file,
            keyring,
        }
    }
}

/// What the keys mean together.
pub(super) fn resolve(scope: &Scope<PipelineDraft>, faults: &mut Faults) -> Option<Decrypt> {
    let draft = &scope.draft.decrypt;
    let topics = patterns(&draft.topics, TOPICS, scope, faults);
    let mut report = |path, problem: &str, remedy: &str| {
        scope.fault(scope.place(path), path, Fault::new(problem, remedy), faults);
    };
    let keyring = match (&draft.keyring_file, &draft.keyring) {
        (Some(_), Some(_)) => {
            let remedy = "remove decrypt.keyring or decrypt.keyring_file";
            report(TEXT, "the keyring is given twice", remedy);
            return None;
        }
        (Some(path), None) => KeyringSource::File(path.clone()),
        (None, Some(text)) => {
            // Its errors never show a key.
            if let Err(error) = Keyring::from_json(text.expose()) {
                let remedy = "make it with `outboxd keys generate`, and give its whole text";
                report(TEXT, &error.to_string(), remedy);
            }
            KeyringSource::Text(text.clone())
        }
        (None, None) if draft.topics.is_empty() => return None,
        (None, None) => {
            let is_wrong = scope.is_given(FILE) || scope.is_given(TEXT);
            if !is_wrong {
                let remedy = "give decrypt.keyring_file, or decrypt.keyring = { env = \"NAME\" }";
                report(TOPICS, "needs a keyring", remedy);
            }
            return None;
        }
    };
    if draft.topics.is_empty() {
        let path = if draft.keyring.is_some() { TEXT } else { FILE };
        let remedy = "list topics in decrypt.topics, or remove the keyring: the relay needs none to \
                      pass ciphertext through";
        report(path, "nothing is to be decrypted", remedy);
        return None;
    }
    Some(Decrypt { topics, keyring })
}

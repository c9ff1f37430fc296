//! The keyring of a pipeline, and when its file changes.

use std::sync::Arc;
use std::time::Duration;

use delivery::Opener;
use event::encryption::{Key, Keyring};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior};

use super::Decryption;
use crate::config::{KeyringSource, Pipeline};
use crate::failure::Failure;

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a pipeline decrypts with, as it is now; `None` if it decrypts nothing.
///
/// # Errors
/// The keyring can't be read, or is none.
pub fn read(pipeline: &Pipeline) -> Result<Option<Decryption>, Failure> {
    let Some(decrypt) = &pipeline.decrypt else {
        return Ok(None);
    };
    let keys = keyring(&decrypt.keyring)?;
    Ok(Some(Decryption::new(pipeline, decrypt, keys)))
}

fn keyring(source: &KeyringSource) -> Result<Keyring, Failure> {
    const ATTEMPT: &str = "reading the keyring for decrypt.topics";
    match source {
        KeyringSource::File(path) => {
            Keyring::from_file(path).map_err(|error| Failure::caused("keyring", ATTEMPT, &error))
        }
        KeyringSource::Text(text) => Keyring::from_json(text.expose())
            .map_err(|error| Failure::caused("keyring", ATTEMPT, &error)),
    }
}

/// The file may be on a network, for which the pipeline is not to wait.
fn look(source: &KeyringSource) -> JoinHandle<Result<Keyring, Failure>> {
    let source = source.clone();
    spawn_blocking(move || keyring(&source))
}

fn looked(found: Result<Result<Keyring, Failure>, JoinError>) -> Result<Keyring, Failure> {
    found.unwrap_or_else(|e| Err(Failure::caused("internal", "looking at the keyring", &e)))
}

/// Looks whether the keyring changes.
pub struct Keys {
    source: KeyringSource,
    current: Decryption,
    looks: Interval,
    /// A look that has begun.
    reading: Option<JoinHandle<Result<Keyring, Failure>>>,
    /// What was wrong with the file at the last look.
    complaint: Option<String>,
}

impl Keys {
    /// Those of a pipeline; `None` if it decrypts nothing.
    ///
    /// # Errors
    /// As [`read`].
    pub async fn open(pipeline: &Pipeline) -> Result<Option<Self>, Failure> {
        let Some(decrypt) = &pipeline.decrypt else {
            return Ok(None);
        };
        let keys = looked(look(&decrypt.keyring).await)?;
        let current = Decryption::new(pipeline, decrypt, keys);
        let mut looks = tokio::time::interval(INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Some(Self {
            source: decrypt.keyring.clone(),
            current,
            looks,
            reading: None,
            complaint: None,
        }))
    }

    /// What decrypts with them.
    pub fn opener(&self) -> Arc<dyn Opener> {
        Arc::new(self.current.clone())
    }

    /// The same, once the keyring has changed; cancel-safe.
    pub async fn changed(&mut self) -> Arc<dyn Opener> {
        loop {
            let found = self.found().await;
            if self.take(found) {
                return self.opener();
            }
        }
    }

    /// What the next look finds; cancel-safe.
    async fn found(&mut self) -> Result<Keyring, Failure> {
        let reading = match &mut self.reading {
            Some(reading) => reading,
            none => {
                self.looks.tick().await;
                none.insert(look(&self.source))
            }
        };
        let found = reading.await;
        self.reading = None;
        looked(found)
    }

    /// Whether it has changed. A file that is being replaced must not stop events that are encrypted with
    /// keys from before.
    fn take(&mut self, found: Result<Keyring, Failure>) -> bool {
        match found {
            Ok(found) => {
                self.complaint = None;
                let is_new = found.to_json() != self.current.keys.to_json();
                if is_new {
                    let keys: Vec<_> = found.keys().iter().map(Key::kid).collect();
                    tracing::info!(?keys, "the keyring has changed");
                    self.current.keys = found;
                }
                is_new
            }
            Err(Failure { message, .. }) => {
                if self.complaint.as_ref() != Some(&message) {
                    tracing::warn!(error = message, "the keys from before stay in use");
                    self.complaint = Some(message);
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use event::encryption::KeyAlgorithm;

    use super::*;
    use crate::config::Decrypt;

    fn keyring(kid: &str) -> Keyring {
        Keyring::new(Key::generate(kid, KeyAlgorithm::A256Kw).unwrap())
    }

    fn pipeline(keyring: KeyringSource) -> Pipeline {
        Pipeline {
            decrypt: Some(Decrypt {
                topics: vec!["recon.*".parse().unwrap()],
                keyring,
            }),
            ..Pipeline::default()
        }
    }

    #[tokio::test]
    async fn a_file_that_changes_is_read_again_and_a_broken_one_changes_nothing() {
        let folder = std::env::temp_dir().join(format!("outboxd-keys-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("keyring.json");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write(&keyring("old").to_json());
        let pipeline = pipeline(KeyringSource::File(path.clone()));
        let mut keys = Keys::open(&pipeline).await.unwrap().unwrap();
        let found = keys.found().await;
        assert!(!keys.take(found), "nothing has changed");
        write("{");
        let found = keys.found().await;
        assert!(!keys.take(found));
        assert!(keys.complaint.is_some());
        assert_eq!(keys.current.keys.current().kid(), "old");
        write(&keyring("new").to_json());
        let opener = format!("{:?}", keys.changed().await);
        assert!(
            opener.contains("\"new\"") && !opener.contains("\"old\""),
            "{opener}"
        );
        assert!(keys.complaint.is_none());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn without_a_keyring_the_pipeline_does_not_start() {
        let absent = KeyringSource::File("/absent/keyring.json".into());
        let failure = read(&pipeline(absent)).unwrap_err();
        assert_eq!(failure.code.name, "keyring");
        assert!(
            failure.message.contains("/absent/keyring.json"),
            "{failure}"
        );
        assert!(!failure.is_transient());
        assert!(read(&Pipeline::default()).unwrap().is_none());
    }
}

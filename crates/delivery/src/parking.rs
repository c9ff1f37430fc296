//! Keys whose events go to the dead letters until a person releases them.

use std::collections::HashMap;

use envelope::dead_letter;

use crate::record_key::Name;
use crate::{ParkedKey, RecordKey};

/// The parked keys, per service: bounded by the number of keys that a person lets be parked, and by what a
/// long key is known by. With each the request that was to release it, when an event of it proved to be
/// dead still.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parking {
    services: HashMap<String, Keys>,
    count: usize,
}

type Request = Option<String>;

#[derive(Debug, Clone, Default)]
struct Keys {
    whole: HashMap<Vec<u8>, Request>,
    digests: HashMap<[u8; 32], Request>,
}

impl Keys {
    fn contains(&self, key: &[u8]) -> bool {
        if key.len() <= dead_letter::LONGEST_NAME {
            return self.whole.contains_key(key);
        }
        let digest = || dead_letter::key_digest(key);
        !self.digests.is_empty() && digest().is_some_and(|d| self.digests.contains_key(&d))
    }

    fn parked_by(&self, key: &RecordKey) -> Option<&Request> {
        match key.name() {
            Name::Whole(key) => self.whole.get(key),
            Name::Digest(digest) => self.digests.get(digest),
        }
    }

    fn insert(&mut self, key: RecordKey, request: Request) -> Option<Request> {
        match key.into_name() {
            Name::Whole(key) => self.whole.insert(key, request),
            Name::Digest(digest) => self.digests.insert(digest, request),
        }
    }

    fn remove(&mut self, key: &RecordKey) {
        match key.name() {
            Name::Whole(key) => self.whole.remove(key),
            Name::Digest(digest) => self.digests.remove(digest),
        };
    }
}

impl Parking {
    pub fn new(keys: impl IntoIterator<Item = ParkedKey>) -> Self {
        let mut parking = Self::default();
        for key in keys {
            parking.park(key);
        }
        parking
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the key of an event is parked.
    pub fn contains(&self, service: &str, key: Option<&[u8]>) -> bool {
        let Some(key) = key.filter(|_| self.count > 0) else {
            return false;
        };
        let keys = self.services.get(service);
        keys.is_some_and(|keys| keys.contains(key))
    }

    /// Whether that key is parked.
    pub fn holds(&self, service: &str, key: &RecordKey) -> bool {
        let keys = self.services.get(service);
        keys.is_some_and(|keys| keys.parked_by(key).is_some())
    }

    /// Parks a key that is not parked.
    pub fn park(&mut self, parked: ParkedKey) {
        let keys = self.services.entry(parked.service).or_default();
        let before = keys.insert(parked.key, parked.request);
        self.count += usize::from(before.is_none());
    }

    /// Lets a key go on, unless this request has done so before, and it was parked again since.
    pub fn release(&mut self, service: &str, key: &RecordKey, request: &str) {
        let Some(keys) = self.services.get_mut(service) else {
            return;
        };
        let parked_by = keys.parked_by(key);
        if parked_by.is_some_and(|by| by.as_deref() != Some(request)) {
            keys.remove(key);
            self.count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parked(request: Option<&str>) -> ParkedKey {
        ParkedKey {
            service: "bank".into(),
            key: b"k".into(),
            request: request.map(str::to_owned),
        }
    }

    #[test]
    fn a_key_is_parked_for_one_service_until_released() {
        let mut parking = Parking::new([parked(None)]);
        assert!(parking.contains("bank", Some(b"k")));
        assert!(!parking.contains("shop", Some(b"k")));
        assert!(!parking.contains("bank", None));
        parking.release("bank", &"k".into(), "r1");
        assert!(parking.is_empty());
        parking.release("bank", &"k".into(), "r2");
        assert_eq!(parking.len(), 0);
    }

    #[test]
    fn a_key_that_a_request_found_dead_again_is_released_by_another_one_only() {
        let mut parking = Parking::new([parked(Some("r1"))]);
        parking.release("bank", &"k".into(), "r1");
        assert!(parking.contains("bank", Some(b"k")));
        parking.release("bank", &"k".into(), "r2");
        assert!(parking.is_empty());
    }

    #[test]
    fn a_long_key_is_parked_and_no_other_that_begins_like_it() {
        let long = |last: u8| [&[b'k'; dead_letter::LONGEST_NAME][..], &[last]].concat();
        let key = RecordKey::from(long(1));
        let mut parking = Parking::new([ParkedKey {
            key: key.clone(),
            ..parked(None)
        }]);
        assert!(parking.contains("bank", Some(&long(1))) && parking.holds("bank", &key));
        assert!(!parking.contains("bank", Some(&long(2))));
        parking.release("bank", &key, "r1");
        assert!(parking.is_empty() && !parking.contains("bank", Some(&long(1))));
    }
}

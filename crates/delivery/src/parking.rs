//! Keys whose events go to the dead letters until a person releases them.

use std::collections::HashMap;

use crate::ParkedKey;

/// The parked keys, per service: bounded by the number of keys that a person lets be parked. With
/// each the request that was to release it, when an event of it proved to be dead still.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parking {
    keys: HashMap<String, HashMap<Vec<u8>, Option<String>>>,
    count: usize,
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

    pub fn contains(&self, service: &str, key: Option<&[u8]>) -> bool {
        let Some(key) = key.filter(|_| self.count > 0) else {
            return false;
        };
        self.keys
            .get(service)
            .is_some_and(|keys| keys.contains_key(key))
    }

    /// Parks a key that is not parked.
    pub fn park(&mut self, parked: ParkedKey) {
        let keys = self.keys.entry(parked.service).or_default();
        let before = keys.insert(parked.key, parked.request);
        self.count += usize::from(before.is_none());
    }

    /// Lets a key go on, unless this request has done so before, and it was parked again since.
    pub fn release(&mut self, service: &str, key: &[u8], request: &str) {
        let Some(keys) = self.keys.get_mut(service) else {
            return;
        };
        let parked_by = keys.get(key);
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
            key: b"k".to_vec(),
            request: request.map(str::to_owned),
        }
    }

    #[test]
    fn a_key_is_parked_for_one_service_until_released() {
        let mut parking = Parking::new([parked(None)]);
        assert!(parking.contains("bank", Some(b"k")));
        assert!(!parking.contains("shop", Some(b"k")));
        assert!(!parking.contains("bank", None));
        parking.release("bank", b"k", "r1");
        assert!(parking.is_empty());
        parking.release("bank", b"k", "r2");
        assert_eq!(parking.len(), 0);
    }

    #[test]
    fn a_key_that_a_request_found_dead_again_is_released_by_another_one_only() {
        let mut parking = Parking::new([parked(Some("r1"))]);
        parking.release("bank", b"k", "r1");
        assert!(parking.contains("bank", Some(b"k")));
        parking.release("bank", b"k", "r2");
        assert!(parking.is_empty());
    }
}

//! Keys whose events go to the dead letters until a person releases them.

use std::collections::HashMap;
use std::collections::HashSet;

/// The parked keys, per service: bounded by the number of keys that a person lets be parked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parking {
    keys: HashMap<String, HashSet<Vec<u8>>>,
    count: usize,
}

impl Parking {
    pub fn new(keys: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut parking = Self::default();
        for (service, key) in keys {
            parking.park(&service, &key);
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
            .is_some_and(|keys| keys.contains(key))
    }

    /// Whether it was not parked before.
    pub fn park(&mut self, service: &str, key: &[u8]) -> bool {
        let keys = self.keys.entry(service.to_owned()).or_default();
        let is_new = keys.insert(key.to_vec());
        self.count += usize::from(is_new);
        is_new
    }

    /// Whether it was parked before.
    pub fn release(&mut self, service: &str, key: &[u8]) -> bool {
        let was_there = self
            .keys
            .get_mut(service)
            .is_some_and(|keys| keys.remove(key));
        self.count -= usize::from(was_there);
        was_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_parked_for_one_service_until_released() {
        let mut parking = Parking::new([("bank".to_owned(), b"k".to_vec())]);
        assert!(parking.contains("bank", Some(b"k")));
        assert!(!parking.contains("shop", Some(b"k")));
        assert!(!parking.contains("bank", None));
        assert!(!parking.park("bank", b"k"));
        assert!(parking.release("bank", b"k") && !parking.release("bank", b"k"));
        assert!(parking.is_empty());
    }
}

//! Headers of a record.

use std::fmt;

use bytes::Bytes;

/// Headers, in order. Names may occur more than once, and a value may be null. Their
/// [`Debug`](fmt::Debug) shows the names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Option<Bytes>)>);

impl Headers {
    /// The value of the first header of that name.
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.iter().find(|(found, _)| *found == name)?.1
    }

    /// The same, if it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Adds one at the end.
    pub fn push(&mut self, name: impl Into<String>, value: Option<impl Into<Bytes>>) {
        self.0.push((name.into(), value.map(Into::into)));
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Option<&Bytes>)> {
        let headers = self.0.iter();
        headers.map(|(name, value)| (name.as_str(), value.as_ref()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        let size = |value: Option<&Bytes>| value.map_or(0, Bytes::len);
        self.iter()
            .map(|(name, value)| name.len() + size(value))
            .sum()
    }
}

impl<N: Into<String>, V: Into<Bytes>> FromIterator<(N, Option<V>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, Option<V>)>>(headers: I) -> Self {
        let headers = headers.into_iter();
        Self(
            headers
                .map(|(name, value)| (name.into(), value.map(Into::into)))
                .collect(),
        )
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|(name, _)| name))
            .finish()
    }
}

//! The one table of all keys. The file, the environment, `print`, the reference page and the
//! annotated example all follow it, so that none of them can miss a key.

use super::allowed::Allowed;
use super::field::Field;

pub(super) use consumer::CONSUMER;
pub(super) use global::GLOBAL;
pub(super) use pipeline::{PIPELINE, is_topic_name};
pub(super) use table::TABLE;

mod consumer;
mod global;
mod pipeline;
mod table;

/// One key: its name, its place in a draft, what it may be and what it means. Its type comes from
/// the place, its default from the default draft, and its environment variable from the path.
pub(super) struct Key<T: 'static> {
    /// Path within its scope, such as `batch.max_wait`.
    pub path: &'static str,
    /// Borrows its place.
    pub field: for<'a> fn(&'a mut T) -> Field<'a>,
    pub allowed: Allowed,
    /// One or two sentences for the reference.
    pub meaning: &'static str,
    /// For a key without a fixed default: what applies instead, and a TOML value as an example.
    pub open: Option<Open>,
}

/// A key that need not have a value.
pub(super) struct Open {
    pub default: &'static str,
    pub example: &'static str,
}

/// A key with a default.
const fn key<T>(
    path: &'static str,
    field: for<'a> fn(&'a mut T) -> Field<'a>,
    allowed: Allowed,
    meaning: &'static str,
) -> Key<T> {
    Key {
        path,
        field,
        allowed,
        meaning,
        open: None,
    }
}

/// A key without a fixed default.
const fn open_key<T>(
    path: &'static str,
    field: for<'a> fn(&'a mut T) -> Field<'a>,
    allowed: Allowed,
    meaning: &'static str,
    default: &'static str,
    example: &'static str,
) -> Key<T> {
    Key {
        path,
        field,
        allowed,
        meaning,
        open: Some(Open { default, example }),
    }
}

impl<T> Key<T> {
    /// The environment variable that sets this key; `section` names the scope.
    pub fn variable(&self, section: &str) -> String {
        format!(
            "OUTBOXD_{section}{}",
            self.path.replace('.', "_").to_uppercase()
        )
    }
}

/// The key at `path`.
pub(super) fn find<T>(keys: &'static [Key<T>], path: &str) -> Option<&'static Key<T>> {
    keys.iter().find(|key| key.path == path)
}

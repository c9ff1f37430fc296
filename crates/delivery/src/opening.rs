//! Events that are encrypted in their rows and published in the clear.

use std::fmt;

use envelope::Record;

/// Decrypts events. Its answer depends on the record and on its keys alone, so that a row becomes the
/// same record each time.
pub trait Opener: fmt::Debug + Send + Sync {
    /// What is published in the place of `record`; `None` if that is the record itself.
    ///
    /// # Errors
    /// Why it can't be decrypted, without any of the payload.
    fn open(&self, record: &Record<'_>) -> Option<Result<Opened, String>>;
}

/// An event in the clear, as far as it differs from what is encrypted.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// The value of its record.
    pub value: String,
    /// Headers that its record does not have.
    pub without: &'static [&'static str],
}

/// Without the value.
impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut opened = f.debug_struct("Opened");
        opened.field("bytes", &self.value.len());
        opened.field("without", &self.without).finish()
    }
}

//! A value that is never shown.

use std::fmt;
use std::path::{Path, PathBuf};

/// What stands in the place of a secret wherever one would be shown.
pub const REDACTED: &str = "<redacted>";

/// A password or key. `Debug` and `Display` print [`REDACTED`]; only [`Secret::expose`] gives the
/// text (test: `a_secret_never_appears_in_print_debug_or_errors`).
///
/// One that stands in a file may change there: [`Secret::current`] looks again. Two secrets are equal
/// if their texts are.
#[derive(Clone)]
pub struct Secret {
    text: String,
    file: Option<PathBuf>,
}

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            file: None,
        }
    }

    /// The secret that a file holds.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(file: &Path) -> std::io::Result<Self> {
        Ok(Self::of_file(&std::fs::read_to_string(file)?, file))
    }

    /// What `file` holds now.
    pub(super) fn of_file(content: &str, file: &Path) -> Self {
        Self {
            text: without_line_end(content).to_owned(),
            file: Some(file.to_owned()),
        }
    }

    /// The secret itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The secret as it is now: if it stands in a file, that is read again. While the file can't be
    /// read, as in the moment in which it is replaced, what was known before stays in force.
    pub fn current(&self) -> Self {
        let Some(file) = &self.file else {
            return self.clone();
        };
        match std::fs::read_to_string(file) {
            Ok(content) => Self::of_file(&content, file),
            Err(error) => {
                let file = file.display();
                tracing::warn!(%file, %error, "a secret can't be read again: the known one is used");
                self.clone()
            }
        }
    }
}

/// Without the line end that editors leave behind.
fn without_line_end(content: &str) -> &str {
    content
        .strip_suffix('\n')
        .map_or(content, |text| text.trim_end_matches('\r'))
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_secret_in_a_file_is_read_again() {
        let folder = std::env::temp_dir().join(format!("outboxd-secret-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("password");
        let secret = Secret::of_file("old\r\n", &file);
        assert_eq!(secret.expose(), "old");
        // There is no file yet.
        assert_eq!(secret.current().expose(), "old");
        std::fs::write(&file, "new\n").unwrap();
        assert_eq!(secret.current().expose(), "new");
        assert_eq!(secret.current().current().expose(), "new");
        assert_eq!(secret.expose(), "old");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

//! The Java runtime of this machine.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::tool;

/// Kafka 4's brokers need this one or newer.
const JAVA_MAJOR_MIN: u32 = 17;

#[derive(Debug, Clone)]
pub(crate) struct Java {
    pub program: PathBuf,
    /// The exact build, in characters that a file name may have.
    pub build: String,
}

impl Java {
    /// `$JAVA_HOME/bin/java`, else the one in PATH.
    pub fn find() -> Result<Java> {
        let home = env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
        let program = match home.filter(|java| java.is_file()) {
            Some(java) => java,
            None => tool::find("java")?,
        };
        let output = Command::new(&program)
            .arg("-version")
            .stdin(Stdio::null())
            .output()
            .map_err(|source| Error::Spawn {
                program: program.display().to_string(),
                source,
            })?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        match major(&text) {
            Some(major) if major >= JAVA_MAJOR_MIN => Ok(Java {
                program,
                build: build(&text),
            }),
            Some(major) => Err(too_old(major.to_string())),
            None => Err(too_old(text)),
        }
    }
}

fn too_old(found: String) -> Error {
    Error::OldJava {
        found,
        needed: JAVA_MAJOR_MIN,
    }
}

/// `openjdk version "17.0.15" 2025-04-15` is 17, `java version "1.8.0_292"` is 1.
fn major(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("version \"")?;
    version
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// `... (build 17.0.15+6-Debian-1deb12u1)` is what stands after "build".
fn build(text: &str) -> String {
    let named = text
        .split_once("(build ")
        .and_then(|(_, rest)| rest.split(')').next());
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    named
        .unwrap_or(text)
        .chars()
        .filter(plain)
        .take(80)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "openjdk version \"17.0.15\" 2025-04-15\n\
        OpenJDK Runtime Environment (build 17.0.15+6-Debian-1deb12u1)\n\
        OpenJDK 64-Bit Server VM (build 17.0.15+6-Debian-1deb12u1, mixed mode)\n";

    #[test]
    fn the_version_of_a_runtime_is_read() {
        assert_eq!(major(DEBIAN), Some(17));
        assert_eq!(build(DEBIAN), "17.0.15+6-Debian-1deb12u1");
        assert_eq!(major("java version \"1.8.0_292\""), Some(1));
        assert_eq!(major("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(major("command not understood"), None);
    }
}

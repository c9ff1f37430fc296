//! Fetches what `pom.xml` names from Maven Central with `mvn`, so that the machine's own client
//! settings (mirror, proxy) apply.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::error::{OnFile, Result};
use crate::tool;

const POM: &str = include_str!("../pom.xml");
/// A slow line takes minutes for the first fetch of Kafka (54 MB and Maven's own plugins).
const FETCH_WITHIN: Duration = Duration::from_secs(600);

/// A goal of the dependency plugin.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// The artifacts and all that they need at run time, as they are.
    Copy,
    /// The contents of the artifacts.
    Unpack,
}

/// Runs `goal` for a profile of the pom and leaves the result in `target`.
///
/// `scratch` must exist; it gets Maven's own files and its output.
pub(crate) fn fetch(
    profile: &str,
    goal: Goal,
    properties: &[(&str, &str)],
    scratch: &Path,
    target: &Path,
) -> Result<()> {
    let pom = scratch.join("pom.xml");
    fs::write(&pom, POM).on("write", &pom)?;
    let mut command = Command::new(tool::find("mvn")?);
    command.args([
        "-q",
        "-B",
        "-Dstyle.color=never",
        "-DincludeScope=runtime",
        "-P",
        profile,
    ]);
    command.args(
        properties
            .iter()
            .map(|(name, value)| format!("-D{name}={value}")),
    );
    command.arg(match goal {
        Goal::Copy => "dependency:copy-dependencies",
        Goal::Unpack => "dependency:unpack-dependencies",
    });
    command
        .arg(format!("-DoutputDirectory={}", target.display()))
        .current_dir(scratch);
    tool::run(command, &scratch.join("mvn.log"), FETCH_WITHIN).map(drop)
}

//! docs/deploy/outboxd.service, as systemd itself reads it.

use std::process::{Command, Output};

use testbed::RunFolder;

use super::compose::document::{root, seconds};
use super::kubernetes::TIME_TO_END;
use scenarios::stage::outboxd;

const INSTALLED: &str = "/usr/bin/outboxd";

fn unit() -> String {
    std::fs::read_to_string(root().join("docs/deploy/outboxd.service")).unwrap()
}

fn setting(name: &str) -> String {
    let unit = unit();
    let found = unit
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}=")));
    found
        .unwrap_or_else(|| panic!("{name} is not set"))
        .to_owned()
}

/// Asks about the unit with the binary that was built in the place of the installed one.
fn analyze(arguments: &[&str]) -> Output {
    let folder = RunFolder::fresh("systemd").unwrap();
    let file = folder.path().join("outboxd.service");
    let binary = outboxd().unwrap().canonicalize().unwrap();
    let unit = unit().replace(INSTALLED, binary.to_str().unwrap());
    // The manual is installed with the package.
    let unit = unit.replace("Documentation=man:outboxd(1)\n", "");
    std::fs::write(&file, unit).unwrap();
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(arguments).arg(&file).output().unwrap()
}

#[test]
fn systemd_finds_nothing_to_complain_of() {
    let output = analyze(&["verify"]);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

/// The scale goes from 0 (shut in) to 100; a unit without any setting has 96.
#[test]
fn the_service_is_shut_in() {
    let output = analyze(&["security", "--offline=true", "--threshold=20"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_end_has_the_time_that_it_takes_and_is_not_repeated_for_a_wrong_configuration() {
    assert!(seconds(&setting("TimeoutStopSec")) > TIME_TO_END);
    assert_eq!(setting("RestartPreventExitStatus"), "2 78");
}

#[test]
fn its_commands_are_commands_of_outboxd() {
    for name in ["ExecStartPre", "ExecStart"] {
        let line = setting(name);
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some(INSTALLED));
        let words = words.map(|word| match word {
            "/etc/outboxd/outboxd.toml" => "/nowhere/outboxd.toml",
            word => word,
        });
        let output = Command::new(outboxd().unwrap())
            .args(words)
            .output()
            .unwrap();
        // The command line is right; the file is missing.
        assert_eq!(output.status.code(), Some(78), "{line}: {output:?}");
    }
}

//! The Debian package: what `make deb` puts into it, and how shells and `man` know the commands.

use std::process::Command;

use serde_json::Value;
use testbed::RunFolder;

use super::compose::document::root;
use scenarios::stage::outboxd;

fn outboxd_prints(arguments: &[&str]) -> String {
    let output = Command::new(outboxd().unwrap())
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Commands as `outboxd --help` lists them.
fn commands() -> Vec<String> {
    let help = outboxd_prints(&["--help"]);
    let (_, listed) = help.split_once("Commands:\n").unwrap();
    let lines = listed.lines().take_while(|line| !line.is_empty());
    // A text that takes several lines is indented further.
    let starts = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = starts.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = RunFolder::fresh("man").unwrap();
    outboxd_prints(&["man", "--dir", folder.path().to_str().unwrap()]);
    let commands = commands();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let page = folder.path().join(format!("outboxd-{command}.1"));
        let page = std::fs::read_to_string(&page).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{command}: {page}");
    }
    assert!(outboxd_prints(&["man"]).contains(".SH SUBCOMMANDS"));
}

#[test]
fn every_shell_completes_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = outboxd_prints(&["completions", shell]);
        for command in commands() {
            assert!(script.contains(&command), "{shell} does not know {command}");
        }
    }
}

#[test]
fn bash_takes_the_completions() {
    let script = outboxd_prints(&["completions", "bash"]);
    let asked = format!(
        "{script}\nCOMP_WORDS=(outboxd dl) COMP_CWORD=1; _outboxd outboxd dl outboxd; echo ${{COMPREPLY[@]}}"
    );
    let output = Command::new("bash").args(["-c", &asked]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "dlq",
        "{output:?}"
    );
}

/// Files that the package takes from the repository or from what `make deb` makes.
#[test]
fn what_the_package_takes_is_there() {
    let manifest = std::fs::read_to_string(root().join("crates/relay/Cargo.toml")).unwrap();
    let manifest: Value = toml::from_str(&manifest).unwrap();
    let package = &manifest["package"]["metadata"]["deb"];
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    for asset in package["assets"].as_array().unwrap() {
        let from = asset[0].as_str().unwrap();
        let known = match from.strip_prefix("target/release/package/") {
            // By a command of `make deb`; of pages the folder.
            Some(made) => {
                makefile.contains(&format!("$(PACKAGE)/{}", made.trim_end_matches("/*.1")))
            }
            None if from == "target/release/outboxd" => true,
            None => root().join("crates/relay").join(from).is_file(),
        };
        assert!(known, "{from}");
        // The service runs as a user of its own, which is made for the time that it runs.
        let is_program = asset[1] == "usr/bin/";
        assert_eq!(asset[2], if is_program { "755" } else { "644" }, "{from}");
    }
}

//! No server outlives the process that started it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

struct Parent {
    child: Child,
    output: Box<dyn Iterator<Item = String>>,
    pids: Vec<u32>,
    /// A postmaster and all its processes work in the data directory.
    data: PathBuf,
}

impl Parent {
    fn start() -> Parent {
        let mut child = Command::new(env!("CARGO_BIN_EXE_testbed-up"))
            .args(["postgres", "kafka"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let mut parent = Parent {
            child,
            output: Box::new(output),
            pids: Vec::new(),
            data: PathBuf::new(),
        };
        let lines = parent.lines_up_to("READY=1");
        let named = |name: &'static str| lines.iter().filter_map(move |l| l.strip_prefix(name));
        parent.pids = named("POSTGRES_PID=")
            .chain(named("KAFKA_PID="))
            .map(number)
            .collect();
        let log = Path::new(named("POSTGRES_LOG=").next().unwrap());
        parent.data = log.with_file_name("data");
        assert_eq!(parent.pids.len(), 2);
        assert!(
            working_in(&parent.data).len() > 3,
            "a postmaster has children"
        );
        parent
    }

    fn lines_up_to(&mut self, last: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line| line != last) {
            lines.push(self.output.next().expect("it ended early"));
        }
        lines
    }

    fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn servers_left(&self) -> Vec<u32> {
        let named = self.pids.iter().copied().filter(|pid| is_alive(*pid));
        named.chain(working_in(&self.data)).collect()
    }

    fn assert_no_server_is_left(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.servers_left().is_empty() {
            assert!(
                Instant::now() < deadline,
                "still there: {:?}",
                self.servers_left()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(text: &str) -> u32 {
    text.parse().unwrap()
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn working_in(folder: &Path) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == folder))
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .collect()
}

#[test]
fn servers_die_with_a_killed_parent() {
    let mut parent = Parent::start();
    parent.kill9();
    parent.assert_no_server_is_left();
}

#[test]
fn paused_servers_die_with_a_killed_parent() {
    let mut parent = Parent::start();
    writeln!(parent.child.stdin.as_mut().unwrap(), "pause").unwrap();
    parent.lines_up_to("PAUSED=1");
    parent.kill9();
    parent.assert_no_server_is_left();
}

#[test]
fn servers_and_their_folders_go_when_the_parent_ends_in_order() {
    let mut parent = Parent::start();
    drop(parent.child.stdin.take());
    assert!(parent.child.wait().unwrap().success());
    assert_eq!(parent.servers_left(), Vec::<u32>::new());
    assert_eq!(
        parent.data.exists(),
        std::env::var_os("TESTBED_KEEP").is_some()
    );
}

//! A reader that has seen enough is no failure.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::{Command, Stdio};

#[test]
fn a_reader_that_is_gone_makes_no_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_outboxd"));
    command.arg("explain").stdout(writer).stderr(Stdio::piped());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

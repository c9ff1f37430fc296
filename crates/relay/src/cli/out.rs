//! What commands write to standard output.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::exit;

/// As `println!`, which panics when nobody reads any more.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::out::line(format_args!($($text)*)) };
}
pub(super) use say;

/// A reader that has seen enough, such as `head` or a pager that was quit, is no failure.
pub(super) fn line(text: fmt::Arguments<'_>) {
    match writeln!(io::stdout().lock(), "{text}") {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::BrokenPipe => exit(0),
        Err(e) => {
            eprintln!("outboxd: standard output could not be written: {e}");
            exit(1);
        }
    }
}

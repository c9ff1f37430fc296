//! What commands write to standard output.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::exit;

/// As `println!`, which panics when nobody reads any more.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::out::write(format_args!("{}\n", format_args!($($text)*))) };
}
pub(super) use say;

/// A reader that has seen enough, such as `head` or a pager that was quit, is no failure, and stops nothing: a
/// command may be changing something.
pub(super) fn write(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            eprintln!("outboxd: standard output could not be written: {e}");
            exit(1);
        }
        Ok(()) | Err(_) => {}
    }
}

//! What commands write to standard output.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::exit;

/// As `println!`, which panics when nobody reads any more.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::out::write(format_args!("{}\n", format_args!($($text)*))) };
}
pub(super) use say;

/// What [`say!`] writes, and text of several lines.
pub(super) fn write(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    check(out.write_fmt(text).and_then(|()| out.flush()));
}

/// Text that was made elsewhere.
pub(super) fn bytes(text: &[u8]) {
    let mut out = io::stdout().lock();
    check(out.write_all(text).and_then(|()| out.flush()));
}

/// A reader that has seen enough, such as `head` or a pager that was quit, is no failure, and stops nothing: a
/// command may be changing something.
pub(super) fn check(written: io::Result<()>) {
    match written {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            eprintln!("outboxd: standard output could not be written: {e}");
            exit(1);
        }
        Ok(()) | Err(_) => {}
    }
}

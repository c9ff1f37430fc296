//! Progress of long work, on standard error, where that is a terminal. Elsewhere nothing is shown.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// A line that says what is being done. It goes when this does.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Begins with what is being done.
    pub fn start(what: impl Into<String>) -> Self {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_message(what.into());
        bar.enable_steady_tick(TURN);
        Self(bar)
    }

    /// What is being done now.
    pub fn say(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }

    /// How much of something is done, with a bar.
    pub fn at(&self, done: u64, of: u64, what: impl Into<String>) {
        if self.0.length() != Some(of) {
            self.0.set_length(of);
            let style = ProgressStyle::with_template("{bar:30} {percent:>3} % {msg}");
            self.0
                .set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
        self.0.set_position(done.min(of));
        self.0.set_message(what.into());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_shown_where_nobody_looks() {
        // Tests have their standard error captured or piped.
        if std::io::stderr().is_terminal() {
            return;
        }
        let progress = Progress::start("a");
        progress.at(1, 2, "b");
        assert!(progress.0.is_hidden());
        assert_eq!((progress.0.position(), progress.0.length()), (1, Some(2)));
    }
}

//! Like lines that repeat: the first of a minute are written, and then how many more there were.
//!
//! A server that is away, or thousands of dead letters, would fill the log, and each of those lines says what the
//! first ones have said. Dead letters are in their topic, all of them.

mod tally;

use std::fmt::Debug;
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use self::tally::{Kind, PERIOD, Tally};
use super::logging::EVENTS;

/// Where the lines come from that tell what was left out.
const TOLD: &str = "outboxd::repeats";

/// Leaves out like lines. Clones are one.
#[derive(Clone)]
pub struct Repeats {
    tally: Arc<Mutex<Tally>>,
    wake: SyncSender<()>,
}

impl Repeats {
    /// Lets `written_max` like lines through in a minute.
    ///
    /// # Errors
    /// There can be no further thread.
    pub fn start(written_max: u32) -> io::Result<Self> {
        let tally = Arc::new(Mutex::new(Tally::new(written_max.into())));
        // Woken once is woken.
        let (wake, woken) = mpsc::sync_channel(1);
        let told = Arc::clone(&tally);
        thread::Builder::new()
            .name("log-repeats".into())
            .spawn(move || tell_when_due(&told, &woken))?;
        Ok(Self { tally, wake })
    }

    /// Tells what has been left out up to now.
    pub fn end(&self) {
        let left_out = lock(&self.tally).end();
        left_out.iter().for_each(tell);
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if !is_limited(event) {
            return true;
        }
        // Before the lock: what is formatted may log.
        let kind = kind(event);
        if lock(&self.tally).admits(kind, Instant::now()) {
            return true;
        }
        // Full means that it is awake already.
        let _ = self.wake.try_send(());
        false
    }
}

/// Whoever asks for a line per event, or for debug, wants all of them.
fn is_limited(event: &Event<'_>) -> bool {
    let metadata = event.metadata();
    *metadata.level() <= Level::INFO && ![EVENTS, TOLD].contains(&metadata.target())
}

fn kind(event: &Event<'_>) -> Kind {
    let metadata = event.metadata();
    let place = metadata.file().unwrap_or(metadata.target());
    let mut kind = Kind {
        place: (place, metadata.line().unwrap_or_default()),
        level: *metadata.level(),
        message: None,
        pipeline: None,
        code: None,
        class: None,
        about: None,
    };
    event.record(&mut kind);
    kind
}

impl Kind {
    fn field(&mut self, name: &str) -> Option<&mut Option<String>> {
        match name {
            "message" => Some(&mut self.message),
            "pipeline" => Some(&mut self.pipeline),
            "code" => Some(&mut self.code),
            "class" => Some(&mut self.class),
            "group" | "request" => Some(&mut self.about),
            _ => None,
        }
    }
}

impl Visit for Kind {
    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(place) = self.field(field.name()) {
            *place = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if let Some(place) = self.field(field.name()) {
            *place = Some(format!("{value:?}"));
        }
    }
}

/// Sleeps until there is something to tell.
fn tell_when_due(tally: &Mutex<Tally>, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        loop {
            let Some(due) = lock(tally).next_end() else {
                break;
            };
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let left_out = lock(tally).ended(Instant::now());
            left_out.iter().for_each(tell);
        }
    }
}

/// As the lines that were left out, but for what was different in each.
fn tell((kind, left_out): &(Kind, u64)) {
    let message = kind.message.as_deref().unwrap_or_default();
    macro_rules! tell {
        ($level:expr) => {
            tracing::event!(
                target: TOLD,
                $level,
                pipeline = kind.pipeline,
                code = kind.code,
                class = kind.class,
                about = kind.about,
                left_out,
                within_s = PERIOD.as_secs(),
                "{message}"
            )
        };
    }
    match kind.level {
        Level::ERROR => tell!(Level::ERROR),
        Level::WARN => tell!(Level::WARN),
        _ => tell!(Level::INFO),
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc::Sender;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Tells which lines are written.
    struct Written(Sender<(Level, Option<String>, String)>);

    impl<S: Subscriber> Layer<S> for Written {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let Kind {
                level,
                code,
                message,
                ..
            } = kind(event);
            self.0.send((level, code, message.unwrap())).unwrap();
        }
    }

    fn written(log: impl FnOnce()) -> Vec<(Level, Option<String>, String)> {
        let (sender, lines) = mpsc::channel();
        let repeats = Repeats::start(2).unwrap();
        let registry = tracing_subscriber::registry();
        let subscriber = registry.with(repeats.clone()).with(Written(sender));
        tracing::subscriber::with_default(subscriber, || {
            log();
            repeats.end();
        });
        lines.iter().collect()
    }

    #[test]
    fn the_line_that_tells_how_many_were_left_out_is_like_them() {
        let lines = written(|| {
            for attempt in 1..=5 {
                let code = "kafka-unavailable";
                tracing::error!(pipeline = "outbox", code, attempt, "stopped");
            }
        });
        let line = (
            Level::ERROR,
            Some("kafka-unavailable".to_owned()),
            "stopped".to_owned(),
        );
        assert_eq!(lines, vec![line; 3]);
    }

    #[test]
    fn lines_that_are_asked_for_are_all_written() {
        let lines = written(|| {
            for _ in 0..5 {
                tracing::info!(target: EVENTS, "event published");
                tracing::debug!("in detail");
            }
        });
        assert_eq!(lines.len(), 10);
    }
}

use std::time::{Duration, Instant};

/// How often a condition that nobody announces is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Asks `probe` until it answers or `within` has passed; the last question is asked at the bound.
pub(crate) fn wait_for<T>(within: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        let last = Instant::now() >= deadline;
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if last {
            return None;
        }
        std::thread::sleep(INTERVAL);
    }
}

//! What is printed: every event of a slow stream, a sample of a fast one.

use std::collections::HashSet;
use std::time::Instant;

use super::events::Event;

/// A stream that is faster than this is sampled: one event a second of each family, and a count.
const LINES_PER_SECOND: u64 = 20;
const PAYLOAD_CHARS: usize = 48;

/// Standard output, with the time since the start in front.
pub struct Screen {
    start: Instant,
    second: u64,
    /// Events of this second and of the one before.
    arrived: u64,
    arrived_before: u64,
    families: HashSet<String>,
    hidden: u64,
    total: u64,
}

impl Screen {
    pub fn new() -> Screen {
        println!("   time  event                about          latency  payload");
        Screen {
            start: Instant::now(),
            second: 0,
            arrived: 0,
            arrived_before: 0,
            families: HashSet::new(),
            hidden: 0,
            total: 0,
        }
    }

    /// Something that has happened to the demo itself.
    pub fn note(&self, text: &str) {
        println!("{} ── {text}", self.time());
    }

    /// An event has arrived.
    pub fn event(&mut self, event: &Event) {
        let second = self.start.elapsed().as_secs();
        if second != self.second {
            self.count_hidden();
            self.second = second;
            self.arrived_before = std::mem::take(&mut self.arrived);
            self.families.clear();
        }
        self.total += 1;
        self.arrived += 1;
        let is_slow = self.arrived.max(self.arrived_before) <= LINES_PER_SECOND;
        let is_first = self.families.insert(event.family().to_owned());
        if is_first || is_slow {
            println!("{} {}", self.time(), line(event));
        } else {
            self.hidden += 1;
        }
    }

    /// Says how many events were not printed.
    pub fn count_hidden(&mut self) {
        if self.hidden > 0 {
            println!("         … and {} more; {} so far", self.hidden, self.total);
            self.hidden = 0;
        }
    }

    fn time(&self) -> String {
        format!("{:7.3}", self.start.elapsed().as_secs_f64())
    }
}

fn line(event: &Event) -> String {
    let shown: String = event.payload.chars().take(PAYLOAD_CHARS).collect();
    let rest = if shown.len() < event.payload.len() {
        "…"
    } else {
        ""
    };
    format!(
        " {:<20} {:<12} {:>6.1} ms  {shown}{rest}",
        event.event_type,
        event.transfer_id.as_deref().unwrap_or("-"),
        event.latency.as_secs_f64() * 1e3,
    )
}

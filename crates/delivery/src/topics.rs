//! What is known of the topics that events go to.
//!
//! A topic is asked about before the first event goes there, beside the events: so an event that
//! its topic will not take never spoils a transaction, and a thousand of them cost no more than
//! one. A refusal counts once it was repeated `max_retries` times; it is then remembered, and
//! looked at again now and then while events come by.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use envelope::RecordBatch;
use pgoutput::PgTimestamp;

use crate::clock::Clock;
use crate::verdict::{Class, Verdict};
use crate::{Backoff, RetryPolicy};

/// A question that was not answered for this long is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// How often a topic that refuses is asked again while events for it come by.
const RECHECK: Duration = Duration::from_secs(10);

/// What the brokers say of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It may be written to.
    Usable {
        /// The largest record batch that it takes.
        max_bytes: usize,
    },
    /// It does not exist.
    Missing,
    /// The principal may not write to it.
    Denied,
    /// They could not be asked: nothing is known of the topic.
    Unanswered,
}

/// Where an event for a topic goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// There, if it is not larger.
    Usable { max_bytes: usize },
    /// That is not known yet.
    Unknown,
    /// To the dead letters.
    Refused(&'a Verdict),
}

/// Whether an event can be published.
#[derive(Debug)]
pub(crate) enum Judgement {
    Fine,
    /// Its topic is being asked about.
    Open,
    Certain(Verdict),
}

#[derive(Debug)]
enum State {
    Usable {
        max_bytes: usize,
    },
    Asking(Question),
    Refused {
        verdict: Verdict,
        /// When it is asked again, or since when an answer is awaited.
        recheck: Instant,
    },
}

/// Events wait for the answer.
#[derive(Debug)]
struct Question {
    /// When it is asked (again).
    due: Instant,
    backoff: Backoff,
    refusals: u32,
    first_failure: PgTimestamp,
}

/// A topic refused what was produced to it, though it had been found usable.
#[derive(Debug)]
struct Lapse {
    times: u32,
    first_failure: PgTimestamp,
}

/// The topics that events were routed to.
#[derive(Debug)]
pub struct Topics {
    policy: RetryPolicy,
    max_retries: u32,
    known: BTreeMap<String, State>,
    /// The last one that was found usable: most events go where the one before went.
    latest: (String, usize),
    asking: usize,
    rechecks: Vec<String>,
    /// Until something is durable there.
    lapses: BTreeMap<String, Lapse>,
}

impl Topics {
    /// Nothing is known yet. A refusal must be repeated `max_retries` times.
    pub fn new(policy: RetryPolicy, max_retries: u32) -> Self {
        Self {
            policy,
            max_retries,
            known: BTreeMap::new(),
            latest: (String::new(), 0),
            asking: 0,
            rechecks: Vec::new(),
            lapses: BTreeMap::new(),
        }
    }

    /// A session begins: what took events before may not any more; what did not is remembered.
    pub(crate) fn renew(&mut self, now: Instant) {
        self.latest = (String::new(), 0);
        self.rechecks.clear();
        let lapses = &self.lapses;
        self.known.retain(|topic, state| match state {
            State::Usable { .. } => false,
            State::Asking(question) => {
                question.due = now;
                true
            }
            // Of one that lapsed a probe says nothing new.
            State::Refused { .. } if lapses.contains_key(topic) => true,
            State::Refused { recheck, .. } => {
                *recheck = now;
                true
            }
        });
    }

    /// Forgets refusals: the operator says that the cause is repaired.
    pub(crate) fn forget_refusals(&mut self) {
        self.known
            .retain(|_, state| !matches!(state, State::Refused { .. }));
        self.rechecks.clear();
        self.lapses.clear();
    }

    /// The topic did not take what was produced to it. What is wrong with it is for probes to find out,
    /// from the next session on; where they can't, this counts as an answer of theirs does.
    pub(crate) fn lapsed(&mut self, topic: &str, answer: &Answer, now: Instant, wall: PgTimestamp) {
        if topic.is_empty() {
            return;
        }
        let lapse = self.lapses.entry(topic.to_owned()).or_insert(Lapse {
            times: 0,
            first_failure: wall,
        });
        lapse.times += 1;
        if lapse.times <= self.max_retries {
            return;
        }
        let verdict = verdict(topic, answer, lapse.times, lapse.first_failure, wall);
        let recheck = now + RECHECK;
        let state = State::Refused { verdict, recheck };
        let before = self.known.insert(topic.to_owned(), state);
        if matches!(before, Some(State::Asking(_))) {
            self.asking -= 1;
        }
    }

    /// Of the topics that lapsed, those that take something once these records are durable.
    pub(crate) fn proven_by(&self, batch: &RecordBatch) -> Vec<String> {
        let lapsed = self.lapses.keys();
        let takes = |topic: &&String| batch.iter().any(|record| record.topic == **topic);
        lapsed.filter(takes).cloned().collect()
    }

    /// Something is durable in these topics.
    pub(crate) fn proved(&mut self, topics: &[String]) {
        for topic in topics {
            self.lapses.remove(topic);
        }
    }

    /// Where an event for `topic` goes; if that is not known, it is asked.
    pub(crate) fn route(&mut self, topic: &str, now: Instant) -> Route<'_> {
        if self.latest.0 == topic {
            return Route::Usable {
                max_bytes: self.latest.1,
            };
        }
        if !self.known.contains_key(topic) {
            let question = Question {
                due: now,
                backoff: Backoff::new(self.policy),
                refusals: 0,
                first_failure: PgTimestamp(0),
            };
            self.known.insert(topic.to_owned(), State::Asking(question));
            self.asking += 1;
        }
        match self.known.get_mut(topic) {
            Some(State::Usable { max_bytes }) => {
                topic.clone_into(&mut self.latest.0);
                self.latest.1 = *max_bytes;
                Route::Usable {
                    max_bytes: *max_bytes,
                }
            }
            Some(State::Refused { verdict, recheck }) => {
                if *recheck <= now {
                    *recheck = now + RECHECK;
                    self.rechecks.push(topic.to_owned());
                }
                Route::Refused(verdict)
            }
            Some(State::Asking(_)) | None => Route::Unknown,
        }
    }

    /// Whether the topic takes an event of so many bytes.
    pub(crate) fn judge(
        &mut self,
        topic: &str,
        bytes: usize,
        now: Instant,
        clock: Clock,
    ) -> Judgement {
        match self.route(topic, now) {
            Route::Usable { max_bytes } if bytes <= max_bytes => Judgement::Fine,
            Route::Usable { max_bytes } => {
                let reason =
                    format!("{bytes} bytes are more than topic {topic} takes ({max_bytes})");
                Judgement::Certain(Verdict::certain(Class::TooLarge, reason, clock.at(now)))
            }
            Route::Unknown => Judgement::Open,
            Route::Refused(verdict) => Judgement::Certain(verdict.clone()),
        }
    }

    /// No event waits for an answer.
    pub(crate) fn is_settled(&self) -> bool {
        self.asking == 0
    }

    /// Events wait for what the brokers say of this one.
    pub(crate) fn is_asking(&self, topic: &str) -> bool {
        self.asking > 0 && matches!(self.known.get(topic), Some(State::Asking(_)))
    }

    /// The next topic to ask about.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<String> {
        if let Some(topic) = self.rechecks.pop() {
            return Some(topic);
        }
        if self.asking == 0 {
            return None;
        }
        let due = self
            .known
            .iter_mut()
            .find_map(|(topic, state)| match state {
                State::Asking(question) if question.due <= now => Some((topic, question)),
                _ => None,
            });
        let (topic, question) = due?;
        question.due = now + ANSWER_WITHIN;
        Some(topic.clone())
    }

    /// When the next question is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.asking == 0 {
            return None;
        }
        let due = self.known.values().filter_map(|state| match state {
            State::Asking(question) => Some(question.due),
            State::Usable { .. } | State::Refused { .. } => None,
        });
        due.min()
    }

    /// The brokers' answer. `random` is uniform in `0.0..1.0`; `wall` is the time of day.
    pub(crate) fn answer(
        &mut self,
        topic: &str,
        answer: &Answer,
        random: f64,
        now: Instant,
        wall: PgTimestamp,
    ) {
        let Some(state) = self.known.get_mut(topic) else {
            return;
        };
        let was_asking = matches!(state, State::Asking(_));
        match (answer, &mut *state) {
            (Answer::Usable { max_bytes }, _) => {
                let max_bytes = *max_bytes;
                *state = State::Usable { max_bytes };
            }
            (Answer::Unanswered, State::Asking(question)) => {
                question.due = now + question.backoff.next_wait(random);
            }
            (Answer::Missing | Answer::Denied, State::Asking(question)) => {
                if question.refusals == 0 {
                    question.first_failure = wall;
                    question.backoff.reset();
                }
                question.refusals += 1;
                if question.refusals > self.max_retries {
                    let (attempts, first) = (question.refusals, question.first_failure);
                    let verdict = verdict(topic, answer, attempts, first, wall);
                    let recheck = now + RECHECK;
                    *state = State::Refused { verdict, recheck };
                } else {
                    question.due = now + question.backoff.next_wait(random);
                }
            }
            (Answer::Missing | Answer::Denied, State::Refused { verdict, .. }) => {
                verdict.last_failure = wall;
            }
            (Answer::Unanswered, State::Refused { .. })
            | (Answer::Missing | Answer::Denied | Answer::Unanswered, State::Usable { .. }) => {}
        }
        if was_asking && !matches!(state, State::Asking(_)) {
            self.asking -= 1;
        }
    }
}

fn verdict(
    topic: &str,
    answer: &Answer,
    attempts: u32,
    first_failure: PgTimestamp,
    wall: PgTimestamp,
) -> Verdict {
    let (class, reason) = match answer {
        Answer::Denied => (
            Class::TopicDenied,
            format!("outboxd may not write to topic {topic}"),
        ),
        Answer::Missing | Answer::Usable { .. } | Answer::Unanswered => {
            (Class::TopicMissing, format!("topic {topic} does not exist"))
        }
    };
    Verdict {
        class,
        reason,
        attempts,
        first_failure,
        last_failure: wall,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const WALL: PgTimestamp = PgTimestamp(5);

    fn topics(max_retries: u32) -> Topics {
        let policy = RetryPolicy {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(30),
            multiplier: 2.0,
        };
        Topics::new(policy, max_retries)
    }

    #[test]
    fn a_topic_is_asked_about_once_and_then_known() {
        let (mut topics, now) = (topics(5), Instant::now());
        assert_eq!(topics.route("a", now), Route::Unknown);
        assert_eq!(topics.poll(now).as_deref(), Some("a"));
        assert_eq!(topics.poll(now), None);
        topics.answer("a", &Answer::Usable { max_bytes: 9 }, 0.5, now, WALL);
        for _ in 0..2 {
            assert_eq!(topics.route("a", now), Route::Usable { max_bytes: 9 });
        }
        topics.renew(now);
        assert_eq!(topics.route("a", now), Route::Unknown);
    }

    #[test]
    fn a_refusal_must_be_repeated_and_is_then_remembered() {
        let (mut topics, mut now) = (topics(2), Instant::now());
        for attempt in 1..=3 {
            assert_eq!(topics.route("a", now), Route::Unknown, "{attempt}");
            now = topics.poll_timeout().unwrap();
            assert_eq!(topics.poll(now).as_deref(), Some("a"), "{attempt}");
            topics.answer("a", &Answer::Missing, 1.0, now, WALL);
        }
        let Route::Refused(verdict) = topics.route("a", now) else {
            panic!("not refused");
        };
        assert_eq!((verdict.class, verdict.attempts), (Class::TopicMissing, 3));
        topics.renew(now);
        assert!(matches!(topics.route("a", now), Route::Refused(_)));
    }

    #[test]
    fn an_outage_is_no_refusal() {
        let (mut topics, mut now) = (topics(0), Instant::now());
        assert_eq!(topics.route("a", now), Route::Unknown);
        for _ in 0..20 {
            now = topics.poll_timeout().unwrap();
            assert_eq!(topics.poll(now).as_deref(), Some("a"));
            topics.answer("a", &Answer::Unanswered, 1.0, now, WALL);
        }
        assert_eq!(topics.route("a", now), Route::Unknown);
    }

    #[test]
    fn a_topic_that_refuses_is_asked_again_now_and_then() {
        let (mut topics, now) = (topics(0), Instant::now());
        topics.route("a", now);
        topics.poll(now);
        topics.answer("a", &Answer::Denied, 1.0, now, WALL);
        assert!(matches!(topics.route("a", now), Route::Refused(_)));
        assert_eq!(topics.poll(now), None);
        let later = now + RECHECK;
        assert!(matches!(topics.route("a", later), Route::Refused(_)));
        assert_eq!(topics.poll(later).as_deref(), Some("a"));
        topics.answer("a", &Answer::Usable { max_bytes: 9 }, 1.0, later, WALL);
        assert_eq!(topics.route("a", later), Route::Usable { max_bytes: 9 });
    }

    #[test]
    fn forgotten_refusals_are_asked_with_all_attempts() {
        let (mut topics, now) = (topics(0), Instant::now());
        topics.route("a", now);
        topics.poll(now);
        topics.answer("a", &Answer::Denied, 1.0, now, WALL);
        topics.forget_refusals();
        assert_eq!(topics.route("a", now), Route::Unknown);
        assert_eq!(topics.poll(now).as_deref(), Some("a"));
    }
}

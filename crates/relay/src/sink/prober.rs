//! Asks the brokers about topics, beside the lanes.

use std::sync::mpsc;
use std::time::Duration;

use delivery::Answer;
use producer::{Admin, TopicAccess};
use tokio::sync::mpsc::UnboundedSender;

use super::{Report, error, kafka};
use crate::config::{Pipeline, SinkKind};
use crate::failure::Failure;

/// A broker that has not answered for this long is asked again.
const PATIENCE: Duration = Duration::from_secs(5);
/// The client is kept for questions that follow each other, and not longer: it has threads and
/// connections of its own.
const KEPT: Duration = Duration::from_secs(10);
/// What a batch of one record adds to its key, value and headers, at most.
const OVERHEAD_BYTES: usize = 4096;

/// Asks on a thread of its own, from the first question on.
pub(super) struct Prober {
    pipeline: Pipeline,
    reports: UnboundedSender<Report>,
    questions: Option<mpsc::Sender<String>>,
}

impl Prober {
    /// Nothing is asked yet.
    pub fn new(pipeline: &Pipeline, reports: &UnboundedSender<Report>) -> Self {
        Self {
            pipeline: pipeline.clone(),
            reports: reports.clone(),
            questions: None,
        }
    }

    /// Asks about a topic.
    pub fn ask(&mut self, topic: String) {
        // Standard output takes everything.
        if self.pipeline.sink == SinkKind::Stdout {
            let answer = Answer::Usable {
                max_bytes: usize::MAX,
            };
            let _ = self.reports.send(Report::Answered { topic, answer });
            return;
        }
        let unasked = match &self.questions {
            Some(questions) => questions
                .send(topic)
                .err()
                .map(|mpsc::SendError(topic)| topic),
            None => Some(topic),
        };
        if let Some(topic) = unasked {
            self.begin(topic);
        }
    }

    fn begin(&mut self, topic: String) {
        let (questions, to_thread) = mpsc::channel();
        let _ = questions.send(topic);
        self.questions = Some(questions);
        let (pipeline, reports) = (self.pipeline.clone(), self.reports.clone());
        let thread = std::thread::Builder::new()
            .name("prober".to_owned())
            .spawn(move || run(&pipeline, &to_thread, &reports));
        if let Err(e) = thread {
            let failure = Failure::caused("internal", "starting a thread", &e);
            let _ = self.reports.send(Report::Failed(failure));
        }
    }
}

/// Ends with the session.
fn run(pipeline: &Pipeline, questions: &mpsc::Receiver<String>, reports: &UnboundedSender<Report>) {
    let mut admin = None;
    while let Some(topic) = next(questions, &mut admin) {
        let admin = match &admin {
            Some(admin) => admin,
            None => match kafka::admin(pipeline) {
                Ok(connected) => &*admin.insert(connected),
                Err(failure) => {
                    let _ = reports.send(Report::Failed(failure));
                    return;
                }
            },
        };
        let answer = match admin.topic(&topic, PATIENCE) {
            Ok(access) => answer(access),
            Err(e) => {
                let _ = reports.send(Report::Trouble(error::trouble(&e)));
                Answer::Unanswered
            }
        };
        if reports.send(Report::Answered { topic, answer }).is_err() {
            return;
        }
    }
}

/// The next question; the client is given back if there is none for a while.
fn next(questions: &mpsc::Receiver<String>, admin: &mut Option<Admin>) -> Option<String> {
    match questions.recv_timeout(KEPT) {
        Ok(topic) => Some(topic),
        Err(mpsc::RecvTimeoutError::Disconnected) => None,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            *admin = None;
            questions.recv().ok()
        }
    }
}

fn answer(access: TopicAccess) -> Answer {
    match access {
        TopicAccess::Writable { max_message_bytes } => Answer::Usable {
            max_bytes: max_message_bytes
                .map_or(usize::MAX, |bytes| bytes.saturating_sub(OVERHEAD_BYTES)),
        },
        TopicAccess::Missing => Answer::Missing,
        TopicAccess::Denied => Answer::Denied,
        TopicAccess::Unready(_) => Answer::Unanswered,
    }
}

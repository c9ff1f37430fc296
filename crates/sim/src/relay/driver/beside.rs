//! What goes on beside the stream: write-back, and requests.

use delivery::{Marks, MarksId};

use super::{Bug, Driver, Failure, Served};

impl Driver<'_> {
    pub(super) fn submit_marks(&mut self, id: MarksId, marks: Marks) {
        self.context
            .say(|| format!("writes back {id:?}: {} rows", marks.len()));
        self.context.count("marks-submitted");
        if self.context.has(Bug::DropsOverflow) && !self.write_back.is_idle() {
            return self.write_back.submit(id, Marks::default());
        }
        if self.context.has(Bug::ForgetsMarks) {
            return self.hear_of(id, marks);
        }
        self.write_back.submit(id, marks.clone());
        if self.context.has(Bug::ConfirmsUntold) {
            self.hear_of(id, marks);
        }
    }

    pub(super) fn written_back(&mut self, (id, marks): (MarksId, Marks)) {
        if !self.context.has(Bug::ConfirmsUntold) {
            self.hear_of(id, marks);
        }
    }

    fn hear_of(&mut self, id: MarksId, marks: Marks) {
        let now = self.context.now();
        self.context
            .say(|| format!("hears that {id:?} is written back"));
        self.delivery.handle_written_back(id, marks, now);
    }

    /// A dead letter that the state machine wants now.
    pub(super) fn next_served(&self) -> Option<Served> {
        if !self.delivery.wants_more() {
            return None;
        }
        self.letters.as_ref()?.next()
    }

    pub(super) fn served(&mut self, served: Served) -> Result<(), Failure> {
        let now = self.context.now();
        match served {
            Served::Letter(letter) => {
                self.ledger.handed_in(letter.bytes());
                letter.hand_in(&mut self.delivery, now)?;
            }
            Served::End => {
                self.letters = None;
                self.delivery.handle_served(now);
            }
        }
        Ok(())
    }
}

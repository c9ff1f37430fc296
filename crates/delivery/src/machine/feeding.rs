//! Feeds: rows that a list names are published while the stream waits.
//!
//! The stream shows a row again until the slot is confirmed beyond it; a feed shows nothing again. So
//! the checkpoint says of it what the slot says of the stream: up to which row the tables have been
//! told. Only once that is the last row, and recorded, is the list deleted, and only then does the
//! checkpoint lose sight of the feed.

use std::time::Instant;

use envelope::{Origin, REPLAY_HEADER, TableId, fed_position, is_fed};
use pgoutput::{Position, Relation, Tuple};

use super::Delivery;
use super::serving::Serving;
use crate::write_back::Floor;
use crate::{Action, Fed, FedRow, FeedProgress, Halt, Mark, Marks, Outcome};

/// So many rows that an earlier session published are written back at a time.
const TOLD_AGAIN: usize = 1000;

/// What there is of a feed beside its progress.
#[derive(Debug)]
pub(super) struct Feed {
    request: String,
    rows: u64,
    /// An earlier session published the rows up to this one.
    published: u64,
    /// Every row up to this one is published, and its outcome was handed over or gathered.
    told: u64,
    /// Outcomes gathered of rows that were published before.
    gathered: Marks,
    /// The row before the first of them.
    gathered_from: u64,
    /// There is no further row.
    ended: bool,
    list: List,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Needed,
    Discarding,
    Discarded,
}

impl Feed {
    fn begun(request: String, rows: u64) -> Self {
        Self {
            request,
            rows,
            published: 0,
            told: 0,
            gathered: Marks::default(),
            gathered_from: 0,
            ended: false,
            list: List::Needed,
        }
    }

    pub fn resumed(progress: &FeedProgress) -> Self {
        Self {
            published: progress.fed.done,
            told: progress.fed.marked,
            ended: progress.is_complete(),
            ..Self::begun(progress.request.clone(), progress.rows)
        }
    }

    pub fn request(&self) -> &str {
        &self.request
    }

    pub fn progress(&self, fed: Fed) -> FeedProgress {
        FeedProgress {
            request: self.request.clone(),
            rows: self.rows,
            fed,
        }
    }

    /// Rows that were published before are still to come.
    fn repeats(&self) -> bool {
        self.told < self.published
    }

    /// Every row up to this one has its outcome handed over.
    fn handed_over(&self) -> u64 {
        match self.gathered.is_empty() {
            true => self.told,
            false => self.gathered_from,
        }
    }
}

impl Delivery {
    /// A relation whose rows come from a feed, in the shape in which they come.
    pub fn handle_fed_relation(&mut self, relation: &Relation) -> Result<(), Halt> {
        Ok(self.tables.announce_fed(relation)?)
    }

    /// The next row of a feed.
    pub fn handle_fed_row(&mut self, row: &FedRow<'_>, now: Instant) -> Result<(), Halt> {
        let is_repeated = self
            .feed
            .as_ref()
            .is_some_and(|f| row.ordinal <= f.published);
        match is_repeated {
            true => self.tell_again(row)?,
            false => self.publish_fed(row, now)?,
        }
        self.advance(now);
        Ok(())
    }

    fn publish_fed(&mut self, row: &FedRow<'_>, now: Instant) -> Result<(), Halt> {
        self.flush_told_again();
        let Some(mapper) = self.tables.fed(row.table) else {
            return Err(self.shapeless(row.table));
        };
        let origin = Origin {
            position: fed_position(row.ordinal),
            commit_time: row.time,
            xid: 0,
        };
        let unmappable = mapper.map_or_salvage(row.tuple, origin, &mut self.window.batch);
        let fed = self.window.boundary().fed.unwrap_or_default();
        if let Some(feed) = self.feed.as_ref().filter(|_| fed.controlled) {
            self.window
                .batch
                .add_header_to_last(REPLAY_HEADER, &feed.request);
        }
        self.judge(unmappable.as_ref(), now)?;
        self.complete_so_far();
        self.window.set_fed(Fed {
            done: row.ordinal,
            ..fed
        });
        Ok(())
    }

    fn shapeless(&self, table: TableId) -> Halt {
        Halt::Protocol(format!(
            "a row of {} before its shape",
            self.tables.name(table)
        ))
    }

    /// A row that an earlier session published: its table may not have been told.
    fn tell_again(&mut self, row: &FedRow<'_>) -> Result<(), Halt> {
        if self.settings.writes_back() && !self.write_backs.has_dropped() {
            self.gather_told_again(row.table, row.ordinal, row.tuple)?;
        }
        let Some(feed) = &mut self.feed else {
            return Ok(());
        };
        feed.told = row.ordinal;
        if feed.gathered.len() >= TOLD_AGAIN {
            self.flush_told_again();
        }
        Ok(())
    }

    fn gather_told_again(
        &mut self,
        table: TableId,
        ordinal: u64,
        tuple: Tuple<'_>,
    ) -> Result<(), Halt> {
        let outcome = match self.dead.get(&fed_position(ordinal)) {
            Some(row) => Outcome::Failed {
                attempts: row.attempts,
                error: &row.reason,
            },
            None => Outcome::Fed,
        };
        let policy = self.settings.policy(table);
        if !policy.is_some_and(|policy| policy.write_back.takes(&outcome)) {
            return Ok(());
        }
        let Some(mapper) = self.tables.fed(table) else {
            return Err(self.shapeless(table));
        };
        if let Some(feed) = &mut self.feed {
            if feed.gathered.is_empty() {
                feed.gathered_from = feed.told;
            }
            let marks = &mut feed.gathered;
            mapper.with_id(tuple, |id| marks.push(Mark { table, id, outcome }));
        }
        Ok(())
    }

    fn flush_told_again(&mut self) {
        let floor = self.told_again_floor();
        let Some(feed) = self.feed.as_mut().filter(|f| !f.gathered.is_empty()) else {
            return;
        };
        let empty = self.spare_marks.pop().unwrap_or_default();
        let marks = std::mem::replace(&mut feed.gathered, empty);
        self.submit_marks_from(floor, marks);
    }

    fn told_again_floor(&self) -> Floor {
        Floor {
            lsn: self.dealt_with,
            fed: self.handed_over(),
        }
    }

    /// Every row of the feed up to this one has its outcome handed over.
    pub(super) fn handed_over(&self) -> u64 {
        self.feed.as_ref().map_or(0, Feed::handed_over)
    }

    /// Rows that were published before come faster than their tables can be told.
    pub(super) fn is_ahead_in_feed(&self) -> bool {
        let Some(feed) = self.feed.as_ref().filter(|feed| feed.repeats()) else {
            return false;
        };
        let fits = self.write_backs.has_room_for(feed.gathered.len() + 1);
        !fits && !self.write_backs.has_dropped()
    }

    /// Gives up telling the tables again: it is left to a later session.
    pub(super) fn give_up_telling_again(&mut self) {
        self.write_backs.drop_from(self.told_again_floor());
        if let Some(feed) = &mut self.feed {
            feed.gathered.clear();
        }
    }

    /// The feed has no more rows.
    pub fn handle_feed_end(&mut self, now: Instant) {
        self.flush_told_again();
        let Some(serving) = self.serving.take() else {
            return;
        };
        if let Some(feed) = &mut self.feed {
            feed.ended = true;
            let fed = self.window.boundary().fed.unwrap_or_default();
            self.window.set_fed(Fed {
                done: feed.rows,
                ..fed
            });
        }
        self.complete_so_far();
        // A request that an earlier session began is still to come by in the stream.
        if serving.is_at_its_row() {
            self.pass_control_row();
        }
        self.advance(now);
    }

    /// The list is deleted.
    pub fn handle_discarded(&mut self, now: Instant) {
        if let Some(feed) = &mut self.feed {
            feed.list = List::Discarded;
        }
        self.advance(now);
    }

    /// The stream stands at the request.
    pub(super) fn begin_feed(&mut self, request: String, rows: u64) -> Action {
        self.window.set_fed(Fed {
            controlled: true,
            ..Fed::default()
        });
        self.write_backs.begin_feed();
        self.forget_dead_of_other_feeds(0);
        let feed = Feed::begun(request, rows);
        let action = feed.read_from(Fed::default());
        self.feed = Some(feed);
        action
    }

    /// The place in a feed does not say in which: of this one, rows up to `done` are published. A repair
    /// makes another feed of what it finds.
    pub(super) fn forget_dead_of_other_feeds(&mut self, done: u64) {
        let is_other = |at: &Position| is_fed(*at) && at.index > done;
        let others = self.settle(is_other);
        self.exceptions.extend(others);
    }

    /// Rows of a feed that are still to be published, for which the stream waits.
    pub fn feed_rows_left(&self) -> u64 {
        let feed = self.feed.as_ref().zip(self.durable.fed);
        feed.map_or(0, |(feed, fed)| feed.rows.saturating_sub(fed.done))
    }

    /// What asks for the rows of the feed that an earlier session began.
    pub(super) fn resume_feed(&self) -> Option<Action> {
        let fed = self.window.boundary().fed?;
        self.feed.as_ref().map(|feed| feed.read_from(fed))
    }

    /// An earlier session has carried it out.
    pub(super) fn is_carried_out(&self, request: &str) -> bool {
        let fed = self.window.boundary().fed;
        let feed = self.feed.as_ref().filter(|feed| feed.request == request);
        feed.zip(fed)
            .is_some_and(|(feed, fed)| fed.done >= feed.rows)
    }

    /// The stream stands at a request. That of the feed came before, or never comes: a server that was
    /// promoted without it has another history.
    pub(super) fn note_request(&mut self, request: &str) {
        let is_other = self
            .feed
            .as_ref()
            .is_some_and(|feed| feed.request != request);
        if is_other {
            self.pass_request_of_feed();
        }
    }

    /// The stream is past the request of the feed.
    pub(super) fn pass_request_of_feed(&mut self) {
        if let Some(fed) = self.window.boundary().fed {
            let controlled = false;
            self.window.set_fed(Fed { controlled, ..fed });
        }
    }

    /// A window is durable, and its outcomes are handed over.
    pub(super) fn note_fed(&mut self, fed: Option<Fed>) {
        if let (Some(feed), Some(fed)) = (&mut self.feed, fed)
            && (feed.ended || fed.done > feed.published)
        {
            feed.told = feed.told.max(fed.done);
        }
    }

    /// Brings the feed nearer to its end.
    pub(super) fn go_on_feeding(&mut self) {
        let is_quiet = self.is_quiet();
        let (Some(feed), Some(mut fed)) = (&mut self.feed, self.window.boundary().fed) else {
            return;
        };
        if feed.ended && is_quiet && feed.gathered.is_empty() {
            feed.told = feed.rows;
        }
        let held = self.write_backs.bound().map(|floor| floor.fed);
        let marked = held.map_or(feed.handed_over(), |held| held.min(feed.handed_over()));
        fed.marked = fed.marked.max(marked);
        self.window.set_fed(fed);
        let recorded = self.recorded_fed.map(|fed| feed.progress(fed));
        match feed.list {
            List::Needed if recorded.is_some_and(|feed| feed.is_complete()) => {
                feed.list = List::Discarding;
                let request = feed.request.clone();
                self.actions.push_back(Action::Discard { request });
            }
            List::Discarded if !fed.controlled => self.window.forget_fed(),
            List::Needed | List::Discarding | List::Discarded => {}
        }
    }

    /// A checkpoint is durable.
    pub(super) fn note_recorded_fed(&mut self, fed: Option<Fed>) {
        self.recorded_fed = fed;
        if fed.is_none() && self.window.boundary().fed.is_none() {
            self.feed = None;
        }
    }

    /// A feed that is not forgotten yet keeps another one waiting.
    pub(super) fn waits_for_feed(&self) -> bool {
        self.feed.is_some() && self.serving.as_ref().is_some_and(Serving::asks_for_feed)
    }
}

impl Feed {
    fn read_from(&self, fed: Fed) -> Action {
        Action::Feed {
            feed: self.progress(fed),
        }
    }
}

//! Joins the state machine to the stream and the lanes, as the real driver does.

mod beside;
mod ending;
mod filter;

use std::collections::BTreeMap;
use std::time::Duration;

use delivery::{Action, Delivery, Exception, Marks, MarksId, WindowId};
use envelope::RecordBatch;
use pgoutput::{Lsn, Message};

use super::lane::Report;
use super::ledger::Ledger;
use super::letters::{Letters, Served};
use super::open::{Opened, Session};
use super::sink::Sink;
use super::watcher::{Sighting, Watcher};
use super::write_back::WriteBack;
use super::{Bug, Context, Failure};
use crate::server::{Frame, Gone};
use crate::setup::Mode;
use crate::task::pause;

/// A server that is shutting down waits for us at most this long.
const SHUTDOWN_COURTESY: Duration = Duration::from_millis(1500);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
const WAL_SENDER_TIMEOUT: Duration = Duration::from_secs(10);
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const HEARTBEAT: Duration = Duration::from_millis(250);

/// One session's loop.
pub(super) struct Driver<'c> {
    context: &'c Context,
    session: Session,
    watcher: Watcher,
    sink: Sink,
    write_back: WriteBack,
    /// What the stream waits for.
    letters: Option<Letters>,
    delivery: Delivery,
    /// Why the state machine wants the session to end.
    halted: Option<Failure>,
    ledger: Ledger,
    /// Buffers of acknowledged windows that are not committed yet.
    acknowledged: BTreeMap<WindowId, RecordBatch>,
    /// When the server last said anything, or when we last were not listening.
    heard: Duration,
    /// When the loop last had something to do.
    awake: Duration,
    probed: Duration,
    /// The highest LSN of any row, for the bug that skips by it.
    last_row: Lsn,
    in_trouble: bool,
    progressed: bool,
}

/// Why a session ends, as in the real driver.
enum End {
    Shutdown,
    Source(Failure),
    Sink(Failure),
}

enum Turn {
    Frame(Result<Frame, Gone>),
    Report(Report),
    Sighting(Sighting),
    WrittenBack((MarksId, Marks)),
    Served(Served),
    Due,
    Shutdown,
    Nothing,
}

impl<'c> Driver<'c> {
    pub fn new(context: &'c Context, opened: Opened) -> Self {
        let now = context.elapsed();
        let ledger = Ledger::new(context.limits, opened.resume);
        Self {
            context,
            session: opened.session,
            watcher: opened.watcher,
            sink: opened.sink,
            write_back: opened.write_back,
            letters: None,
            delivery: opened.delivery,
            halted: None,
            ledger,
            acknowledged: BTreeMap::new(),
            heard: now,
            awake: now,
            probed: now,
            last_row: Lsn::INVALID,
            in_trouble: false,
            progressed: false,
        }
    }

    /// Whether a later failure starts its backoff anew.
    pub fn has_progressed(&self) -> bool {
        self.progressed
    }

    /// `Ok` when ended by SIGTERM.
    pub async fn run(&mut self) -> Result<(), Failure> {
        let end = loop {
            self.carry_out();
            if let Some(failure) = self.halted.take() {
                break End::Source(failure);
            }
            pause().await;
            let turn = self.turn();
            if let Err(end) = self.handle(turn) {
                break end;
            }
        };
        match end {
            End::Shutdown => {
                self.drain(SHUTDOWN_TIMEOUT, Delivery::is_drained).await;
                Ok(())
            }
            End::Source(failure) => {
                self.drain(SHUTDOWN_COURTESY, Delivery::is_drained).await;
                Err(failure)
            }
            End::Sink(failure) => {
                self.drain(SHUTDOWN_COURTESY, Delivery::is_recorded).await;
                Err(failure)
            }
        }
    }

    fn handle(&mut self, turn: Turn) -> Result<(), End> {
        match turn {
            Turn::Frame(frame) => {
                let frame = frame.map_err(|gone| End::Source(gone.into()))?;
                self.take_in(frame).map_err(End::Source)
            }
            Turn::Report(report) => self.reported(report).map_err(End::Sink),
            Turn::Sighting(Sighting::Verified(lsn)) => {
                self.delivery.handle_publication_verified(lsn);
                Ok(())
            }
            Turn::Sighting(Sighting::Ended) if self.context.has(Bug::HoldsUpShutdowns) => Ok(()),
            Turn::Sighting(Sighting::Ended) => {
                let failure = Failure::transient("the catalog connection ended");
                Err(End::Source(failure))
            }
            Turn::WrittenBack(done) => {
                self.written_back(done);
                Ok(())
            }
            Turn::Served(served) => self.served(served).map_err(End::Source),
            Turn::Due => self.due().map_err(End::Source),
            Turn::Shutdown => Err(End::Shutdown),
            Turn::Nothing => Ok(()),
        }
    }

    /// What happens next: as the real loop prefers, or now and then in another order, for the
    /// threads that report run in no order at all.
    fn turn(&mut self) -> Turn {
        let now = self.context.elapsed();
        let mut order = [0, 1, 2, 3, 4, 5];
        if self.context.with(|world| world.dice.one_in(4)) {
            self.context.with(|world| world.dice.shuffle(&mut order));
        }
        for choice in order {
            let turn = match choice {
                0 => self.sink.reports.next().map(Turn::Report),
                1 => self.context.is_terminating().then_some(Turn::Shutdown),
                2 => self.watcher.next().map(Turn::Sighting),
                3 => self.write_back.done().map(Turn::WrittenBack),
                4 => self.receive().map(Turn::Frame),
                _ => self.next_served().map(Turn::Served),
            };
            if let Some(turn) = turn {
                self.awake = now;
                return turn;
            }
        }
        let timeout = self.delivery.poll_timeout();
        let is_due = timeout.is_some_and(|at| at <= self.context.now());
        if is_due || now >= self.awake + HEARTBEAT {
            self.awake = now;
            return Turn::Due;
        }
        Turn::Nothing
    }

    /// A frame that is at hand, while one is wanted.
    fn receive(&mut self) -> Option<Result<Frame, Gone>> {
        if !self.delivery.wants_input() {
            self.heard = self.context.elapsed();
            if !self.context.has(Bug::IgnoresBackpressure) {
                return None;
            }
        }
        let connection = self.session.connection;
        let received = self.context.with(|world| world.server.receive(connection));
        received.transpose()
    }

    /// Takes a frame in, and what else is at hand.
    fn take_in(&mut self, first: Frame) -> Result<(), Failure> {
        self.heard = self.context.elapsed();
        self.feed(first)?;
        let budget = self.context.with(|world| world.dice.index(0..20));
        for _ in 0..budget {
            if !self.delivery.wants_input() {
                return Ok(());
            }
            match self.receive() {
                Some(frame) => self.feed(frame?)?,
                None => {
                    self.delivery.handle_source_idle(self.context.now());
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn feed(&mut self, frame: Frame) -> Result<(), Failure> {
        let now = self.context.now();
        match frame {
            Frame::Keepalive {
                wal_end,
                reply_requested,
            } => {
                self.progressed = true;
                let is_urgent = reply_requested && !self.context.has(Bug::IgnoresUrgency);
                self.delivery.handle_keepalive(wal_end, is_urgent, now)?;
                if self.context.has(Bug::ConfirmsKeepalives) {
                    self.report_flushed(wal_end);
                }
            }
            Frame::Data { lsn, bytes } => {
                let message = pgoutput::parse(&bytes).map_err(Failure::transient)?;
                if let Message::Commit(commit) = &message
                    && self.context.has(Bug::ConfirmsReceived)
                {
                    self.report_flushed(commit.end_lsn.0);
                }
                if !self.filters(&message, lsn) {
                    self.ledger.taken_in(&message, bytes.len());
                    self.delivery.handle_message(message, now)?;
                }
            }
        }
        Ok(())
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.delivery.poll_action() {
            match action {
                Action::Produce {
                    window,
                    batch,
                    checkpoint,
                    exceptions,
                } => self.produce(window, batch, checkpoint.as_ref(), &exceptions),
                Action::Commit { window } => {
                    self.context.say(|| format!("commits w{}", window.0));
                    self.sink.commit(window);
                }
                Action::Record {
                    checkpoint,
                    exceptions,
                } => {
                    self.context
                        .say(|| format!("records {}", checkpoint.confirmed_up_to));
                    if self.context.has(Bug::ConfirmsUnrecorded) {
                        self.report_flushed(checkpoint.confirmed_up_to);
                    }
                    self.sink.record(&checkpoint, &exceptions);
                }
                Action::Ask { topic } => self.sink.ask(self.context, topic),
                Action::WriteBack { id, marks } => self.submit_marks(id, marks),
                Action::Serve { request } => {
                    self.context.say(|| format!("serves {request:?}"));
                    self.context.count("request-served");
                    self.letters = Some(Letters::start(self.context, request));
                }
                Action::Feed { .. } | Action::Discard { .. } => unreachable!("there are no feeds"),
                Action::Stop(halt) => self.halted = Some(halt.into()),
                Action::Confirm(lsn) => self.report_flushed(lsn.lsn()),
            }
        }
        self.check_memory();
    }

    fn produce(
        &mut self,
        window: WindowId,
        batch: RecordBatch,
        checkpoint: Option<&delivery::Checkpoint>,
        exceptions: &[Exception],
    ) {
        self.context.say(|| {
            let position = checkpoint.and_then(|c| c.position);
            format!("w{}: {} events up to {position:?}", window.0, batch.len())
        });
        if checkpoint.is_some_and(|c| c.position.is_some_and(|p| !p.complete)) {
            self.context.count("split-transaction");
        }
        if self.delivery.windows_in_flight() > 1 {
            self.context.count("overlapping-windows");
        }
        self.ledger.handed_out(window, &batch);
        self.sink.produce(window, batch, checkpoint, exceptions);
        if let Some(checkpoint) = checkpoint
            && self.context.has(Bug::ConfirmsOnSend)
        {
            self.report_flushed(checkpoint.confirmed_up_to);
        }
    }

    fn report_flushed(&self, lsn: Lsn) {
        self.context.say(|| format!("confirms {lsn}"));
        let connection = self.session.connection;
        self.context
            .with(|world| world.server.report_flushed(connection, lsn));
    }

    fn reported(&mut self, report: Report) -> Result<(), Failure> {
        let now = self.context.now();
        self.context.say(|| format!("hears {report}"));
        match report {
            Report::Acknowledged { window, batch } => {
                self.delivery.handle_acknowledged(window, now);
                self.acknowledged.insert(window, batch);
                if self.context.mode == Mode::AtLeastOnce {
                    self.landed(window);
                }
            }
            Report::Committed { window } => {
                self.delivery.handle_committed(window, now);
                self.landed(window);
            }
            Report::Recorded => {
                self.delivery.handle_recorded(now);
                self.in_trouble = false;
            }
            Report::Answered { topic, answer } => {
                let random = self.context.with(|world| world.dice.number(0..1000)) as f64 / 1000.0;
                self.delivery.handle_answer(&topic, &answer, random, now);
            }
            Report::Refused(refusal) => {
                self.context.count("window-refused");
                if !self.context.has(Bug::TrustsProbes)
                    && let Some(halt) = self.delivery.handle_refused(&refusal, now)
                {
                    return Err(halt.into());
                }
                return Err(Failure::Refused(refusal));
            }
            Report::Failed(failure) => return Err(failure),
            Report::Trouble => self.in_trouble = true,
        }
        Ok(())
    }

    /// A window is durable.
    fn landed(&mut self, window: WindowId) {
        self.progressed = true;
        self.in_trouble = false;
        self.ledger.landed(window);
        if let Some(batch) = self.acknowledged.remove(&window) {
            self.delivery.recycle(batch);
        }
    }

    fn due(&mut self) -> Result<(), Failure> {
        let now = self.context.elapsed();
        self.delivery.handle_timeout(self.context.now());
        if now > self.heard + WAL_SENDER_TIMEOUT {
            self.context.count("silent-server");
            return Err(Failure::transient("nothing from the server for too long"));
        }
        if self.in_trouble && now > self.probed + PROBE_INTERVAL {
            self.probed = now;
            self.context.count("probe");
            self.delivery.handle_probe(self.context.now());
        }
        Ok(())
    }

    fn check_memory(&self) {
        if let Some(breach) = self.ledger.breach() {
            self.context.with(|world| world.violate(breach));
        }
    }
}

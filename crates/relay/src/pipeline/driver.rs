//! Joins the state machine to the stream and the sink. It decides nothing: it carries what has
//! happened in, and what is to be done out.

mod ending;
mod intake;
mod reports;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use delivery::{Action, Delivery, Opener, WindowId};
use envelope::RecordBatch;
use pgoutput::Lsn;
use tokio::sync::watch as signal;
use tokio::task::JoinSet;

use super::open::{Opened, open};
use super::service::{Served, Service};
use super::watch::{Sighting, Watcher};
use super::{Backlog, Context, Memory};
use crate::decryption::Keys;
use crate::failure::Failure;
use crate::feed;
use crate::sink::{Report, Sink};
use crate::source::{Frame, PgStream, WalSource};
use crate::telemetry::State;
use crate::writeback::{Done, WriteBack};

/// A server that is shutting down waits for us at most this long (and then as long to send the
/// last confirmation).
const SHUTDOWN_COURTESY: Duration = Duration::from_millis(1500);
/// How often Kafka is probed while it is in trouble and there is nothing to publish.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// The loop shows a sign of life at least this often.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// One session. `Ok` when it was ended by `shutdown`.
pub(super) async fn session(
    context: &Context,
    backlog: &mut Backlog,
    memory: &mut Memory,
    shutdown: &mut signal::Receiver<bool>,
) -> Result<(), Failure> {
    let opened = tokio::select! {
        opened = open(context, backlog, memory) => opened?,
        _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
    };
    let Opened {
        stream,
        mut watcher,
        sink,
        write_back,
        retention: _retention,
        delivery,
        keys,
    } = opened;
    context.vitals.enter(State::Streaming);
    context.metrics.session();
    backlog.start();
    let mut driver = Driver {
        context,
        backlog,
        stream,
        sink,
        write_back,
        service: None,
        discarding: JoinSet::new(),
        delivery,
        keys,
        memory,
        halted: None,
        flight: VecDeque::new(),
        heard: Instant::now(),
        probed: Instant::now(),
        reached: Lsn::INVALID,
        took_all: false,
    };
    let ended = driver.run(&mut watcher, shutdown).await;
    context.metrics.flight(0);
    let courtesy = if ended.is_ok() {
        SHUTDOWN_COURTESY
    } else {
        driver.courtesy(&ended)
    };
    driver.stream.close(courtesy).await;
    let lessons = driver.delivery.into_lessons();
    memory.lessons = Some(lessons);
    ended
}

/// A window in Kafka's hands; its buffer is there once it is acknowledged.
struct Flying {
    window: WindowId,
    since: Instant,
    batch: Option<RecordBatch>,
}

struct Driver<'a> {
    context: &'a Context,
    backlog: &'a mut Backlog,
    stream: PgStream,
    sink: Sink,
    write_back: WriteBack,
    /// What the stream waits for.
    service: Option<Service>,
    /// Deletes the list of a feed; ends with the session.
    discarding: JoinSet<()>,
    delivery: Delivery,
    keys: Option<Keys>,
    memory: &'a mut Memory,
    /// Why the state machine wants the session to end.
    halted: Option<Failure>,
    flight: VecDeque<Flying>,
    /// When the server last said anything, or when we last were not listening.
    heard: Instant,
    probed: Instant,
    /// Everything taken in lies below.
    reached: Lsn,
    /// Nothing more was at hand when the last frames were taken in.
    took_all: bool,
}

/// Why a session ends.
enum End {
    Shutdown,
    /// The source, the publication or a row that can't be published.
    Source(Failure),
    /// Kafka: what was under way has an unknown outcome.
    Sink(Failure),
}

enum Turn {
    Frame(Result<Frame, Failure>),
    Report(Report),
    Sighting(Sighting),
    WrittenBack(Done),
    Served(Result<Served, Failure>),
    Discarded,
    Keys(Arc<dyn Opener>),
    Due,
    Shutdown,
}

impl Driver<'_> {
    async fn run(
        &mut self,
        watcher: &mut Watcher,
        shutdown: &mut signal::Receiver<bool>,
    ) -> Result<(), Failure> {
        let end = loop {
            self.carry_out();
            if let Some(failure) = self.halted.take() {
                break End::Source(failure);
            }
            self.show_vitals();
            self.gather_keepalives();
            let turn = self.turn(watcher, shutdown).await;
            if let Err(end) = self.handle(turn).await {
                break end;
            }
        };
        self.context.vitals.reached(self.reached);
        match end {
            End::Shutdown => {
                self.context.vitals.enter(State::Draining);
                let patience = self.context.shutdown_timeout;
                self.drain(patience, Delivery::is_drained).await;
                Ok(())
            }
            // What came before is not to wait until the cause is repaired. If the server is
            // shutting down, it is not to be held up.
            End::Source(failure) => {
                // A server that is going down, or does not answer, takes no states any more.
                let done = match failure.code.name {
                    "postgres-shutdown" | "postgres-silent" | "postgres-unreachable" => {
                        Delivery::is_published
                    }
                    _ => Delivery::is_drained,
                };
                self.drain(SHUTDOWN_COURTESY, done).await;
                Err(failure)
            }
            // What is durable is not to be published again, if that is not known to Kafka yet.
            End::Sink(failure) => {
                self.drain(SHUTDOWN_COURTESY, Delivery::is_recorded).await;
                Err(failure)
            }
        }
    }

    /// Lets keepalives gather where pipelines share a process. Blocks all that runs on this thread, on purpose:
    /// the reader would wake up for each of them.
    fn gather_keepalives(&mut self) {
        let rest = self.context.sharing.rest();
        if std::mem::take(&mut self.took_all) && !rest.is_zero() {
            std::thread::sleep(rest);
        }
    }

    async fn handle(&mut self, turn: Turn) -> Result<(), End> {
        match turn {
            Turn::Report(report) => self.reported(report).map_err(End::Sink),
            Turn::Frame(Ok(frame)) => self.take_in(frame).await.map_err(End::Source),
            Turn::Frame(Err(failure)) => Err(End::Source(failure)),
            Turn::Sighting(sighting) => self.sighted(sighting).map_err(End::Source),
            Turn::WrittenBack(done) => {
                self.written_back(done);
                Ok(())
            }
            Turn::Served(served) => self.served(served).map_err(End::Source),
            Turn::Discarded => {
                self.delivery.handle_discarded(Instant::now());
                Ok(())
            }
            Turn::Keys(opener) => {
                self.delivery.handle_keys(opener);
                Ok(())
            }
            Turn::Due => self.due().map_err(End::Source),
            Turn::Shutdown => Err(End::Shutdown),
        }
    }

    /// Waits for the next thing to happen. What is rare comes before frames and letters, which may be at hand
    /// all the time; what is due is seen to with each of them as well.
    async fn turn(&mut self, watcher: &mut Watcher, shutdown: &mut signal::Receiver<bool>) -> Turn {
        let listening = self.delivery.wants_input();
        if !listening {
            self.heard = Instant::now();
        }
        let serving = self.delivery.wants_more();
        let heartbeat = Instant::now() + HEARTBEAT;
        let due = self
            .delivery
            .poll_timeout()
            .map_or(heartbeat, |t| t.min(heartbeat));
        tokio::select! {
            biased;
            report = self.sink.report() => Turn::Report(report),
            _ = shutdown.wait_for(|stop| *stop) => Turn::Shutdown,
            sighting = watcher.sighting() => Turn::Sighting(sighting),
            done = self.write_back.done() => Turn::WrittenBack(done),
            Some(_) = self.discarding.join_next() => Turn::Discarded,
            opener = changed(&mut self.keys) => Turn::Keys(opener),
            frame = self.stream.next(), if listening => Turn::Frame(frame),
            served = next_of(&mut self.service), if serving => Turn::Served(served),
            () = tokio::time::sleep_until(due.into()) => Turn::Due,
        }
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.delivery.poll_action() {
            match action {
                Action::Produce {
                    window,
                    batch,
                    checkpoint,
                    exceptions,
                } => {
                    self.backlog.taken_in(&batch);
                    self.context.metrics.window(&batch);
                    self.flight.push_back(Flying {
                        window,
                        since: Instant::now(),
                        batch: None,
                    });
                    self.sink
                        .produce(window, batch, checkpoint.as_ref(), &exceptions);
                }
                Action::Commit { window } => self.sink.commit(window),
                Action::Record {
                    checkpoint,
                    exceptions,
                } => self.sink.record(&checkpoint, &exceptions),
                Action::Ask { topic } => self.sink.ask(topic),
                Action::WriteBack { id, marks } => self.write_back.submit(id.0, marks),
                Action::Serve { request } => {
                    self.service = Some(Service::of(self.context, &request));
                }
                Action::Feed { feed } => {
                    self.service = Some(Service::of_feed(self.context, &feed));
                }
                Action::Discard { request } => {
                    let pipeline = self.context.pipeline.clone();
                    self.discarding
                        .spawn(feed::discard_published(pipeline, request));
                }
                Action::Stop(halt) => self.halted = Some(halt.into()),
                Action::Confirm(lsn) => {
                    self.stream.confirm(lsn);
                    self.context.metrics.confirmed(lsn.lsn());
                    self.context.vitals.confirmed(lsn.lsn());
                }
            }
        }
        let metrics = &self.context.metrics;
        metrics.flight(self.delivery.windows_in_flight());
        metrics.parked(self.delivery.parked_keys());
        metrics.feed_rows_left(self.delivery.feed_rows_left());
    }

    fn sighted(&mut self, sighting: Sighting) -> Result<(), Failure> {
        match sighting {
            Sighting::Verified {
                lsn,
                counters,
                slot,
            } => {
                self.delivery.handle_publication_verified(lsn);
                self.backlog.counted(lsn, counters);
                self.context.show(self.backlog, slot);
                Ok(())
            }
            Sighting::Ended(failure) | Sighting::Refused(failure) => Err(failure),
        }
    }

    fn due(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        self.delivery.handle_timeout(now);
        let silence = now.duration_since(self.heard);
        if silence > self.context.pipeline.postgres.wal_sender_timeout {
            let message = format!("nothing from the server for {} s", silence.as_secs());
            return Err(Failure::new("postgres-silent", message));
        }
        if self.context.vitals.in_trouble() && now.duration_since(self.probed) > PROBE_INTERVAL {
            self.probed = now;
            self.delivery.handle_probe(now);
        }
        Ok(())
    }

    fn show_vitals(&mut self) {
        let oldest_window = self.flight.front().map(|f| f.since);
        let caught_up = self.delivery.is_caught_up();
        self.backlog.caught_up(caught_up);
        let vitals = &self.context.vitals;
        vitals.beat(self.heard, oldest_window);
        vitals.recorded(self.delivery.recorded());
        vitals.lag(
            self.delivery.oldest_undelivered(),
            self.backlog.is_caught_up(),
        );
        self.context.metrics.backlog(self.backlog);
    }
}

/// What the service has next; nothing while there is none.
async fn next_of(service: &mut Option<Service>) -> Result<Served, Failure> {
    match service {
        Some(service) => service.next().await,
        None => std::future::pending().await,
    }
}

/// What decrypts once the keyring has changed; nothing while there is none.
async fn changed(keys: &mut Option<Keys>) -> Arc<dyn Opener> {
    match keys {
        Some(keys) => keys.changed().await,
        None => std::future::pending().await,
    }
}

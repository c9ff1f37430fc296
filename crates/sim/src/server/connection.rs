//! One client's connections: the stream, and the catalog queries beside it.

use std::collections::VecDeque;

use pgoutput::Lsn;

use crate::Dice;
use crate::wal::{History, Walsender};
use crate::world::ProcessId;

/// Numbers connections; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What the stream carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A pgoutput message.
    Data {
        /// As in XLogData: where its row stands in the WAL.
        lsn: Lsn,
        /// The message.
        bytes: Vec<u8>,
    },
    /// The server's place in the log.
    Keepalive {
        /// Everything that commits below has been sent.
        wal_end: Lsn,
        /// The server waits for an answer.
        reply_requested: bool,
    },
}

/// Why a connection can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It broke.
    Lost,
    /// No answer comes.
    Silent,
    /// The server is shutting down.
    ShuttingDown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Whole,
    /// Nothing passes any more, and nobody is told.
    Cut,
    /// The server has closed its end.
    Closed(Gone),
}

#[derive(Debug)]
pub(super) struct Connection {
    pub owner: ProcessId,
    /// How often the log had been replaced when it was opened.
    pub era: usize,
    /// Frames that the sockets hold.
    buffered_frames: usize,
    pub link: Link,
    /// Whether catalog queries are answered.
    pub catalog: Result<(), Gone>,
    /// The client has closed its end, or is dead.
    pub abandoned: bool,
    pub walsender: Option<Walsender>,
    down: VecDeque<Frame>,
    up: VecDeque<Lsn>,
}

impl Connection {
    pub fn new(owner: ProcessId, era: usize, buffered_frames: usize) -> Self {
        Self {
            owner,
            era,
            buffered_frames,
            link: Link::Whole,
            catalog: Ok(()),
            abandoned: false,
            walsender: None,
            down: VecDeque::new(),
            up: VecDeque::new(),
        }
    }

    /// Both ends are there and hear each other.
    pub fn is_alive(&self) -> bool {
        self.link == Link::Whole && !self.abandoned
    }

    /// What the client has sent still arrives, also after its death.
    pub fn is_heard(&self) -> bool {
        self.link == Link::Whole
    }

    pub fn catalog(&self) -> Result<(), Gone> {
        match self.link {
            Link::Whole => self.catalog,
            // The query runs into its timeout.
            Link::Cut => Err(Gone::Silent),
            Link::Closed(why) => Err(why),
        }
    }

    /// What has arrived can be read after the end; a cut is only silence.
    pub fn receive(&mut self) -> Result<Option<Frame>, Gone> {
        match (self.down.pop_front(), self.link) {
            (Some(frame), _) => Ok(Some(frame)),
            (None, Link::Whole | Link::Cut) => Ok(None),
            (None, Link::Closed(why)) => Err(why),
        }
    }

    pub fn send_feedback(&mut self, lsn: Lsn) {
        if self.is_alive() {
            self.up.push_back(lsn);
        }
    }

    pub fn has_feedback(&self) -> bool {
        !self.up.is_empty()
    }

    pub fn take_feedback(&mut self) -> Option<Lsn> {
        self.up.pop_front()
    }

    /// How far it has been sent the log.
    pub fn streamed(&self) -> Lsn {
        let walsender = self.walsender.as_ref();
        walsender.map_or(Lsn::INVALID, Walsender::sent)
    }

    pub fn close(&mut self, why: Gone, dice: &mut Dice) {
        if matches!(self.link, Link::Closed(_)) {
            return;
        }
        if self.link == Link::Whole && dice.one_in(2) {
            // A reset discards what the client has not read.
            self.down.clear();
        }
        self.up.clear();
        self.link = Link::Closed(why);
    }

    /// The walsender sends a message, or says how far it is; in a shutdown it always asks for a
    /// reply.
    pub fn send(&mut self, history: &History, asks_every: u64, dice: &mut Dice) {
        let Some(walsender) = &mut self.walsender else {
            return;
        };
        let stopping = asks_every == 1;
        for _ in 0..dice.index(1..8) {
            if self.down.len() >= self.buffered_frames {
                return;
            }
            let interjects = dice.one_in(10);
            let message = match interjects {
                true => None,
                false => walsender.next_message(history, dice),
            };
            match message {
                Some((lsn, bytes)) => self.down.push_back(Frame::Data { lsn, bytes }),
                None => {
                    // `WalSndWaitForWal` sends one before it sleeps, then at half the timeout.
                    if interjects || stopping || !walsender.is_caught_up(history) || dice.one_in(4)
                    {
                        self.down.push_back(Frame::Keepalive {
                            wal_end: walsender.keepalive(history, dice),
                            reply_requested: dice.one_in(asks_every),
                        });
                    }
                    if !interjects {
                        return;
                    }
                }
            }
        }
    }
}

//! The dead letters that a request names, those of each key in the order in which they became dead.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use delivery::{Command, Delivery, Filter, Halt, Places, Redelivered, Request};
use envelope::dead_letter::{Entry, Found};

use super::reader::is_settled;
use super::{Bug, Context};
use crate::broker::{DEAD_LETTER_TOPIC, Message, PartitionId};
use crate::task::pause;
use crate::world::World;

/// One of them.
#[derive(Clone)]
pub(super) struct Letter {
    message: Message,
    place: (i32, i64),
    is_dropped: bool,
}

/// What is read so far.
#[derive(Clone)]
pub(super) struct Letters(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    letters: VecDeque<Letter>,
    is_read: bool,
}

/// What there is to hand in.
pub(super) enum Served {
    Letter(Letter),
    End,
}

impl Letters {
    /// Begins to read.
    pub fn start(context: &Context, request: Request) -> Self {
        let state = Rc::<RefCell<State>>::default();
        let read = Rc::clone(&state);
        let inner = context.clone();
        context.spawn(
            None,
            Box::pin(async move {
                let letters = read_letters(&inner, &request).await;
                *read.borrow_mut() = State {
                    letters: letters.into(),
                    is_read: true,
                };
            }),
        );
        Self(state)
    }

    /// The next one, if it is there.
    pub fn next(&self) -> Option<Served> {
        let mut state = self.0.borrow_mut();
        if !state.is_read {
            return None;
        }
        Some(
            state
                .letters
                .pop_front()
                .map_or(Served::End, Served::Letter),
        )
    }
}

impl Letter {
    /// About its size.
    pub fn bytes(&self) -> usize {
        self.message.value.as_ref().map_or(0, Vec::len)
    }

    pub fn hand_in(&self, delivery: &mut Delivery, now: std::time::Instant) -> Result<(), Halt> {
        let headers = headers(&self.message);
        let Some(Found::Entry(entry)) = Found::read(&headers) else {
            return Ok(());
        };
        let letter = Redelivered {
            entry: &entry,
            topic: DEAD_LETTER_TOPIC,
            partition: self.place.0,
            offset: self.place.1,
            key: self.message.key.as_deref(),
            value: self.message.value.as_deref(),
            timestamp_ms: self.message.timestamp_ms,
            dropped: self.is_dropped,
        };
        delivery.handle_redelivered(&letter, now)
    }
}

/// The headers as the reader of dead letters wants them.
pub fn headers(message: &Message) -> Vec<(&str, Option<&[u8]>)> {
    let headers = message.headers.iter();
    headers
        .map(|(name, value)| (name.as_str(), value.as_deref()))
        .collect()
}

async fn read_letters(context: &Context, request: &Request) -> Vec<Letter> {
    let (filter, is_dropped) = match &request.command {
        Ok(Command::DlqReplay { filter }) => (filter.clone(), false),
        Ok(Command::DlqDrop { filter }) => (filter.clone(), true),
        Ok(Command::DlqRelease { service, key }) => {
            let filter = Filter {
                service: Some(service.clone()),
                key: Some(key.clone()),
                ..Filter::default()
            };
            (filter, false)
        }
        Ok(Command::Replay { .. }) | Err(_) => return Vec::new(),
    };
    let releases = matches!(request.command, Ok(Command::DlqRelease { .. }));
    if context.has(Bug::ServesNothing) || releases && context.has(Bug::ReleasesUnpublished) {
        return Vec::new();
    }
    let filter = match context.has(Bug::MisreadsFilters) {
        true => Filter::default(),
        false => filter,
    };
    let mut found = Vec::new();
    let mut resolved = BTreeSet::new();
    for partition in context.with(|world| world.broker.dead_letter_partitions()) {
        wait_until_settled(context, partition).await;
        context.with(|world| scan(world, partition, &mut found, &mut resolved));
    }
    let mut places = Places::default();
    let mut wanted = BTreeMap::new();
    for mut letter in found {
        let headers = headers(&letter.message);
        let Some(Found::Entry(entry)) = Found::read(&headers) else {
            continue;
        };
        let is_open = !resolved.contains(&letter.place) || context.has(Bug::ServesResolved);
        if is_open && is_meant(&entry, &letter, &filter, &request.id, context) {
            let (place, message) = (letter.place, &letter.message);
            let key = message.key.as_deref();
            places.push((0, place.0, place.1), &entry, key, message.timestamp_ms);
            letter.is_dropped = is_dropped;
            wanted.insert(place, letter);
        }
    }
    let places = places.in_order();
    let places: Vec<_> = places.iter().map(|p| (p.partition, p.offset)).collect();
    context.say(|| format!("finds {places:?}"));
    places
        .iter()
        .filter_map(|place| wanted.remove(place))
        .collect()
}

fn is_meant(
    entry: &Entry<'_>,
    letter: &Letter,
    filter: &Filter,
    request: &str,
    context: &Context,
) -> bool {
    let place = format!("{DEAD_LETTER_TOPIC}/{}:{}", letter.place.0, letter.place.1);
    let is_ours = entry.request == request && !context.has(Bug::ServesOwnLetters);
    !is_ours && filter.matches(entry, letter.message.key.as_deref(), &place)
}

/// What was committed last may not be marked as such yet, and would not be seen.
async fn wait_until_settled(context: &Context, partition: PartitionId) {
    let mut high = None;
    loop {
        pause().await;
        let is_settled = context.with(|world| is_settled(world, partition, &mut high));
        if is_settled || context.has(Bug::ReadsUnsettled) {
            return;
        }
        context.count("letters-wait");
    }
}

fn scan(
    world: &World,
    partition: PartitionId,
    found: &mut Vec<Letter>,
    resolved: &mut BTreeSet<(i32, i64)>,
) {
    for (offset, stored) in world.broker.committed_with_offsets(partition) {
        let place = (partition.number(), offset as i64);
        match Found::read(&headers(&stored.message)) {
            Some(Found::Entry(_)) => found.push(Letter {
                message: stored.message.clone(),
                place,
                is_dropped: false,
            }),
            Some(Found::Resolution {
                partition, offset, ..
            }) => {
                resolved.insert((partition, offset));
            }
            None => {}
        }
    }
}

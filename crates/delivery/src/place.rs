//! Where dead letters stand, and the order in which they are published again.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use envelope::dead_letter::Entry;
use envelope::is_fed;
use pgoutput::Position;

use crate::RecordKey;

/// Where a dead letter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which of the topics that are read.
    pub topic: usize,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Partition and offset of the first letter of its event.
    first: (i32, i64),
    /// When its event became dead, as far as that tells letters of several partitions apart.
    time: Time,
    /// Of topic and record key.
    key: Option<u64>,
}

/// The record's timestamp (milliseconds since 1970-01-01 UTC), and the position in its transaction.
type Time = (i64, Option<Position>);

/// Places of dead letters, in any order.
#[derive(Debug, Default)]
pub struct Places {
    places: Vec<Place>,
    hasher: BuildHasherDefault<DefaultHasher>,
}

impl Places {
    /// Adds one, by topic, partition and offset.
    pub fn push(
        &mut self,
        (topic, partition, offset): (usize, i32, i64),
        entry: &Entry<'_>,
        key: Option<&[u8]>,
        timestamp_ms: i64,
    ) {
        self.places.push(Place {
            topic,
            partition,
            offset,
            first: entry.origin.unwrap_or((partition, offset)),
            time: (timestamp_ms, entry.position.parse().ok()),
            key: RecordKey::of_letter(entry, key).map(|key| self.hasher.hash_one((topic, key))),
        });
    }

    /// Keeps only some.
    pub fn retain(&mut self, keep: impl FnMut(&Place) -> bool) {
        self.places.retain(keep);
    }

    /// All of them, the letters of each key in the order in which their events became dead.
    ///
    /// That is the order of their first letters in the partition, which is one and the same for a key.
    /// Where partitions were added, a key has letters in several. Events become dead in commit order, so
    /// then their positions tell: the clock of a server that was promoted may be behind. Where positions
    /// do not, because a feed published some or a restored server used them again, times do; rows of a
    /// feed bear the time of its request.
    pub fn in_order(mut self) -> Vec<Place> {
        let spread = self.spread();
        let first = |place: &Place| (place.topic, place.first, place.partition, place.offset);
        self.places.sort_unstable_by_key(first);
        let is_spread = |place: &Place| place.key.is_some_and(|key| spread.contains(&key));
        let (mut last, mut ordered): (Vec<_>, Vec<_>) =
            self.places.into_iter().partition(is_spread);
        let told = told_by_position(&last);
        for place in last.iter_mut().filter(|place| told.contains(&place.key)) {
            place.time.0 = 0;
        }
        raise_times(&mut last);
        last.sort_by_key(|place| (place.topic, place.key, place.time));
        ordered.append(&mut last);
        ordered
    }

    /// Keys whose events became dead in several partitions.
    fn spread(&self) -> HashSet<u64> {
        let mut partitions: HashMap<u64, i32> = HashMap::new();
        let mut spread = HashSet::new();
        for place in &self.places {
            let Some(key) = place.key else { continue };
            let partition = place.first.0;
            if *partitions.entry(key).or_insert(partition) != partition {
                spread.insert(key);
            }
        }
        spread
    }
}

/// Clocks of servers that follow each other are not further apart, milliseconds.
const CLOCKS_APART_MS: i64 = 5 * 60_000;

/// Keys whose letters all were streamed, in every partition in the order of their positions, which times do
/// not contradict: positions of two histories, before a restore and after it, can't be compared.
fn told_by_position(places: &[Place]) -> HashSet<Option<u64>> {
    let mut newest: HashMap<(Option<u64>, i32), Position> = HashMap::new();
    let mut told: HashSet<_> = places.iter().map(|place| place.key).collect();
    for place in places {
        let position = place.time.1.filter(|position| !is_fed(*position));
        let before = position.and_then(|p| newest.insert((place.key, place.first.0), p));
        if position.is_none() || before > position {
            told.remove(&place.key);
        }
    }
    let mut ordered: Vec<_> = places.iter().map(|p| (p.key, p.time.1, p.time.0)).collect();
    ordered.sort_unstable();
    let mut latest: HashMap<Option<u64>, i64> = HashMap::new();
    for (key, _, time) in ordered {
        let latest = latest.entry(key).or_insert(time);
        if *latest - time > CLOCKS_APART_MS {
            told.remove(&key);
        }
        *latest = time.max(*latest);
    }
    told
}

/// Takes no event for older than the one of its key before it in its partition.
fn raise_times(places: &mut [Place]) {
    let mut newest: HashMap<(Option<u64>, i32), Time> = HashMap::new();
    for place in places {
        let before = newest
            .entry((place.key, place.first.0))
            .or_insert(place.time);
        *before = place.time.max(*before);
        place.time = *before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Letter {
        place: (i32, i64),
        origin: Option<(i32, i64)>,
        key: Option<&'static str>,
        time: i64,
    }

    fn letter(place: (i32, i64), key: &'static str, time: i64) -> Letter {
        Letter {
            place,
            origin: None,
            key: Some(key),
            time,
        }
    }

    fn ordered(letters: &[Letter]) -> Vec<(i32, i64)> {
        let mut places = Places::default();
        for letter in letters {
            let entry = Entry {
                origin: letter.origin,
                ..Entry::default()
            };
            let (partition, offset) = letter.place;
            let key = letter.key.map(str::as_bytes);
            places.push((0, partition, offset), &entry, key, letter.time);
        }
        let ordered = places.in_order();
        ordered.iter().map(|p| (p.partition, p.offset)).collect()
    }

    #[test]
    fn the_letters_of_a_key_are_in_the_order_of_its_partition_whatever_their_times() {
        let letters = [
            letter((0, 0), "k", 10),
            letter((0, 7), "k", 20),
            letter((0, 5), "k", 30),
        ];
        assert_eq!(ordered(&letters), [(0, 0), (0, 5), (0, 7)]);
    }

    #[test]
    fn an_event_that_is_dead_again_keeps_its_place_before_a_letter_that_was_left() {
        let again = Letter {
            origin: Some((0, 2)),
            ..letter((0, 9), "k", 10)
        };
        let letters = [letter((0, 5), "k", 20), letter((0, 7), "k", 30), again];
        assert_eq!(ordered(&letters), [(0, 9), (0, 5), (0, 7)]);
    }

    #[test]
    fn partitions_are_read_one_after_the_other() {
        let letters = [
            letter((0, 0), "a", 9),
            letter((1, 3), "b", 1),
            letter((1, 4), "c", 0),
        ];
        assert_eq!(ordered(&letters), [(0, 0), (1, 3), (1, 4)]);
    }

    #[test]
    fn the_letters_of_a_key_that_has_moved_to_an_added_partition_go_by_time() {
        let again = Letter {
            origin: Some((3, 0)),
            ..letter((0, 3), "k", 10)
        };
        let letters = [
            letter((0, 0), "k", 40),
            letter((0, 1), "other", 90),
            letter((0, 2), "k", 50),
            again,
            letter((3, 1), "k", 20),
            // The server's clock was put back.
            letter((3, 2), "k", 15),
        ];
        let order = [(0, 1), (0, 3), (3, 1), (3, 2), (0, 0), (0, 2)];
        assert_eq!(ordered(&letters), order);
    }

    /// Letters of one key: place, position and time.
    fn order_of(letters: [((i32, i64), &str, i64); 3]) -> Vec<(i32, i64)> {
        let mut places = Places::default();
        for (place, position, time) in letters {
            let entry = Entry {
                position,
                ..Entry::default()
            };
            places.push((0, place.0, place.1), &entry, Some(b"k"), time);
        }
        let ordered = places.in_order();
        ordered.iter().map(|p| (p.partition, p.offset)).collect()
    }

    #[test]
    fn a_transaction_whose_letters_went_to_two_partitions_goes_by_position() {
        let order = order_of([
            ((0, 0), "0/10:1", 5),
            ((0, 1), "0/10:3", 5),
            ((1, 0), "0/10:2", 5),
        ]);
        assert_eq!(order, [(0, 0), (1, 0), (0, 1)]);
    }

    #[test]
    fn positions_tell_the_order_where_a_server_with_a_slower_clock_was_promoted() {
        let promoted = [
            ((0, 0), "0/10:0", 50),
            ((1, 0), "0/20:0", 40),
            ((0, 1), "0/30:0", 60),
        ];
        assert_eq!(order_of(promoted), [(0, 0), (1, 0), (0, 1)]);
        // A feed's positions are its own, and a restored server uses positions again.
        let fed = [
            ((0, 0), "0/0:5", 50),
            ((1, 0), "0/20:0", 40),
            ((0, 1), "0/30:0", 60),
        ];
        assert_eq!(order_of(fed), [(1, 0), (0, 0), (0, 1)]);
        let restored = [
            ((0, 0), "0/50:0", 50),
            ((0, 1), "0/30:0", 60),
            ((1, 0), "0/40:0", 40),
        ];
        assert_eq!(order_of(restored), [(1, 0), (0, 0), (0, 1)]);
        let from_a_backup = [
            ((0, 0), "5/50:0", 50),
            ((0, 1), "5/60:0", 60),
            ((1, 0), "0/30:0", 3_600_000),
        ];
        assert_eq!(order_of(from_a_backup), [(0, 0), (0, 1), (1, 0)]);
    }

    #[test]
    fn letters_without_a_key_have_no_order_between_partitions() {
        let keyless = |place, time| Letter {
            key: None,
            ..letter(place, "", time)
        };
        let letters = [keyless((0, 1), 9), keyless((1, 0), 1)];
        assert_eq!(ordered(&letters), [(0, 1), (1, 0)]);
    }
}

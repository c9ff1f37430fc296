#![allow(clippy::unwrap_used)]
use super::super::content::{Content, Dated};
use super::*;

const TOPIC: &str = "transfers.settled";
const DEAD: &str = "outbox.dead-letter";

fn content(value: &str) -> Content {
    let headers = std::iter::once(("eventId", Some(&b"e"[..])));
    Content::of(Some(b"k"), Some(value.as_bytes()), headers)
}

fn row(state: State) -> Row {
    Row {
        table: 0,
        id: "e".into(),
        event_type: "t".into(),
        state,
        at_ms: Some(500),
        mapped: Mapped::Event {
            topic: TOPIC.into(),
            content: content("v"),
            dated: Dated::Itself,
        },
    }
}

fn event(offset: i64) -> Sighting {
    Sighting {
        id: "e".into(),
        event_type: "t".into(),
        topic: TOPIC.into(),
        partition: 0,
        offset,
        position: "0/10:0".into(),
        at_ms: 500,
        occurred_ms: 500,
        replay: None,
        what: What::Event,
        content: Some(content("v")),
        whole: None,
        is_dated_by_record: true,
    }
}

fn letter(offset: i64, outcome: Outcome) -> Sighting {
    Sighting {
        topic: DEAD.into(),
        what: What::Letter {
            to: TOPIC.into(),
            outcome,
        },
        ..event(offset)
    }
}

fn replayed(request: &str, sighting: Sighting) -> Sighting {
    Sighting {
        replay: Some(request.into()),
        ..sighting
    }
}

fn facts() -> Facts {
    Facts {
        tables: vec![Table {
            name: "public.outbox".into(),
            dead_letter_topic: DEAD.into(),
            write_back: WriteBack::All,
        }],
        now_ms: 1_000,
        settled: true,
        ..Facts::default()
    }
}

fn judge_by(facts: &Facts, rows: Vec<Row>, sightings: Vec<Sighting>) -> Judged {
    Case { rows, sightings }.judge(facts)
}

fn kinds(judged: &Judged) -> Vec<Kind> {
    let doubtful = judged.doubtful.iter().map(|(_, finding)| finding.kind);
    let findings = judged.findings.iter().map(|finding| finding.kind);
    findings.chain(doubtful).collect()
}

#[track_caller]
fn check(state: State, sightings: Vec<Sighting>, expected: &[Kind]) {
    let judged = judge_by(&facts(), vec![row(state)], sightings);
    assert_eq!(kinds(&judged), expected, "{judged:?}");
}

#[test]
fn an_event_that_stands_once_where_it_belongs_is_right() {
    check(State::Sent, vec![event(1)], &[]);
    check(State::Failed, vec![letter(1, Outcome::Open)], &[]);
    check(State::Failed, vec![letter(1, Outcome::Dropped)], &[]);
    check(
        State::Sent,
        vec![letter(1, Outcome::Replayed), event(7)],
        &[],
    );
}

#[test]
fn an_event_that_is_nowhere_is_missing() {
    check(State::Sent, vec![], &[Kind::Missing]);
    check(State::Pending, vec![], &[Kind::Missing]);
    check(State::Failed, vec![], &[Kind::Missing]);
    // Its dead letter is resolved, and it is nowhere else.
    check(
        State::Sent,
        vec![letter(1, Outcome::Replayed)],
        &[Kind::Missing],
    );
}

#[test]
fn what_the_relay_may_not_have_come_to_is_not_missing() {
    let behind = Facts {
        settled: false,
        ..facts()
    };
    let waits = judge_by(&behind, vec![row(State::Pending)], vec![]);
    assert_eq!((kinds(&waits), waits.passed_over.waiting), (vec![], 1));
    let told = judge_by(&behind, vec![row(State::Sent)], vec![]);
    assert_eq!(kinds(&told), [Kind::Missing]);
    let written_later = judge_by(&behind, vec![row(State::Pending)], vec![event(1)]);
    assert_eq!(kinds(&written_later), []);
}

#[test]
fn what_a_topic_need_not_keep_is_not_missing() {
    let settings = [("retention.ms".to_owned(), "100".to_owned())];
    let keeping = Keeping::of(&settings.into());
    let short = Facts {
        keeping: [(TOPIC.to_owned(), keeping)].into(),
        ..facts()
    };
    let judged = judge_by(&short, vec![row(State::Sent)], vec![]);
    assert_eq!((kinds(&judged), judged.passed_over.expired), (vec![], 1));
    let young = Row {
        at_ms: Some(950),
        ..row(State::Sent)
    };
    assert_eq!(
        kinds(&judge_by(&short, vec![young], vec![])),
        [Kind::Missing]
    );
    let resolved = vec![letter(1, Outcome::Replayed)];
    assert_eq!(
        kinds(&judge_by(&short, vec![], resolved)),
        [Kind::WithoutRow]
    );
    // The topic of dead letters keeps them.
    let dead = judge_by(&short, vec![row(State::Failed)], vec![]);
    assert_eq!(kinds(&dead), [Kind::Missing]);
}

#[test]
fn more_records_than_are_accounted_for_are_doubled() {
    check(State::Sent, vec![event(1), event(2)], &[Kind::Doubled]);
    check(
        State::Sent,
        vec![letter(1, Outcome::Open), event(2)],
        &[Kind::Doubled],
    );
    let relapsed = vec![letter(1, Outcome::Replayed), letter(2, Outcome::Open)];
    check(State::Failed, relapsed, &[]);
    let twice = vec![letter(1, Outcome::Open), letter(2, Outcome::Open)];
    check(State::Failed, twice, &[Kind::Doubled]);
}

#[test]
fn a_request_accounts_for_one_record() {
    let once = vec![event(1), replayed("r", event(2)), replayed("s", event(3))];
    let judged = judge_by(&facts(), vec![row(State::Sent)], once);
    assert_eq!((kinds(&judged), judged.passed_over.replayed), (vec![], 2));
    let twice = vec![event(1), replayed("r", event(2)), replayed("r", event(3))];
    check(State::Sent, twice, &[Kind::Doubled]);
    // Dead at first, published on request; the letter stays open.
    let repaired = vec![letter(1, Outcome::Open), replayed("r", event(2))];
    check(State::Sent, repaired, &[]);
}

#[test]
fn what_is_not_what_the_row_becomes_is_altered() {
    let other = |change: fn(&mut Sighting)| {
        let mut sighting = event(1);
        change(&mut sighting);
        let judged = judge_by(&facts(), vec![row(State::Sent)], vec![sighting]);
        assert_eq!(kinds(&judged), [Kind::Altered]);
        judged.findings[0].detail.clone()
    };
    let value = other(|s| s.content = Some(content("w")));
    assert_eq!(value, "not what its row becomes: value");
    let topic = other(|s| s.topic = "ledger.posted".into());
    assert_eq!(topic, "not what its row becomes: topic");
    let position = other(|s| s.position = String::new());
    assert_eq!(position, "not what its row becomes: position");
}

#[test]
fn the_time_of_the_commit_stands_in_both() {
    let undated = || Row {
        mapped: Mapped::Event {
            topic: TOPIC.into(),
            content: content("v"),
            dated: Dated::ByCommit,
        },
        ..row(State::Sent)
    };
    assert_eq!(
        kinds(&judge_by(&facts(), vec![undated()], vec![event(1)])),
        []
    );
    let wrong = Sighting {
        is_dated_by_record: false,
        ..event(1)
    };
    let judged = judge_by(&facts(), vec![undated()], vec![wrong]);
    assert_eq!(kinds(&judged), [Kind::Altered]);
}

#[test]
fn a_row_that_can_not_be_published_is_compared_with_nothing() {
    let unmappable = || Row {
        mapped: Mapped::Nothing("event_type: NULL".into()),
        ..row(State::Failed)
    };
    let described = Sighting {
        content: None,
        ..letter(1, Outcome::Open)
    };
    assert_eq!(
        kinds(&judge_by(&facts(), vec![unmappable()], vec![described])),
        []
    );
    let judged = judge_by(&facts(), vec![unmappable()], vec![event(1)]);
    assert_eq!(kinds(&judged), [Kind::Altered, Kind::State]);
}

#[test]
fn a_state_says_what_the_topics_say() {
    check(State::Pending, vec![event(1)], &[Kind::State]);
    check(State::Failed, vec![event(1)], &[Kind::State]);
    check(State::Sent, vec![letter(1, Outcome::Open)], &[Kind::State]);
    check(State::Untold, vec![event(1)], &[]);
    let of = |write_back, state, sighting| {
        let mut facts = facts();
        facts.tables[0].write_back = write_back;
        kinds(&judge_by(&facts, vec![row(state)], vec![sighting]))
    };
    let failures = WriteBack::Failures;
    assert_eq!(of(failures, State::Pending, event(1)), []);
    assert_eq!(of(failures, State::Failed, event(1)), [Kind::State]);
    assert_eq!(
        of(failures, State::Pending, letter(1, Outcome::Open)),
        [Kind::State]
    );
    assert_eq!(of(WriteBack::Off, State::Failed, event(1)), []);
}

#[test]
fn events_without_a_row_are_listed_unless_retention_explains_them() {
    let judged = judge_by(&facts(), vec![], vec![event(1)]);
    assert_eq!(kinds(&judged), [Kind::WithoutRow]);
    let pruned = Facts {
        pruned_before_ms: Some(501),
        ..facts()
    };
    let judged = judge_by(&pruned, vec![], vec![event(1)]);
    assert_eq!((kinds(&judged), judged.passed_over.pruned), (vec![], 1));
    let doubled = judge_by(&pruned, vec![], vec![event(1), event(2)]);
    assert_eq!(kinds(&doubled), [Kind::Doubled]);
}

#[test]
fn what_is_published_while_the_topics_are_read_is_no_finding() {
    let moving = Facts {
        letters: Letters::Moving,
        ..facts()
    };
    let late = vec![letter(1, Outcome::Replayed)];
    let judged = judge_by(&moving, vec![row(State::Sent)], late);
    assert_eq!((kinds(&judged), judged.passed_over.waiting), (vec![], 1));
    // Without a dead letter nothing can have moved.
    let twice = judge_by(&moving, vec![row(State::Sent)], vec![event(1), event(2)]);
    assert_eq!(kinds(&twice), [Kind::Doubled]);
}

#[test]
fn a_header_that_names_no_request_is_the_rows_own() {
    let requests = std::collections::HashSet::from(["r".to_owned()]);
    let with_header = || Sighting {
        whole: Some(content("w")),
        ..replayed("s", event(1))
    };
    let (mut own, mut asked) = (with_header(), replayed("r", with_header()));
    own.require_request(&requests);
    asked.require_request(&requests);
    assert_eq!((own.replay, own.content), (None, Some(content("w"))));
    assert_eq!(
        (asked.replay, asked.content),
        (Some("r".into()), Some(content("v")))
    );
}

#[test]
fn events_of_others_are_only_counted() {
    let shared = Facts {
        publishers: Publishers::Others,
        ..facts()
    };
    let judged = judge_by(&shared, vec![], vec![event(1), event(2)]);
    assert_eq!((kinds(&judged), judged.passed_over.of_others), (vec![], 1));
    let ours = judge_by(&shared, vec![row(State::Sent)], vec![event(1), event(2)]);
    assert_eq!(kinds(&ours), [Kind::Doubled]);
}

#[test]
fn rows_of_two_tables_may_have_one_id() {
    let other = Row {
        table: 1,
        ..row(State::Sent)
    };
    let rows = vec![row(State::Sent), other];
    assert_eq!(
        kinds(&judge_by(&facts(), rows, vec![event(1), event(2)])),
        []
    );
}

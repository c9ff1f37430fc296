use super::*;

const EVENTS: Purpose = Purpose::Events {
    max_bytes: 1_000_000,
};

fn replicated(replicas: usize) -> Topic {
    Topic {
        partitions: 2,
        replicas,
        in_sync: replicas,
        leaderless: 0,
    }
}

fn settings(changes: &[(&str, &str)]) -> Settings {
    let defaults = [
        ("cleanup.policy", "delete"),
        ("min.insync.replicas", "2"),
        ("unclean.leader.election.enable", "false"),
        ("max.message.bytes", "1048588"),
    ];
    let all = defaults.iter().chain(changes);
    all.map(|(n, v)| ((*n).into(), (*v).into())).collect()
}

fn verdict(topic: Topic, changes: &[(&str, &str)], purpose: Purpose) -> (Verdict, String) {
    let check = examine("t", "t", topic, Some(&settings(changes)), purpose);
    assert_eq!(check.fix.is_some(), check.verdict != Verdict::Ok);
    (check.verdict, check.detail)
}

#[test]
fn a_safe_topic_passes() {
    let compact = [("cleanup.policy", "compact")];
    assert_eq!(verdict(replicated(3), &[], EVENTS).0, Verdict::Ok);
    assert_eq!(
        verdict(replicated(3), &compact, Purpose::Checkpoints).0,
        Verdict::Ok
    );
}

#[test]
fn what_puts_events_at_risk_is_a_warning() {
    let check = |topic, changes: &[(&str, &str)], part: &str| {
        let (verdict, detail) = verdict(topic, changes, EVENTS);
        assert_eq!(verdict, Verdict::Warn, "{detail}");
        assert!(detail.contains(part), "{detail}");
    };
    let three = replicated(3);
    check(
        replicated(1),
        &[("min.insync.replicas", "1")],
        "one replica",
    );
    check(three, &[("min.insync.replicas", "1")], "one broker only");
    check(three, &[("min.insync.replicas", "3")], "one broker down");
    check(
        three,
        &[("unclean.leader.election.enable", "true")],
        "out-of-sync",
    );
    check(three, &[("cleanup.policy", "compact,delete")], "compacted");
    check(three, &[("max.message.bytes", "1000")], "event.max_bytes");
}

#[test]
fn what_stops_events_is_a_failure() {
    let check = |topic, changes: &[(&str, &str)], purpose, part: &str| {
        let (verdict, detail) = verdict(topic, changes, purpose);
        assert_eq!(verdict, Verdict::Fail, "{detail}");
        assert!(detail.contains(part), "{detail}");
    };
    let compact = [("cleanup.policy", "compact")];
    check(replicated(3), &[], Purpose::Checkpoints, "cleanup.policy");
    let one = Topic {
        partitions: 1,
        ..replicated(3)
    };
    check(one, &compact, Purpose::Checkpoints, "1 partitions");
    let behind = Topic {
        in_sync: 1,
        ..replicated(3)
    };
    check(behind, &[], EVENTS, "nothing can be written");
    let leaderless = Topic {
        leaderless: 1,
        ..replicated(3)
    };
    check(leaderless, &[], EVENTS, "no leader");
}

#[test]
fn settings_that_can_not_be_read_are_a_warning() {
    let check = examine("t", "t", replicated(3), None, EVENTS);
    assert_eq!(check.verdict, Verdict::Warn);
    assert!(
        check
            .fix
            .is_some_and(|fix| fix.contains("DESCRIBE_CONFIGS"))
    );
}

#[test]
fn a_missing_topic_is_told_as_run_tells_it_with_the_command_that_makes_it() {
    let check = missing("event-topic", "ledger.posted", EVENTS);
    assert_eq!(
        (check.verdict, check.code),
        (Verdict::Fail, Some("topic-missing"))
    );
    assert!(
        check
            .fix
            .is_some_and(|fix| fix.contains("--topic ledger.posted"))
    );
}

#[test]
fn templates_that_name_no_topic_are_said_to_be_unknown() {
    let check = |none_exists, expected| {
        let check = unknown_topics(&Pipeline::default(), none_exists);
        assert_eq!(check.map(|c| c.verdict), Some(expected));
    };
    check(true, Verdict::Warn);
    check(false, Verdict::Ok);
    let mut literal = Pipeline::default();
    for table in &mut literal.tables {
        table.topic = "ledger.all".parse().expect("a template");
    }
    assert_eq!(unknown_topics(&literal, true), None);
}

use envelope::{ColumnMap, OptionalColumn};

use super::super::facts::{Published, TableFacts};
use super::*;

fn roles() -> Roles {
    Roles {
        relay: "outboxd".into(),
        writer: None,
        service: None,
    }
}

/// A database with everything that the default pipeline needs.
fn complete() -> DatabaseFacts {
    let role = RoleFacts {
        is_superuser: false,
        streams: true,
        connects: true,
        tables: vec![Rights::ALL],
    };
    DatabaseFacts {
        wal_level: Some("logical".into()),
        tables: vec![TableFacts {
            schema_exists: true,
            table: Some(Existing {
                is_partitioned: false,
                is_published: true,
                columns: DEFAULT_COLUMNS.map(|(name, _)| name.to_owned()).into(),
                sequence: Some(("public".into(), "outbox_seq_seq".into())),
                has_emit: true,
                takes_emitted: true,
            }),
        }],
        publication: Some(Published {
            operations: "insert".into(),
            inserts: true,
            via_root: true,
            all_tables: false,
        }),
        relay: Some(role.clone()),
        writer: None,
        service: Some(role),
        has_slot: true,
    }
}

/// The steps as `verb object`.
fn steps(pipeline: &Pipeline, facts: &DatabaseFacts) -> Vec<String> {
    let plan = database(pipeline, &roles(), facts);
    let step = |step: &Step| format!("{} {}", step.verb.imperative(), step.object);
    plan.steps.iter().map(step).collect()
}

fn existing(facts: &mut DatabaseFacts, change: impl FnOnce(&mut Existing)) {
    if let Some(table) = facts.tables.first_mut().and_then(|t| t.table.as_mut()) {
        change(table);
    }
}

#[test]
fn a_complete_database_needs_nothing() {
    let plan = database(&Pipeline::default(), &roles(), &complete());
    assert_eq!((plan.steps, plan.problems), (vec![], vec![]));
}

#[test]
fn an_unknown_database_needs_everything_in_order() {
    let expected = [
        "create role \"outboxd\" (give it a password, or a line in pg_hba.conf)",
        "create table public.outbox",
        "create function public.outbox_emit",
        "create publication \"outboxd\"",
        "grant USAGE on schema public to \"outboxd\"",
        "grant SELECT on sequence public.outbox_seq_seq to \"outboxd\"",
        "grant SELECT (id, state) and UPDATE (state, attempts, last_error) on table public.outbox to \"outboxd\"",
    ];
    assert_eq!(
        steps(&Pipeline::default(), &DatabaseFacts::default()),
        expected
    );
}

#[test]
fn a_role_for_write_back_has_those_rights_in_the_relays_place() {
    let roles = Roles {
        writer: Some("writer".into()),
        ..roles()
    };
    let mut pipeline = Pipeline::default();
    pipeline.retention.period = Some(std::time::Duration::from_secs(3600));
    let plan = database(&pipeline, &roles, &DatabaseFacts::default());
    let granted = |role: &str| -> Vec<String> {
        let objects = plan.steps.iter().map(|step| step.object.as_str());
        let to = format!(" to {role:?}");
        let granted = objects.filter_map(|object| object.strip_suffix(&to));
        granted.map(str::to_owned).collect()
    };
    let of_relay = [
        "USAGE on schema public",
        "SELECT on sequence public.outbox_seq_seq",
    ];
    assert_eq!(granted("outboxd"), of_relay);
    let of_writer = [
        "USAGE on schema public",
        "SELECT (id, state) and UPDATE (state, attempts, last_error) on table public.outbox",
        "SELECT and DELETE on table public.outbox",
    ];
    assert_eq!(granted("writer"), of_writer);

    let mut facts = complete();
    facts.writer = facts.relay.clone();
    let plan = database(&Pipeline::default(), &roles, &facts);
    assert_eq!(plan.steps, []);
}

#[test]
fn one_thing_that_is_missing_is_one_step() {
    let check = |change: &dyn Fn(&mut DatabaseFacts), expected: &str| {
        let mut facts = complete();
        change(&mut facts);
        assert_eq!(steps(&Pipeline::default(), &facts), [expected]);
    };
    check(&|f| f.publication = None, "create publication \"outboxd\"");
    check(
        &|f| existing(f, |t| t.is_published = false),
        "alter publication \"outboxd\": add public.outbox",
    );
    check(
        &|f| existing(f, |t| t.has_emit = false),
        "create function public.outbox_emit",
    );
    check(
        &|f| {
            f.publication = Some(Published {
                operations: "update, delete".into(),
                inserts: false,
                via_root: true,
                all_tables: false,
            });
        },
        "alter publication \"outboxd\": publish inserts",
    );
    check(
        &|f| {
            existing(f, |t| t.is_partitioned = true);
            f.publication = f.publication.take().map(|p| Published {
                via_root: false,
                ..p
            });
        },
        "alter publication \"outboxd\": publish through the root",
    );
    check(
        &|f| {
            f.relay = f.relay.take().map(|r| RoleFacts {
                streams: false,
                ..r
            })
        },
        "alter role \"outboxd\": REPLICATION",
    );
    check(
        &|f| {
            f.relay = f.relay.take().map(|r| RoleFacts {
                connects: false,
                ..r
            })
        },
        "grant CONNECT on database \"outboxd\" to \"outboxd\"",
    );
}

#[test]
fn a_table_of_another_shape_gets_no_function() {
    let mut facts = complete();
    existing(&mut facts, |t| {
        (t.has_emit, t.takes_emitted) = (false, false)
    });
    assert_eq!(steps(&Pipeline::default(), &facts), [""; 0]);
}

#[test]
fn a_publication_keeps_what_it_publishes() {
    let mut facts = complete();
    facts.publication = Some(Published {
        operations: "update, delete".into(),
        inserts: false,
        via_root: true,
        all_tables: true,
    });
    let plan = database(&Pipeline::default(), &roles(), &facts);
    let statements: Vec<_> = plan.steps.into_iter().map(|step| step.action).collect();
    let expected = "ALTER PUBLICATION outboxd SET (publish = 'insert, update, delete');";
    assert_eq!(statements, [Action::Sql(expected.into())]);
}

#[test]
fn a_low_wal_level_is_a_problem_with_its_remedy() {
    let facts = DatabaseFacts {
        wal_level: Some("replica".into()),
        ..complete()
    };
    let plan = database(&Pipeline::default(), &roles(), &facts);
    let problem = plan.problems.first().expect("a problem");
    assert_eq!(problem.code, Some("wal-level"));
    assert!(problem.remedy.contains("ALTER SYSTEM"), "{problem:?}");
}

#[test]
fn a_missing_table_of_another_shape_is_not_made() {
    let check = |columns: ColumnMap, made: bool| {
        let table = TableSpec {
            columns,
            ..TableSpec::default()
        };
        let pipeline = Pipeline {
            tables: vec![table],
            ..Pipeline::default()
        };
        let plan = database(&pipeline, &roles(), &DatabaseFacts::default());
        let creates = |s: &Step| s.object == "table public.outbox";
        assert_eq!(plan.steps.iter().any(creates), made);
        assert_eq!(plan.problems.is_empty(), made);
    };
    let default = ColumnMap::default;
    check(default(), true);
    check(
        ColumnMap {
            transfer_id: OptionalColumn::Unmapped,
            ..default()
        },
        true,
    );
    check(
        ColumnMap {
            id: "event_id".into(),
            ..default()
        },
        false,
    );
    check(
        ColumnMap {
            headers: OptionalColumn::Mapped("meta".into()),
            ..default()
        },
        false,
    );
}

#[test]
fn a_topic_outside_the_policy_does_not_keep_the_table_from_being_made() {
    let mut pipeline = Pipeline::default();
    for table in &mut pipeline.tables {
        table.topic = "elsewhere".parse().expect("a template");
    }
    let steps = steps(&pipeline, &DatabaseFacts::default());
    assert!(steps.contains(&"create table public.outbox".to_owned()));
}

#[test]
fn the_default_shape_is_that_of_the_file() {
    let statement = sql::create_table(&TableSpec::default());
    let type_name = |type_oid| match type_oid {
        oid::UUID => "uuid",
        oid::INT8 => "bigint",
        oid::INT4 => "integer",
        oid::JSONB => "jsonb",
        oid::TIMESTAMPTZ => "timestamptz",
        _ => "text",
    };
    let mut columns = statement.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.next()?.trim_end_matches(',')))
    });
    assert_eq!(columns.next(), Some(("CREATE", "TABLE")));
    let columns: Vec<_> = columns
        .filter(|(name, _)| !["CHECK", ")"].contains(name))
        .collect();
    let expected = DEFAULT_COLUMNS.map(|(name, type_oid)| (name, type_name(type_oid)));
    assert_eq!(columns, expected);
}

#[test]
fn a_superuser_needs_no_grants() {
    let facts = DatabaseFacts {
        tables: Vec::new(),
        relay: complete().relay.map(|role| RoleFacts {
            is_superuser: true,
            tables: Vec::new(),
            ..role
        }),
        ..complete()
    };
    let steps = steps(&Pipeline::default(), &facts);
    assert!(!steps.iter().any(|s| s.starts_with("grant")), "{steps:?}");
}

/// The steps for a role that lacks the rights on rows.
fn row_steps(pipeline: &Pipeline, columns: &[&str]) -> Vec<String> {
    let mut facts = complete();
    existing(&mut facts, |t| {
        t.columns = columns.iter().map(|c| (*c).to_owned()).collect()
    });
    for rights in facts.relay.iter_mut().flat_map(|r| &mut r.tables) {
        (rights.writes_state, rights.prunes) = (false, false);
    }
    steps(pipeline, &facts)
}

#[test]
fn rights_on_rows_are_those_that_are_needed() {
    let of = |change: &dyn Fn(&mut Pipeline)| {
        let mut pipeline = Pipeline::default();
        change(&mut pipeline);
        row_steps(&pipeline, &["id", "state", "attempts"])
    };
    let state = "grant SELECT (id, state) and UPDATE (state, attempts) on table public.outbox to \"outboxd\"";
    let prune = "grant SELECT and DELETE on table public.outbox to \"outboxd\"";
    assert_eq!(of(&|_| ()), [state]);
    let week = std::time::Duration::from_secs(604_800);
    assert_eq!(of(&|p| p.retention.period = Some(week)), [state, prune]);
    let off = |p: &mut Pipeline| p.states.iter_mut().for_each(|s| s.mode = WriteBack::Off);
    assert_eq!(of(&off), [""; 0]);
}

#[test]
fn a_table_without_state_is_a_problem_unless_nothing_is_written_back() {
    let mut pipeline = Pipeline::default();
    let mut facts = complete();
    existing(&mut facts, |t| t.columns = vec!["id".into()]);
    let plan = database(&pipeline, &roles(), &facts);
    let problem = plan.problems.first().expect("a problem");
    assert_eq!(problem.code, Some("write-back-columns"));
    for state in &mut pipeline.states {
        state.mode = WriteBack::Off;
    }
    assert!(database(&pipeline, &roles(), &facts).problems.is_empty());
}

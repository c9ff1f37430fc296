//! What is missing in the database, and how it is made.

use std::collections::BTreeSet;

use envelope::{CompileError, OptionalColumn, RowMapper, TableId, TableSpec, TopicPolicy};
use pgoutput::{Column, Relation, oid};

use super::facts::{DatabaseFacts, Existing, Rights, RoleFacts, Roles, state_columns};
use super::sql;
use super::topics::TopicPlan;
use crate::cli::database::quote;
use crate::cli::problem::Problem;
use crate::config::{Pipeline, StateSpec, WriteBack};
use crate::failure::Failure;

/// One thing that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// What is done and to what, such as `create` and `table public.outbox`.
    pub verb: Verb,
    pub object: String,
    pub action: Action,
}

/// How it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// By a statement.
    Sql(String),
    /// By the brokers.
    Topic(TopicPlan),
    /// By the relay's own start: the slot and its first records belong together.
    Slot,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Alter,
    Grant,
}

impl Verb {
    pub fn imperative(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Alter => "alter",
            Self::Grant => "grant",
        }
    }

    pub fn past(self) -> &'static str {
        match self {
            Self::Create => "created",
            Self::Alter => "altered",
            Self::Grant => "granted",
        }
    }
}

/// Steps in the order in which they must be taken, and what they can't repair.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub steps: Vec<Step>,
    pub problems: Vec<Problem>,
}

impl Plan {
    fn sql(&mut self, verb: Verb, object: impl Into<String>, statement: String) {
        self.steps.push(Step {
            verb,
            object: object.into(),
            action: Action::Sql(statement),
        });
    }
}

/// Everything that the database lacks, except the slot.
pub(super) fn database(pipeline: &Pipeline, roles: &Roles, facts: &DatabaseFacts) -> Plan {
    let mut plan = Plan::default();
    check_wal_level(facts, &mut plan);
    relay_role(&roles.relay, facts.relay.as_ref(), &mut plan);
    if let (Some(role), None) = (&roles.writer, &facts.writer) {
        plan.sql(
            Verb::Create,
            format!("role {role:?} (give it a password, or a line in pg_hba.conf)"),
            sql::create_write_back_role(role),
        );
    }
    tables(pipeline, facts, &mut plan);
    publication(pipeline, facts, &mut plan);
    let relay = (roles.relay.as_str(), facts.relay.as_ref());
    relay_rights(pipeline, relay, facts, &mut plan);
    let writer = match &roles.writer {
        Some(role) => {
            let writer = (role.as_str(), facts.writer.as_ref());
            session_rights(pipeline, writer, &mut plan);
            writer
        }
        None => relay,
    };
    for outbox in pipeline.outboxes() {
        row_rights(pipeline, writer, outbox, facts, &mut plan);
    }
    if let Some(service) = &roles.service {
        service_rights(pipeline, service, facts, &mut plan);
    }
    plan
}

fn check_wal_level(facts: &DatabaseFacts, plan: &mut Plan) {
    match facts.wal_level.as_deref() {
        None | Some("logical") => {}
        Some(level) => {
            let message = format!("the server's wal_level is {level:?}");
            plan.problems
                .push(Failure::new("wal-level", message).into());
        }
    }
}

fn relay_role(role: &str, facts: Option<&RoleFacts>, plan: &mut Plan) {
    match facts {
        None => plan.sql(
            Verb::Create,
            format!("role {role:?} (give it a password, or a line in pg_hba.conf)"),
            sql::create_relay_role(role),
        ),
        Some(facts) if !facts.streams => plan.sql(
            Verb::Alter,
            format!("role {role:?}: REPLICATION"),
            sql::allow_replication(role),
        ),
        Some(_) => {}
    }
}

fn tables(pipeline: &Pipeline, facts: &DatabaseFacts, plan: &mut Plan) {
    let mut schemas = BTreeSet::new();
    for (id, spec, state) in pipeline.outboxes() {
        let table = facts.tables.get(usize::from(id.0));
        if let Some(existing) = table.and_then(|t| t.table.as_ref()) {
            if lacks_emit(existing) && fits_default_shape(spec, state).is_ok() {
                emit(spec, plan);
            }
            continue;
        }
        if let Err(problem) = fits_default_shape(spec, state) {
            plan.problems.push(problem);
            continue;
        }
        let exists = spec.schema == "public" || table.is_some_and(|t| t.schema_exists);
        if !exists && schemas.insert(&spec.schema) {
            let statement = format!("CREATE SCHEMA {};", quote(&spec.schema));
            plan.sql(Verb::Create, format!("schema {}", spec.schema), statement);
        }
        plan.sql(
            Verb::Create,
            format!("table {}", shown(spec)),
            sql::create_table(spec),
        );
        emit(spec, plan);
    }
}

/// Tables that were made by hand, or before there was such a function.
fn lacks_emit(existing: &Existing) -> bool {
    existing.takes_emitted && !existing.has_emit
}

fn emit(spec: &TableSpec, plan: &mut Plan) {
    plan.sql(
        Verb::Create,
        format!("function {}", sql::emit_of(spec)),
        sql::create_emit(spec),
    );
}

fn shown(spec: &TableSpec) -> String {
    format!("{}.{}", spec.schema, spec.table)
}

/// A missing table can be made only if its mapping fits the default table.
fn fits_default_shape(spec: &TableSpec, state: &StateSpec) -> Result<(), Problem> {
    let columns = DEFAULT_COLUMNS.map(|(name, type_oid)| Column {
        flags: 0,
        name: name.to_owned(),
        type_oid,
        type_modifier: -1,
    });
    let relation = Relation {
        oid: 0,
        namespace: spec.schema.clone(),
        name: spec.table.clone(),
        replica_identity: b'd',
        columns: columns.into(),
    };
    match RowMapper::compile(spec, TableId(0), &TopicPolicy::default(), &relation) {
        // Where its events may go is not a matter of the table.
        Ok(_) | Err(CompileError::TopicRefused { .. }) if has_state(state) => Ok(()),
        Ok(_) | Err(_) => Err(Problem {
            code: Some("table-missing"),
            message: format!("table {} does not exist", shown(spec)),
            remedy: "Create it with the columns that the configuration maps: it maps others than \
                     those of the default table, so init can't know its shape. Or correct schema \
                     and table in the configuration."
                .to_owned(),
        }),
    }
}

/// Whether write-back finds its columns in the default table.
fn has_state(state: &StateSpec) -> bool {
    let has = |name: &str| DEFAULT_COLUMNS.iter().any(|(column, _)| *column == name);
    let mapped = |column: &OptionalColumn| match column {
        OptionalColumn::Unmapped | OptionalColumn::IfPresent(_) => true,
        OptionalColumn::Mapped(name) => has(name),
    };
    state.mode == WriteBack::Off
        || has(&state.state) && mapped(&state.attempts) && mapped(&state.last_error)
}

/// The columns of `sql/outbox.sql` that can be mapped.
const DEFAULT_COLUMNS: [(&str, u32); 10] = [
    ("id", oid::UUID),
    ("seq", oid::INT8),
    ("event_type", oid::TEXT),
    ("transfer_id", oid::TEXT),
    ("payload", oid::JSONB),
    ("headers", oid::JSONB),
    ("state", oid::TEXT),
    ("created_at", oid::TIMESTAMPTZ),
    ("attempts", oid::INT4),
    ("last_error", oid::TEXT),
];

fn publication(pipeline: &Pipeline, facts: &DatabaseFacts, plan: &mut Plan) {
    let name = &pipeline.postgres.publication;
    let Some(published) = &facts.publication else {
        let statement = sql::create_publication(name, pipeline.tables.iter());
        return plan.sql(Verb::Create, format!("publication {name:?}"), statement);
    };
    let object = |what: &str| format!("publication {name:?}: {what}");
    if !published.inserts {
        let operations = match published.operations.as_str() {
            "" => "insert".to_owned(),
            others => format!("insert, {others}"),
        };
        let statement = sql::set_publication(name, &format!("publish = '{operations}'"));
        plan.sql(Verb::Alter, object("publish inserts"), statement);
    }
    let existing = |index: usize| facts.tables.get(index).and_then(|t| t.table.as_ref());
    for (index, spec) in pipeline.tables.iter().enumerate() {
        let covered = published.all_tables || existing(index).is_some_and(|t| t.is_published);
        if !covered {
            let statement = sql::add_table(name, spec);
            plan.sql(
                Verb::Alter,
                object(&format!("add {}", shown(spec))),
                statement,
            );
        }
    }
    let partitioned =
        (0..pipeline.tables.len()).any(|index| existing(index).is_some_and(|t| t.is_partitioned));
    if partitioned && !published.via_root {
        let statement = sql::set_publication(name, "publish_via_partition_root = true");
        plan.sql(Verb::Alter, object("publish through the root"), statement);
    }
}

/// A role and what it has.
type Holder<'a> = (&'a str, Option<&'a RoleFacts>);

/// What every session of a relay takes.
fn session_rights(pipeline: &Pipeline, (role, has): Holder<'_>, plan: &mut Plan) {
    if has.is_some_and(|r| !r.connects) {
        let database = &pipeline.postgres.database;
        plan.sql(
            Verb::Grant,
            format!("CONNECT on database {database:?} to {role:?}"),
            sql::grant_connect(role, database),
        );
    }
    schema_rights(pipeline, role, has, plan);
}

fn relay_rights(pipeline: &Pipeline, holder: Holder<'_>, facts: &DatabaseFacts, plan: &mut Plan) {
    session_rights(pipeline, holder, plan);
    let (role, relay) = holder;
    for (id, spec, state) in pipeline.outboxes() {
        let index = usize::from(id.0);
        if rights(relay, index).reads_sequence {
            continue;
        }
        let existing = facts.tables.get(index).and_then(|t| t.table.as_ref());
        let Some(sequence) = sequence(spec, state, existing) else {
            continue;
        };
        plan.sql(
            Verb::Grant,
            format!("SELECT on sequence {sequence} to {role:?}"),
            sql::grant_sequence(role, &sequence),
        );
    }
}

/// What write-back and retention take, where they are wanted.
fn row_rights(
    pipeline: &Pipeline,
    (role, holder): Holder<'_>,
    (id, spec, state): (TableId, &TableSpec, &StateSpec),
    facts: &DatabaseFacts,
    plan: &mut Plan,
) {
    let index = usize::from(id.0);
    let has = rights(holder, index);
    let existing = facts.tables.get(index).and_then(|t| t.table.as_ref());
    if existing.is_none() && fits_default_shape(spec, state).is_err() {
        return;
    }
    let table = shown(spec);
    let is_there = |name: &&str| existing.is_none_or(|t| t.columns.iter().any(|c| c == name));
    let is_written_back = pipeline.written_back().any(|(written, ..)| written == id);
    if is_written_back && !is_there(&state.state.as_str()) {
        let message = format!("table {table} has no column {:?}", state.state);
        let failure = Failure::new("write-back-columns", message);
        plan.problems.push(failure.into());
    } else if is_written_back && !has.writes_state {
        let (read, mut written) = state_columns(spec, state);
        written.retain(is_there);
        plan.sql(
            Verb::Grant,
            format!(
                "SELECT ({}) and UPDATE ({}) on table {table} to {role:?}",
                read.join(", "),
                written.join(", ")
            ),
            sql::grant_state(role, spec, &read, &written),
        );
    }
    if pipeline.retention.period.is_some() && !has.prunes {
        plan.sql(
            Verb::Grant,
            format!("SELECT and DELETE on table {table} to {role:?}"),
            sql::grant_prune(role, spec),
        );
    }
}

/// The sequence from which the backlog is counted, if there is one or will be.
fn sequence(spec: &TableSpec, state: &StateSpec, existing: Option<&Existing>) -> Option<String> {
    match existing {
        Some(table) => {
            let (schema, name) = table.sequence.as_ref()?;
            Some(sql::qualified(schema, name))
        }
        None => fits_default_shape(spec, state)
            .is_ok()
            .then(|| sql::sequence_of_new(spec)),
    }
}

fn service_rights(pipeline: &Pipeline, role: &str, facts: &DatabaseFacts, plan: &mut Plan) {
    let service = facts.service.as_ref();
    if facts.wal_level.is_some() && service.is_none() {
        plan.problems.push(Problem::new(
            format!("role {role:?} does not exist"),
            "Create the role of the service, or correct --service-role.",
        ));
        return;
    }
    schema_rights(pipeline, role, service, plan);
    for (index, spec) in pipeline.tables.iter().enumerate() {
        if !rights(service, index).inserts {
            plan.sql(
                Verb::Grant,
                format!("INSERT on table {} to {role:?}", shown(spec)),
                sql::grant_insert(role, spec),
            );
        }
    }
}

fn schema_rights(pipeline: &Pipeline, role: &str, facts: Option<&RoleFacts>, plan: &mut Plan) {
    let mut granted = BTreeSet::new();
    for (index, spec) in pipeline.tables.iter().enumerate() {
        if !rights(facts, index).uses_schema && granted.insert(&spec.schema) {
            plan.sql(
                Verb::Grant,
                format!("USAGE on schema {} to {role:?}", spec.schema),
                sql::grant_usage(role, &spec.schema),
            );
        }
    }
}

fn rights(role: Option<&RoleFacts>, index: usize) -> Rights {
    match role {
        Some(role) if role.is_superuser => Rights::ALL,
        Some(role) => role.tables.get(index).copied().unwrap_or_default(),
        None => Rights::default(),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

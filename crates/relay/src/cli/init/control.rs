//! Schema `outboxd`: what operators ask of the relay, and the rows that it publishes besides the
//! stream.

use envelope::TableSpec;

use super::plan::{Action, Step, Verb};
use super::sql::{named, qualified, renamed, statement};
use crate::cli::database::{all, one, quote};
use crate::cli::problem::Problem;
use crate::config::Pipeline;
use crate::failure::Failure;
use crate::source::catalog::Catalog;

const CONTROL: &str = include_str!("../../../../../sql/control.sql");

/// What there is of it. `Default` knows of nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ControlFacts {
    pub schema: bool,
    pub control: bool,
    pub feed_rows: bool,
    pub is_published: bool,
    pub relay: Rights,
    /// `None` where there is no such role.
    pub operator: Option<Rights>,
}

/// What a role may do; `false` too where there is nothing yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rights {
    pub is_superuser: bool,
    pub schema: bool,
    pub control: bool,
    pub feed_rows: bool,
    /// One per configured table: read its rows.
    pub tables: Vec<bool>,
}

const PRESENT: &str = "SELECT n.oid IS NOT NULL, c.oid IS NOT NULL, f.oid IS NOT NULL, \
       EXISTS (SELECT FROM pg_publication_tables p WHERE p.pubname = $1 \
         AND p.schemaname = 'outboxd' AND p.tablename = 'control') \
     FROM (SELECT 1) one LEFT JOIN pg_namespace n ON n.nspname = 'outboxd' \
     LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'control' \
     LEFT JOIN pg_class f ON f.relnamespace = n.oid AND f.relname = 'feed_rows'";

/// $2: what it must be allowed to do with `feed_rows`; $3: with the columns of `control`.
const RIGHTS: &str = "SELECT r.rolsuper, coalesce(has_schema_privilege(r.oid, n.oid, 'USAGE'), false), \
       coalesce(has_table_privilege(r.oid, c.oid, 'SELECT') \
         AND ($3 = '' OR has_column_privilege(r.oid, c.oid, 'command', $3)), false), \
       coalesce((SELECT bool_and(has_table_privilege(r.oid, f.oid, right_to)) \
         FROM unnest(string_to_array($2, ',')) right_to), false) \
     FROM pg_roles r LEFT JOIN pg_namespace n ON n.nspname = 'outboxd' \
     LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'control' \
     LEFT JOIN pg_class f ON f.relnamespace = n.oid AND f.relname = 'feed_rows' \
     WHERE r.rolname = $1";

const READS: &str = "SELECT coalesce(has_table_privilege(r.oid, c.oid, 'SELECT'), false) \
     FROM pg_roles r LEFT JOIN pg_namespace n ON n.nspname = $2 \
     LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = $3 WHERE r.rolname = $1";

/// Looks at what there is.
pub(super) async fn look(
    catalog: &Catalog,
    pipeline: &Pipeline,
    relay: &str,
    operator: Option<&str>,
) -> Result<ControlFacts, Failure> {
    let row = one(catalog, PRESENT, &[&pipeline.postgres.publication]).await?;
    let tables = &pipeline.tables;
    let relay = rights(catalog, tables, relay, "SELECT,INSERT,DELETE", "").await?;
    let operator = match operator {
        Some(role) => rights(catalog, tables, role, "SELECT,INSERT", "INSERT").await?,
        None => None,
    };
    Ok(ControlFacts {
        schema: row.get(0),
        control: row.get(1),
        feed_rows: row.get(2),
        is_published: row.get(3),
        relay: relay.unwrap_or_default(),
        operator,
    })
}

async fn rights(
    catalog: &Catalog,
    specs: &[TableSpec],
    role: &str,
    feed_rows: &str,
    control: &str,
) -> Result<Option<Rights>, Failure> {
    let rows = all(catalog, RIGHTS, &[&role, &feed_rows, &control]).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let mut rights = Rights {
        is_superuser: row.get(0),
        schema: row.get(1),
        control: row.get(2),
        feed_rows: row.get(3),
        tables: Vec::with_capacity(specs.len()),
    };
    for spec in specs {
        let row = one(catalog, READS, &[&role, &spec.schema, &spec.table]).await?;
        rights.tables.push(row.get(0));
    }
    Ok(Some(rights))
}

/// What is missing of it, behind everything else in the database.
pub(super) fn steps(pipeline: &Pipeline, relay: &str, facts: &ControlFacts) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut add = |verb, object: &str, sql: String| {
        steps.push(Step {
            verb,
            object: object.to_owned(),
            action: Action::Sql(sql),
        });
    };
    if !facts.schema {
        let sql = statement(CONTROL, "CREATE SCHEMA");
        add(Verb::Create, "schema outboxd", sql);
    }
    for (exists, table) in [
        (facts.control, "outboxd.control"),
        (facts.feed_rows, "outboxd.feed_rows"),
    ] {
        if !exists {
            let sql = statement(CONTROL, &format!("CREATE TABLE {table}"));
            add(Verb::Create, &format!("table {table}"), sql);
        }
    }
    if !facts.is_published {
        let name = &pipeline.postgres.publication;
        let object = format!("publication {name:?}: add outboxd.control");
        add(Verb::Alter, &object, publish(name));
    }
    let rights = [
        "SELECT ON TABLE outboxd.control",
        "SELECT, INSERT, DELETE ON TABLE outboxd.feed_rows",
    ];
    for (object, sql) in grants(pipeline, relay, &facts.relay, rights) {
        add(Verb::Grant, &object, sql);
    }
    steps
}

/// What a role lacks that is to ask for replays.
pub(super) fn operator_steps(
    pipeline: &Pipeline,
    role: &str,
    facts: &ControlFacts,
) -> Result<Vec<Step>, Problem> {
    let Some(rights) = &facts.operator else {
        return Err(Problem::new(
            format!("role {role:?} does not exist"),
            "Create the role of the operators, or correct --operator-role.",
        ));
    };
    let wanted = [
        "SELECT, INSERT (request_id, slot, reason, command) ON TABLE outboxd.control",
        "SELECT, INSERT ON TABLE outboxd.feed_rows",
    ];
    let mut granted = grants(pipeline, role, rights, wanted);
    if !rights.is_superuser {
        let mut schemas: Vec<_> = pipeline.tables.iter().map(|spec| &spec.schema).collect();
        schemas.dedup();
        let missing = rights.tables.contains(&false);
        let usage = |schema: &String| {
            let what = format!("USAGE ON SCHEMA {}", quote(schema));
            grant(&what, role)
        };
        granted.extend(schemas.into_iter().filter(|_| missing).map(usage));
    }
    let step = |(object, sql)| Step {
        verb: Verb::Grant,
        object,
        action: Action::Sql(sql),
    };
    Ok(granted.into_iter().map(step).collect())
}

/// The grants that are missing: what is granted, and the statement.
fn grants(
    pipeline: &Pipeline,
    role: &str,
    rights: &Rights,
    [control, feed_rows]: [&str; 2],
) -> Vec<(String, String)> {
    if rights.is_superuser {
        return Vec::new();
    }
    let fixed = [
        (rights.schema, "USAGE ON SCHEMA outboxd"),
        (rights.control, control),
        (rights.feed_rows, feed_rows),
    ];
    let missing = fixed.into_iter().filter(|(has, _)| !has);
    let mut found: Vec<_> = missing.map(|(_, what)| grant(what, role)).collect();
    for (index, spec) in pipeline.tables.iter().enumerate() {
        if !rights.tables.get(index).copied().unwrap_or(false) {
            let table = qualified(&spec.schema, &spec.table);
            found.push(grant(&format!("SELECT ON TABLE {table}"), role));
        }
    }
    found
}

fn grant(what: &str, role: &str) -> (String, String) {
    let object = format!("{} to {role:?}", what.replacen(" ON ", " on ", 1));
    (object, format!("GRANT {what} TO {};", named(role)))
}

fn publish(publication: &str) -> String {
    renamed(
        statement(CONTROL, "ALTER PUBLICATION"),
        &[("outboxd", &named(publication))],
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OPERATOR: &str = include_str!("../../../../../sql/operator_role.sql");

    fn complete() -> ControlFacts {
        let rights = Rights {
            is_superuser: false,
            schema: true,
            control: true,
            feed_rows: true,
            tables: vec![true],
        };
        ControlFacts {
            schema: true,
            control: true,
            feed_rows: true,
            is_published: true,
            relay: rights.clone(),
            operator: Some(rights),
        }
    }

    fn shown(steps: &[Step]) -> Vec<String> {
        let show = |step: &Step| format!("{} {}", step.verb.imperative(), step.object);
        steps.iter().map(show).collect()
    }

    fn statements(steps: &[Step]) -> Vec<String> {
        let sql = |step: &Step| match &step.action {
            Action::Sql(sql) => sql.clone(),
            other => panic!("{other:?}"),
        };
        steps.iter().map(sql).collect()
    }

    #[test]
    fn a_complete_schema_needs_nothing() {
        let pipeline = Pipeline::default();
        assert_eq!(steps(&pipeline, "outboxd", &complete()), []);
        let operator = operator_steps(&pipeline, "operator", &complete()).unwrap();
        assert_eq!(operator, []);
    }

    #[test]
    fn an_unknown_schema_needs_everything_that_the_file_has() {
        let steps = steps(&Pipeline::default(), "outboxd", &ControlFacts::default());
        let expected = [
            "create schema outboxd",
            "create table outboxd.control",
            "create table outboxd.feed_rows",
            "alter publication \"outboxd\": add outboxd.control",
            "grant USAGE on SCHEMA outboxd to \"outboxd\"",
            "grant SELECT on TABLE outboxd.control to \"outboxd\"",
            "grant SELECT, INSERT, DELETE on TABLE outboxd.feed_rows to \"outboxd\"",
            "grant SELECT on TABLE public.outbox to \"outboxd\"",
        ];
        assert_eq!(shown(&steps), expected);
        for statement in statements(&steps) {
            assert!(CONTROL.contains(&statement), "{statement}");
            assert!(statement.ends_with(';'), "{statement}");
        }
    }

    #[test]
    fn other_names_are_quoted() {
        let mut pipeline = Pipeline::default();
        pipeline.postgres.publication = "my-pub".into();
        let steps = steps(&pipeline, "relay", &ControlFacts::default());
        let statements = statements(&steps);
        let publish = "ALTER PUBLICATION \"my-pub\" ADD TABLE outboxd.control;";
        assert!(statements.iter().any(|s| s == publish), "{statements:?}");
        let grant = "GRANT USAGE ON SCHEMA outboxd TO \"relay\";";
        assert!(statements.iter().any(|s| s == grant), "{statements:?}");
    }

    #[test]
    fn an_operator_gets_no_way_to_forge_who_asked() {
        let facts = ControlFacts {
            operator: Some(Rights::default()),
            ..complete()
        };
        let steps = operator_steps(&Pipeline::default(), "operator", &facts).unwrap();
        let statements = statements(&steps);
        assert!(
            statements
                .iter()
                .any(|s| s.contains("INSERT (request_id, slot, reason, command)"))
        );
        let file = OPERATOR.replace("operator", "\"operator\"");
        for statement in statements {
            let rights = statement.trim_start_matches("GRANT ").split(" ON ").next();
            assert!(!rights.unwrap().contains("DELETE"), "{statement}");
            let tail = statement.split(" ON ").nth(1).unwrap();
            let tail = tail.replace("\"public\"", "public");
            assert!(file.contains(&tail), "{tail}\nis not in\n{file}");
        }
    }

    #[test]
    fn a_role_that_does_not_exist_gets_nothing() {
        let facts = ControlFacts {
            operator: None,
            ..complete()
        };
        assert!(operator_steps(&Pipeline::default(), "operator", &facts).is_err());
    }
}

//! The statements of `sql/`, with the configured names in the place of the default ones.

use envelope::TableSpec;

use crate::cli::database::quote;

const OUTBOX: &str = include_str!("../../../../../sql/migrations/outbox/2026112501_outbox.sql");
const EMIT: &str = include_str!("../../../../../sql/migrations/outbox/2026112502_outbox_emit.sql");
const PUBLICATION: &str = include_str!("../../../../../sql/publication.sql");
const RELAY_ROLE: &str = include_str!("../../../../../sql/relay_role.sql");
const WRITE_BACK_ROLE: &str = include_str!("../../../../../sql/write_back_role.sql");
const SERVICE_ROLE: &str = include_str!("../../../../../sql/service_role.sql");

/// Longest identifier, in bytes (`NAMEDATALEN`).
const IDENTIFIER_BYTES: usize = 63;
/// What the sequence of an identity column `seq` is called, behind the name of its table.
const SEQUENCE_SUFFIX: &str = "_seq_seq";

/// Schema and name, quoted, except for the default table.
pub(super) fn qualified(schema: &str, name: &str) -> String {
    match (schema, name) {
        ("public", "outbox" | "outbox_seq_seq" | "outbox_emit") => format!("{schema}.{name}"),
        _ => format!("{}.{}", quote(schema), quote(name)),
    }
}

/// A role or publication, quoted, except for the default one.
pub(super) fn named(name: &str) -> String {
    match name {
        "outboxd" => name.to_owned(),
        _ => quote(name),
    }
}

/// Creates a table of the default shape.
pub(super) fn create_table(spec: &TableSpec) -> String {
    let table = qualified(&spec.schema, &spec.table);
    renamed(
        statement(OUTBOX, "CREATE TABLE"),
        &[("public.outbox", &table)],
    )
}

/// What the function that writes events into a table is called.
pub(super) fn emit_of(spec: &TableSpec) -> String {
    qualified(&spec.schema, &format!("{}_emit", spec.table))
}

/// Creates the function that writes events into a table of the default shape.
pub(super) fn create_emit(spec: &TableSpec) -> String {
    let code = EMIT.lines().skip_while(|line| line.starts_with("--"));
    let table = qualified(&spec.schema, &spec.table);
    renamed(
        code.collect::<Vec<_>>().join("\n"),
        &[
            ("public.outbox", &table),
            ("public.outbox_emit", &emit_of(spec)),
        ],
    )
}

/// Creates the publication of the tables.
pub(super) fn create_publication<'a>(
    publication: &str,
    tables: impl Iterator<Item = &'a TableSpec>,
) -> String {
    let tables: Vec<_> = tables
        .map(|spec| qualified(&spec.schema, &spec.table))
        .collect();
    renamed(
        statement(PUBLICATION, "CREATE PUBLICATION"),
        &[
            ("outboxd", &named(publication)),
            ("public.outbox", &tables.join(", ")),
        ],
    )
}

/// Adds a table to a publication.
pub(super) fn add_table(publication: &str, spec: &TableSpec) -> String {
    let table = qualified(&spec.schema, &spec.table);
    format!(
        "ALTER PUBLICATION {} ADD TABLE {table};",
        named(publication)
    )
}

/// Sets an option of a publication.
pub(super) fn set_publication(publication: &str, option: &str) -> String {
    format!("ALTER PUBLICATION {} SET ({option});", named(publication))
}

/// Creates the role of the relay.
pub(super) fn create_relay_role(role: &str) -> String {
    renamed(
        statement(RELAY_ROLE, "CREATE ROLE"),
        &[("outboxd", &named(role))],
    )
}

/// Creates the role that writes states back.
pub(super) fn create_write_back_role(role: &str) -> String {
    renamed(
        statement(WRITE_BACK_ROLE, "CREATE ROLE"),
        &[("outboxd_write_back", &quote(role))],
    )
}

/// Lets a role stream.
pub(super) fn allow_replication(role: &str) -> String {
    format!("ALTER ROLE {} REPLICATION;", named(role))
}

/// Lets a role connect.
pub(super) fn grant_connect(role: &str, database: &str) -> String {
    format!(
        "GRANT CONNECT ON DATABASE {} TO {};",
        quote(database),
        named(role)
    )
}

/// Lets a role look into a schema.
pub(super) fn grant_usage(role: &str, schema: &str) -> String {
    let schema = if schema == "public" {
        schema.to_owned()
    } else {
        quote(schema)
    };
    renamed(
        statement(RELAY_ROLE, "GRANT USAGE"),
        &[("outboxd", &named(role)), ("public", &schema)],
    )
}

/// Lets the relay read a sequence, given with its schema and quoted.
pub(super) fn grant_sequence(role: &str, sequence: &str) -> String {
    renamed(
        statement(RELAY_ROLE, "GRANT SELECT ON SEQUENCE"),
        &[
            ("outboxd", &named(role)),
            ("public.outbox_seq_seq", sequence),
        ],
    )
}

/// Lets the relay write the state of rows back.
pub(super) fn grant_state(role: &str, spec: &TableSpec, read: &[&str], written: &[&str]) -> String {
    let list = |columns: &[&str]| {
        columns
            .iter()
            .map(|c| column(c))
            .collect::<Vec<_>>()
            .join(", ")
    };
    format!(
        "GRANT SELECT ({}), UPDATE ({}) ON TABLE {} TO {};",
        list(read),
        list(written),
        qualified(&spec.schema, &spec.table),
        named(role)
    )
}

/// A column, quoted, except for those of the default table.
fn column(name: &str) -> String {
    match name {
        "id" | "state" | "attempts" | "last_error" => name.to_owned(),
        _ => quote(name),
    }
}

/// Lets the relay remove old rows.
pub(super) fn grant_prune(role: &str, spec: &TableSpec) -> String {
    format!(
        "GRANT SELECT, DELETE ON TABLE {} TO {};",
        qualified(&spec.schema, &spec.table),
        named(role)
    )
}

/// Lets a service write events.
pub(super) fn grant_insert(role: &str, spec: &TableSpec) -> String {
    let table = qualified(&spec.schema, &spec.table);
    renamed(
        statement(SERVICE_ROLE, "GRANT INSERT"),
        &[("service", &named(role)), ("public.outbox", &table)],
    )
}

/// The sequence that Postgres will make for a new table of the default shape
/// (`makeObjectName` in `indexcmds.c` cuts the table's name so that the whole fits).
pub(super) fn sequence_of_new(spec: &TableSpec) -> String {
    let room = IDENTIFIER_BYTES - SEQUENCE_SUFFIX.len();
    let cut = (0..=room.min(spec.table.len()))
        .rev()
        .find(|at| spec.table.is_char_boundary(*at));
    let start = cut.and_then(|at| spec.table.get(..at)).unwrap_or_default();
    qualified(&spec.schema, &format!("{start}{SEQUENCE_SUFFIX}"))
}

/// The statement of `file` that begins with `beginning`, without comments, with its semicolon.
pub(super) fn statement(file: &str, beginning: &str) -> String {
    let code: Vec<_> = file
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .collect();
    let code = code.join("\n");
    let found = code
        .split_inclusive(';')
        .map(str::trim)
        .find(|statement| statement.starts_with(beginning));
    found.unwrap_or_default().to_owned()
}

/// Puts other names in the place of whole words, where a word is made of letters, digits, `_` and
/// `.`.
pub(super) fn renamed(statement: String, names: &[(&str, &str)]) -> String {
    let mut result = String::with_capacity(statement.len());
    let mut rest = statement.as_str();
    while !rest.is_empty() {
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(length);
        let name = names.iter().find(|(old, _)| *old == word);
        result.push_str(name.map_or(word, |(_, new)| new));
        let gap = behind.find(is_word).unwrap_or(behind.len());
        let (gap, behind) = behind.split_at(gap);
        result.push_str(gap);
        rest = behind;
    }
    result
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(schema: &str, table: &str) -> TableSpec {
        TableSpec {
            schema: schema.into(),
            table: table.into(),
            ..TableSpec::default()
        }
    }

    #[test]
    fn default_names_give_the_statements_of_the_files() {
        let table = TableSpec::default();
        let cases = [
            (create_table(&table), OUTBOX),
            (create_emit(&table), EMIT),
            (
                create_publication("outboxd", [&table].into_iter()),
                PUBLICATION,
            ),
            (create_relay_role("outboxd"), RELAY_ROLE),
            (grant_usage("outboxd", "public"), RELAY_ROLE),
            (
                grant_sequence("outboxd", &sequence_of_new(&table)),
                RELAY_ROLE,
            ),
            (
                grant_state(
                    "outboxd",
                    &table,
                    &["id", "state"],
                    &["state", "attempts", "last_error"],
                ),
                RELAY_ROLE,
            ),
        ];
        for (statement, file) in cases {
            assert!(statement.ends_with(';'), "{statement}");
            assert!(file.contains(&statement), "{statement}\nis not in\n{file}");
        }
    }

    #[test]
    fn other_names_are_quoted_wherever_they_stand() {
        let odd = spec("Pay\"ments", "out box");
        let table = create_table(&odd);
        assert!(
            table.starts_with("CREATE TABLE IF NOT EXISTS \"Pay\"\"ments\".\"out box\" ("),
            "{table}"
        );
        let emit = create_emit(&odd);
        for part in [
            "CREATE OR REPLACE FUNCTION \"Pay\"\"ments\".\"out box_emit\"(",
            "INSERT INTO \"Pay\"\"ments\".\"out box\" (",
        ] {
            assert!(emit.contains(part), "{emit}");
        }
        let publication = create_publication("my-pub", [&odd, &TableSpec::default()].into_iter());
        assert_eq!(
            publication,
            "CREATE PUBLICATION \"my-pub\" FOR TABLE \"Pay\"\"ments\".\"out box\", public.outbox\n    \
             WITH (publish = 'insert', publish_via_partition_root = true);"
        );
        let cases = [
            (create_write_back_role("w"), "CREATE ROLE \"w\" LOGIN;"),
            (
                create_relay_role("r"),
                "CREATE ROLE \"r\" LOGIN REPLICATION;",
            ),
            (
                grant_usage("r", "s"),
                "GRANT USAGE ON SCHEMA \"s\" TO \"r\";",
            ),
            (
                grant_sequence("r", &sequence_of_new(&spec("s", "t"))),
                "GRANT SELECT ON SEQUENCE \"s\".\"t_seq_seq\" TO \"r\";",
            ),
            (
                grant_state("r", &spec("s", "t"), &["Id", "state"], &["state", "tries"]),
                "GRANT SELECT (\"Id\", state), UPDATE (state, \"tries\") ON TABLE \"s\".\"t\" TO \"r\";",
            ),
            (
                grant_prune("r", &spec("s", "t")),
                "GRANT SELECT, DELETE ON TABLE \"s\".\"t\" TO \"r\";",
            ),
            (
                grant_insert("app", &spec("s", "t")),
                "GRANT INSERT ON TABLE \"s\".\"t\" TO \"app\";",
            ),
            (
                add_table("p", &spec("s", "t")),
                "ALTER PUBLICATION \"p\" ADD TABLE \"s\".\"t\";",
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn the_sequence_of_a_long_name_is_cut_as_postgres_cuts_it() {
        let check = |table: String, sequence: String| {
            let expected = format!("\"s\".\"{sequence}_seq_seq\"");
            assert_eq!(sequence_of_new(&spec("s", &table)), expected);
        };
        check("t".into(), "t".into());
        check("t".repeat(55), "t".repeat(55));
        check("t".repeat(63), "t".repeat(55));
        // Not in the middle of a character.
        check("ü".repeat(31), "ü".repeat(27));
    }
}

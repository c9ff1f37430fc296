//! The TOML file into a draft: every key by the table of keys, every fault with its line.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::draft::{Draft, Scope};
use super::error::{Fault, Faults, Place};
use super::field::Sources;
use super::keys::{CONSUMER, GLOBAL, Key, PIPELINE, TABLE, find};
use super::nearest::nearest;
use super::value::Value;

/// Reads `text`, the content of `path`, into `draft`; false if it is no TOML at all.
pub(super) fn read(
    path: &Path,
    text: &str,
    draft: &mut Draft,
    sources: &Sources<'_>,
    faults: &mut Faults,
) -> bool {
    let mut reader = Reader {
        path,
        text,
        sources,
        faults,
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        // Only the parser's words: its full message shows the line, which may hold a password.
        let place = reader.place(error.span().unwrap_or_default());
        let fault = Fault::new(
            format!("is not TOML: {}", error.message()),
            "correct the syntax; text values stand in quotes",
        );
        reader.faults.push(&place, "", fault);
    }
    if errors.is_empty() {
        reader.document(document.get_ref(), draft);
    }
    errors.is_empty()
}

/// What stands in a pipeline as lists of tables.
const NESTED: [&str; 2] = ["tables", "consumers"];

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    sources: &'a Sources<'a>,
    faults: &'a mut Faults,
}

/// Name and value, each with where it stands.
type Entry<'a, 'i> = (
    &'a Spanned<std::borrow::Cow<'i, str>>,
    &'a Spanned<DeValue<'i>>,
);

impl Reader<'_> {
    fn document(&mut self, root: &DeTable<'_>, draft: &mut Draft) {
        self.section(root, "", GLOBAL, &mut draft.global, &["pipelines"]);
        for table in self.tables_of(root, "pipelines", "") {
            let mut pipeline = draft.next_pipeline();
            self.section(table, "", PIPELINE, &mut pipeline.settings, &NESTED);
            let prefix = pipeline.settings.prefix.clone();
            for table in self.tables_of(table, "tables", &prefix) {
                let mut scope = pipeline.next_table();
                self.section(table, "", TABLE, &mut scope, &[]);
                pipeline.tables.push(scope);
            }
            for table in self.tables_of(table, "consumers", &prefix) {
                let mut scope = pipeline.next_consumer();
                self.section(table, "", CONSUMER, &mut scope, &[]);
                pipeline.consumers.push(scope);
            }
            draft.pipelines.push(pipeline);
        }
    }

    /// Reads a table whose keys lie under `section`; `nested` is read by the caller.
    fn section<T>(
        &mut self,
        table: &DeTable<'_>,
        section: &str,
        keys: &'static [Key<T>],
        scope: &mut Scope<T>,
        nested: &[&str],
    ) {
        for entry in table
            .iter()
            .filter(|(name, _)| !section.is_empty() || !nested.contains(&&**name.get_ref()))
        {
            let path = join(section, entry.0.get_ref());
            self.entry(entry, &path, keys, scope);
        }
    }

    fn entry<T>(
        &mut self,
        (name, value): Entry<'_, '_>,
        path: &str,
        keys: &'static [Key<T>],
        scope: &mut Scope<T>,
    ) {
        let place = self.place(name.span());
        match (find(keys, path), value.get_ref()) {
            (Some(key), DeValue::Table(entries)) if (key.field)(&mut scope.draft).is_map() => {
                self.map(entries, "", key, scope);
            }
            (Some(key), value) => {
                scope.set(key, Value::from(value), &place, self.sources, self.faults);
            }
            (None, DeValue::Table(table)) if is_section(keys, path) => {
                self.section(table, path, keys, scope, &[]);
            }
            (None, _) => {
                let fault = unknown_key(path, keys, &scope.prefix);
                scope.fault(&place, path, fault, self.faults);
            }
        }
    }

    /// Reads the entries of a map. Dots in a name without quotes make nested tables, which are
    /// joined again, so that `sasl.username = "me"` means what it says.
    fn map<T>(
        &mut self,
        entries: &DeTable<'_>,
        outer: &str,
        key: &'static Key<T>,
        scope: &mut Scope<T>,
    ) {
        for (name, value) in entries {
            let full = join(outer, name.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) if !is_reference(inner, &full) => {
                    self.map(inner, &full, key, scope);
                }
                value => {
                    let place = self.place(name.span());
                    let entry = (&*full, Value::from(value));
                    scope.set_entry(key, entry, &place, self.sources, self.faults);
                }
            }
        }
    }

    /// The elements of `[[name]]` in `table`.
    fn tables_of<'t, 'i>(
        &mut self,
        table: &'t DeTable<'i>,
        name: &str,
        prefix: &str,
    ) -> Vec<&'t DeTable<'i>> {
        let path = format!("{prefix}{name}");
        let Some((_, value)) = table.iter().find(|(key, _)| key.get_ref() == name) else {
            return Vec::new();
        };
        let items = value
            .get_ref()
            .as_array()
            .map_or_else(|| vec![value], |items| items.iter().collect());
        let is_list = value.get_ref().is_array();
        let mut tables = Vec::new();
        for item in items {
            match item.get_ref().as_table() {
                Some(table) if is_list => tables.push(table),
                Some(_) | None => {
                    let header = match prefix.is_empty() {
                        true => format!("[[{name}]]"),
                        false => format!("[[pipelines.{name}]]"),
                    };
                    let remedy = format!("write {header}, with two brackets on each side");
                    let place = self.place(value.span());
                    self.faults.push(
                        &place,
                        &*path,
                        Fault::new("is not a list of tables", remedy),
                    );
                }
            }
        }
        tables
    }

    fn place(&self, span: Range<usize>) -> Place {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Place::File {
            path: self.path.into(),
            line,
        }
    }
}

fn join(section: &str, name: &str) -> String {
    if section.is_empty() {
        name.to_string()
    } else {
        format!("{section}.{name}")
    }
}

/// Properties of librdkafka that end in `.file`, which without quotes look like a reference.
const FILE_PROPERTIES: [&str; 3] = [
    "sasl.oauthbearer.assertion",
    "sasl.oauthbearer.assertion.private.key",
    "sasl.oauthbearer.assertion.jwt.template",
];

/// Whether a table is `{ env = … }` or `{ file = … }`.
fn is_reference(table: &DeTable<'_>, path: &str) -> bool {
    let mut names = table.keys().map(|name| name.get_ref().as_ref());
    match (names.next(), names.next()) {
        (Some("env"), None) => true,
        (Some("file"), None) => !FILE_PROPERTIES.contains(&path),
        _ => false,
    }
}

/// Whether some key lies under `path`.
fn is_section<T>(keys: &[Key<T>], path: &str) -> bool {
    keys.iter().any(|key| {
        key.path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

fn unknown_key<T>(path: &str, keys: &[Key<T>], prefix: &str) -> Fault {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let siblings = siblings(keys, section, prefix);
    let remedy = if is_section(keys, path) {
        format!("write a section [{}]", outline(&format!("{prefix}{path}")))
    } else if let Some(near) = nearest(name, siblings.iter().copied()) {
        format!("did you mean {near}?")
    } else if let Some(home) = elsewhere(path).or_else(|| elsewhere(name)) {
        format!("did you mean {home}?")
    } else {
        format!("remove it; known here are {}", siblings.join(", "))
    };
    Fault::new("unknown key", remedy)
}

/// The names that may stand directly in `section`.
fn siblings<T>(keys: &[Key<T>], section: &str, prefix: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = keys
        .iter()
        .filter_map(|key| match section {
            "" => Some(key.path),
            section => key.path.strip_prefix(section)?.strip_prefix('.'),
        })
        .map(|rest| rest.split('.').next().unwrap_or(rest))
        .collect();
    names.dedup();
    match (section, prefix) {
        ("", "") => names.push("pipelines"),
        ("", prefix) if !NESTED.iter().any(|nested| prefix.contains(nested)) => {
            names.extend(NESTED);
        }
        _ => {}
    }
    names
}

/// The full name of a key or section that ends in `tail` but lies elsewhere.
fn elsewhere(tail: &str) -> Option<String> {
    let suffix = format!(".{tail}");
    let of = |section: &str, path: &str| {
        let full = format!("{section}{path}");
        // A key, or a section above it.
        let ends = full.match_indices(&suffix).map(|(at, _)| at + suffix.len());
        ends.filter(|end| matches!(full.as_bytes().get(*end), None | Some(b'.')))
            .find_map(|end| full.get(..end).map(str::to_string))
    };
    let global = GLOBAL.iter().map(|key| of("", key.path));
    let pipelines = PIPELINE.iter().map(|key| of("pipelines.", key.path));
    let tables = TABLE.iter().map(|key| of("pipelines.tables.", key.path));
    let consumers = CONSUMER
        .iter()
        .map(|key| of("pipelines.consumers.", key.path));
    let all = global.chain(pipelines).chain(tables).chain(consumers);
    all.flatten().next()
}

/// `pipelines[0].batch` as a header of the file: `pipelines.batch`.
fn outline(path: &str) -> String {
    path.split('.')
        .map(|part| part.split('[').next().unwrap_or(part))
        .collect::<Vec<_>>()
        .join(".")
}

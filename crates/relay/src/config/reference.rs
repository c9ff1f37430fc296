//! The reference page and the annotated example, out of the table of keys.

use std::fmt::Write as _;

use super::Config;
use super::allowed::Allowed;
use super::draft::{ConsumerDraft, PipelineDraft, TableDraft};
use super::environment::{CONSUMERS, FILE, PLAIN, PROPERTIES, TABLES};
use super::keys::{CONSUMER, GLOBAL, Key, PIPELINE, TABLE};

/// Keys without a default that a file cannot do without; the example sets them.
const REQUIRED: [&str; 2] = ["postgres.url", "kafka.bootstrap"];

/// `docs/configuration.md`.
pub fn reference() -> String {
    let mut page = include_str!("reference_intro.md").to_string();
    let _ = writeln!(page, "\n## Variables without prefix\n");
    page.push_str("| variable | key |\n|---|---|\n");
    for plain in &PLAIN {
        let unit = if plain.unit.is_empty() {
            ""
        } else {
            ", in milliseconds"
        };
        let _ = writeln!(
            page,
            "| `{}` | `pipelines.{}`{unit} |",
            plain.name, plain.path
        );
    }
    let _ = writeln!(page, "\n`{FILE}` names the file, as `--config` does.");
    let mut config = Config::default();
    tables(
        &mut page,
        GLOBAL,
        &mut config,
        Home {
            header: "Top of the file",
            path: "",
            variable: "",
        },
    );
    let home = Home {
        header: "[[pipelines]]",
        path: "pipelines.",
        variable: "",
    };
    tables(&mut page, PIPELINE, &mut PipelineDraft::default(), home);
    let home = Home {
        header: "[[pipelines.tables]]",
        path: "pipelines.tables.",
        variable: TABLES,
    };
    tables(&mut page, TABLE, &mut TableDraft::default(), home);
    let home = Home {
        header: "[[pipelines.consumers]]",
        path: "pipelines.consumers.",
        variable: CONSUMERS,
    };
    tables(&mut page, CONSUMER, &mut ConsumerDraft::default(), home);
    page
}

/// Where a scope stands in the file.
struct Home {
    header: &'static str,
    path: &'static str,
    variable: &'static str,
}

fn tables<T>(page: &mut String, keys: &'static [Key<T>], scope: &mut T, home: Home) {
    let mut current = None;
    for key in keys {
        let (section, name) = split(key);
        if current != Some(section) {
            current = Some(section);
            let title = match section {
                "" => home.header.to_string(),
                section => format!("[{}{section}]", home.path),
            };
            let _ = writeln!(page, "\n## {title}\n");
            page.push_str("| key | type | default | allowed | variable | meaning |\n");
            page.push_str("|---|---|---|---|---|---|\n");
        }
        let variable = if key.path == "kafka.properties" {
            format!("{PROPERTIES}…")
        } else {
            key.variable(home.variable)
        };
        let _ = writeln!(
            page,
            "| `{name}` | {} | {} | {} | `{variable}` | {} |",
            (key.field)(scope).kind(),
            cell(&default_of(key, scope)),
            cell(&allowed_of(key, scope)),
            cell(key.meaning),
        );
    }
}

/// Section and name of a key.
fn split<T>(key: &Key<T>) -> (&'static str, &'static str) {
    key.path.rsplit_once('.').unwrap_or(("", key.path))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn default_of<T>(key: &Key<T>, scope: &mut T) -> String {
    match &key.open {
        Some(open) => open.default.to_string(),
        None => format!("`{}`", (key.field)(scope).show().unwrap_or_default()),
    }
}

fn allowed_of<T>(key: &Key<T>, scope: &mut T) -> String {
    let names = (key.field)(scope).names();
    if !names.is_empty() {
        names.join(", ")
    } else if matches!(key.allowed, Allowed::NonEmpty) {
        // Goes without saying.
        String::new()
    } else {
        key.allowed.to_string()
    }
}

/// `docs/outboxd.example.toml`: every key with its default. Keys without one stand behind a `#`.
/// It loads as the defaults.
pub fn example() -> String {
    let mut text = include_str!("example_intro.toml").to_string();
    keys(&mut text, GLOBAL, &mut Config::default(), "");
    text.push_str(
        "\n# One database: its slot, its tables, and where they go. Repeat for others.\n",
    );
    text.push_str("[[pipelines]]\n");
    keys(
        &mut text,
        PIPELINE,
        &mut PipelineDraft::default(),
        "pipelines.",
    );
    text.push_str("\n# One outbox table. Repeat for others; without any, this one is assumed.\n");
    text.push_str("[[pipelines.tables]]\n");
    keys(
        &mut text,
        TABLE,
        &mut TableDraft::default(),
        "pipelines.tables.",
    );
    text.push_str(
        "\n# One consumer group whose lag is exported. Repeat for others; by default, none.\n",
    );
    text.push_str("#[[pipelines.consumers]]\n");
    let mut consumer = String::new();
    let mut draft = ConsumerDraft::default();
    keys(&mut consumer, CONSUMER, &mut draft, "pipelines.consumers.");
    for line in consumer.lines() {
        let mark = if line.is_empty() || line.starts_with('#') {
            ""
        } else {
            "#"
        };
        let _ = writeln!(text, "{mark}{line}");
    }
    text
}

fn keys<T>(text: &mut String, keys: &'static [Key<T>], scope: &mut T, prefix: &str) {
    let mut current = "";
    for key in keys {
        let (section, name) = split(key);
        if section != current {
            current = section;
            let _ = writeln!(text, "\n[{prefix}{section}]");
        }
        let allowed = allowed_of(key, scope);
        let allowed = if allowed.is_empty() {
            allowed
        } else {
            format!(" Allowed: {allowed}.")
        };
        let otherwise = match &key.open {
            Some(open) if REQUIRED.contains(&key.path) => format!(" It is {}.", open.default),
            Some(open) => format!(" Default: {}.", open.default),
            None => String::new(),
        };
        let note = format!("{}{allowed}{otherwise}", key.meaning);
        text.push('\n');
        for line in wrap(&note) {
            let _ = writeln!(text, "# {line}");
        }
        let _ = match &key.open {
            Some(open) if REQUIRED.contains(&key.path) => {
                writeln!(text, "{name} = {}", open.example)
            }
            Some(open) => writeln!(text, "#{name} = {}", open.example),
            None => {
                let default = (key.field)(scope).show().unwrap_or_default();
                writeln!(text, "{name} = {default}")
            }
        };
    }
}

/// Breaks `text` into lines for comments.
fn wrap(text: &str) -> Vec<String> {
    const WIDTH: usize = 96;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_string()),
        }
    }
    lines
}

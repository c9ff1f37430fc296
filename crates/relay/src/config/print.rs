//! The effective configuration as TOML.

use std::fmt::Write as _;

use super::Config;
use super::draft::{ConsumerDraft, PipelineDraft, TableDraft};
use super::keys::{CONSUMER, GLOBAL, Key, PIPELINE, TABLE};

/// `config` as TOML with every key that has a value, secrets redacted.
///
/// Secrets apart it reads back as the same configuration (test:
/// `what_is_printed_reads_back_as_the_same_configuration`).
pub fn print(config: &Config) -> String {
    let mut text = String::new();
    section(&mut text, GLOBAL, &mut config.clone(), "");
    for pipeline in &config.pipelines {
        text.push_str("\n[[pipelines]]\n");
        section(
            &mut text,
            PIPELINE,
            &mut PipelineDraft::from(pipeline),
            "pipelines.",
        );
        for (id, table, state) in pipeline.outboxes() {
            text.push_str("\n[[pipelines.tables]]\n");
            section(
                &mut text,
                TABLE,
                &mut TableDraft::from((table, state, pipeline.dead_letter(id))),
                "pipelines.tables.",
            );
        }
        for consumer in &pipeline.consumers {
            text.push_str("\n[[pipelines.consumers]]\n");
            let mut draft = ConsumerDraft::from(consumer);
            section(&mut text, CONSUMER, &mut draft, "pipelines.consumers.");
        }
    }
    text
}

/// Writes the keys of one scope. Keys of one section stand together in the table of keys, those
/// without a section first.
fn section<T>(text: &mut String, keys: &'static [Key<T>], scope: &mut T, prefix: &str) {
    let mut current = "";
    for key in keys {
        let (section, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        let field = (key.field)(scope);
        let lines: Vec<String> = if field.is_map() {
            field
                .show_entries()
                .iter()
                .map(|(name, value)| format!("{name} = {value}"))
                .collect()
        } else {
            field
                .show()
                .iter()
                .map(|value| format!("{name} = {value}"))
                .collect()
        };
        let section = if field.is_map() { key.path } else { section };
        if lines.is_empty() {
            continue;
        }
        if section != current {
            let _ = writeln!(text, "\n[{prefix}{section}]");
            current = section;
        }
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
    }
}

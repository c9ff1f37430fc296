//! Pages that are generated from tables in code are compared with what is in `docs`.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

/// Compares `docs/{name}` with what is generated, or writes it if `UPDATE_DOCS` is set.
#[track_caller]
pub(crate) fn check_document(name: &str, generated: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, generated).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == generated,
        "docs/{name} is out of date: run UPDATE_DOCS=1 cargo test -p outboxd"
    );
}

//! Every input that was kept is run again: corpus and regressions of each target.
#![allow(clippy::unwrap_used)]

mod corpus;

use std::path::Path;

use corpus::{files, folder};
use fuzz::{PLANTED, TARGETS};

/// Runs all inputs of a target; the last line printed before a panic names the input.
fn replay(target: &str) {
    let kept = files("corpus", target);
    assert!(!kept.is_empty(), "{target} has no corpus");
    for (path, bytes) in kept.into_iter().chain(files("regressions", target)) {
        println!("{}", path.display());
        fuzz::run(target, &bytes);
    }
}

#[test]
fn checkpoint_records_of_the_corpus_hold() {
    replay("checkpoint");
}

#[test]
fn configurations_of_the_corpus_hold() {
    replay("config");
}

#[test]
fn secrets_of_the_corpus_are_never_shown() {
    replay("config_secrets");
}

#[test]
fn connection_urls_of_the_corpus_hold() {
    replay("connection_url");
}

#[test]
fn rows_of_the_corpus_become_what_they_say() {
    replay("envelope");
}

#[test]
fn pgoutput_messages_of_the_corpus_hold() {
    replay("pgoutput");
}

#[test]
fn replication_frames_of_the_corpus_hold() {
    replay("replication_frame");
}

#[test]
fn text_forms_of_the_corpus_hold() {
    replay("text_form");
}

/// Rows are parsed from arbitrary structures, so an ordinary one stands here in words.
#[test]
fn an_ordinary_row_holds() {
    let case = fuzz::envelope_row::Case::ordinary();
    fuzz::envelope_row::check_with(&case, envelope::RowMapper::map);
}

/// Names in a folder, which need not exist: without regressions there is none for them.
fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn every_target_has_a_binary_a_corpus_and_a_test() {
    let mut targets: Vec<_> = TARGETS.map(|target| target.name).to_vec();
    targets.sort_unstable();
    assert_eq!(names(&folder("corpus")), targets);
    let tests = include_str!("replay.rs");
    for target in &targets {
        assert!(tests.contains(&format!("replay(\"{target}\")")), "{target}");
    }
    let is_target = |name: &String| targets.contains(&&**name);
    assert!(names(&folder("dictionaries")).iter().all(is_target));
    assert!(names(&folder("regressions")).iter().all(is_target));
    targets.push(PLANTED.name);
    targets.sort_unstable();
    assert_eq!(names(&folder("targets/fuzz_targets")), targets);
}

#[test]
fn the_corpus_stays_small() {
    const MAX_BYTES: usize = 300 << 10;
    let bytes: usize = TARGETS
        .iter()
        .flat_map(|target| files("corpus", target.name))
        .map(|(_, bytes)| bytes.len())
        .sum();
    assert!(bytes <= MAX_BYTES, "{bytes} bytes");
}

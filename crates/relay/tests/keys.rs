//! `outboxd keys`, as an operator uses it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use event::encryption::{KeyAlgorithm, Keyring};
use testbed::RunFolder;

fn keys(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outboxd"))
        .arg("keys")
        .args(args)
        .env_remove("OUTBOX_KEYRING_FILE")
        .output()
        .unwrap()
}

#[track_caller]
fn done(args: &[&str]) -> String {
    let output = keys(args);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(args: &[&str], code: i32) -> String {
    let output = keys(args);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

struct Scene {
    _folder: RunFolder,
    file: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let folder = RunFolder::fresh("keys").unwrap();
        Self {
            file: folder.path().join("keyring.json"),
            _folder: folder,
        }
    }

    fn path(&self) -> &str {
        self.file.to_str().unwrap()
    }

    fn keyring(&self) -> Keyring {
        Keyring::from_file(&self.file).unwrap()
    }

    fn mode(&self) -> u32 {
        fs::metadata(&self.file).unwrap().permissions().mode() & 0o777
    }
}

#[test]
fn a_keyring_is_made_for_its_owner_alone_and_never_overwritten() {
    let scene = Scene::new();
    let said = done(&["generate", scene.path(), "--kid", "one"]);
    assert!(said.contains("\"one\""), "{said}");
    assert_eq!(scene.mode(), 0o600);
    assert_eq!(scene.keyring().current().algorithm(), KeyAlgorithm::A256Kw);
    let before = fs::read(&scene.file).unwrap();
    let error = refused(&["generate", scene.path()], 1);
    assert!(error.contains("keys rotate"), "{error}");
    assert_eq!(fs::read(&scene.file).unwrap(), before);
}

#[test]
fn rotation_adds_makes_current_and_retires() {
    let scene = Scene::new();
    done(&["generate", scene.path(), "--kid", "one"]);
    fs::set_permissions(&scene.file, Permissions::from_mode(0o640)).unwrap();
    done(&["rotate", scene.path(), "--kid", "two", "--alg", "dir"]);
    done(&["rotate", scene.path(), "--kid", "three", "--add-only"]);
    let keyring = scene.keyring();
    let kids: Vec<_> = keyring.keys().iter().map(|key| key.kid()).collect();
    assert_eq!(
        (kids, keyring.current().kid()),
        (vec!["one", "two", "three"], "two")
    );
    assert_eq!(keyring.current().algorithm(), KeyAlgorithm::Direct);

    done(&["rotate", scene.path(), "--to", "three"]);
    done(&["rotate", scene.path(), "--retire", "one"]);
    assert_eq!(scene.keyring().keys().len(), 2);
    assert_eq!(scene.keyring().current().kid(), "three");
    let error = refused(&["rotate", scene.path(), "--retire", "three"], 1);
    assert!(error.contains("current"), "{error}");
    refused(&["rotate", scene.path(), "--to", "one"], 1);
    refused(&["rotate", scene.path(), "--kid", "two"], 1);
    refused(&["rotate", scene.path(), "--to", "two", "--add-only"], 2);
    assert_eq!(scene.mode(), 0o640);
    let files = fs::read_dir(scene.file.parent().unwrap()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let left: Vec<_> = names
        .filter(|name| name.starts_with("keyring.json."))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn check_tells_names_and_mistakes_but_no_key() {
    let scene = Scene::new();
    done(&["generate", scene.path(), "--kid", "one"]);
    done(&["rotate", scene.path(), "--kid", "two", "--alg", "dir"]);
    let said = done(&["check", scene.path()]);
    assert_eq!(said, "one A256KW decrypts\ntwo dir encrypts and decrypts\n");
    let json: serde_json::Value =
        serde_json::from_str(&done(&["check", scene.path(), "--json"])).unwrap();
    assert_eq!(json["current"], "two");

    fs::set_permissions(&scene.file, Permissions::from_mode(0o644)).unwrap();
    assert!(done(&["check", scene.path()]).contains("warning: "));

    let secret = scene.keyring().to_json();
    let secret = secret.split("\"k\": \"").nth(1).unwrap().get(..43).unwrap();
    let text = fs::read_to_string(&scene.file).unwrap();
    fs::write(&scene.file, text.replace("A256KW", "A128KW")).unwrap();
    let error = refused(&["check", scene.path()], 1);
    assert!(error.contains("use A256KW, or dir"), "{error}");
    fs::write(&scene.file, text.replace("\"k\"", "k")).unwrap();
    let broken = refused(&["check", scene.path()], 1);
    assert!(broken.contains("not valid JSON"), "{broken}");
    for shown in [said, error, broken] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn no_key_is_lost_by_rotations_at_once() {
    let scene = Scene::new();
    done(&["generate", scene.path(), "--kid", "first"]);
    let names: Vec<String> = (0..8).map(|n| format!("k{n}")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            let path = scene.path();
            scope.spawn(move || done(&["rotate", path, "--kid", name]));
        }
    });
    for name in &names {
        assert!(scene.keyring().get(name).is_some(), "{name}");
    }
    let entries = fs::read_dir(scene.file.parent().unwrap()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    // The folder's own lock is the testbed's.
    let left: Vec<_> = names.filter(|name| name != "lock").collect();
    assert_eq!(left, [scene.file.file_name().unwrap()]);
}

//! The Dockerfile, checked against the workspace and the binary that it would build.

use std::process::Command;

use super::compose::document::{read, root};
use scenarios::stage::outboxd;

/// Its instructions in order.
pub struct Dockerfile {
    instructions: Vec<(String, String)>,
}

impl Dockerfile {
    pub fn read() -> Dockerfile {
        let text = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
        let text = text.replace("\\\n", " ");
        let lines = text.lines().map(str::trim);
        let code = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let split = |line: &str| {
            let (name, arguments) = line.split_once(' ').unwrap();
            (name.to_owned(), arguments.to_owned())
        };
        Dockerfile {
            instructions: code.map(split).collect(),
        }
    }

    fn all(&self, name: &str) -> Vec<&str> {
        let found = self.instructions.iter().filter(|(n, _)| n == name);
        found.map(|(_, arguments)| arguments.as_str()).collect()
    }

    /// The instructions of the last stage: what ships.
    fn shipped(&self) -> Dockerfile {
        let start = self.instructions.iter().rposition(|(n, _)| n == "FROM");
        Dockerfile {
            instructions: self.instructions[start.unwrap()..].to_vec(),
        }
    }

    /// User and group that the image runs as.
    pub fn shipped_user(&self) -> (String, String) {
        let shipped = self.shipped();
        let [user] = shipped.all("USER")[..] else {
            panic!("one USER is expected")
        };
        let (user, group) = user.split_once(':').unwrap();
        (user.to_owned(), group.to_owned())
    }
}

#[test]
fn the_compiler_is_new_enough_and_of_the_release_that_the_binary_runs_on() {
    let dockerfile = Dockerfile::read();
    let [build, runtime] = dockerfile.all("FROM")[..] else {
        panic!("two stages are expected")
    };
    let build = build.strip_suffix(" AS build").unwrap();
    let (version, release) = build
        .strip_prefix("rust:")
        .unwrap()
        .split_once('-')
        .unwrap();
    assert_eq!(runtime, format!("debian:{release}-slim"));
    let minor = |version: &str| -> u32 { version.split('.').nth(1).unwrap().parse().unwrap() };
    assert!(minor(version) >= minor(env!("CARGO_PKG_RUST_VERSION")));
}

#[test]
fn it_ships_the_binary_as_an_ordinary_user() {
    let shipped = Dockerfile::read().shipped();
    assert_eq!(
        shipped.all("COPY"),
        ["--from=build /outboxd /usr/local/bin/outboxd"]
    );
    assert_eq!(shipped.all("ENTRYPOINT"), ["[\"outboxd\"]"]);
    assert_eq!(shipped.all("CMD"), ["[\"run\"]"]);
    let (user, group) = shipped.shipped_user();
    for id in [user, group] {
        assert!(id.parse::<u32>().unwrap() >= 1000, "{id}");
    }
    let admin = read().service("outboxd").published()[0].container;
    assert_eq!(shipped.all("EXPOSE"), [admin.to_string()]);
}

/// What the binary is linked to, beyond what every Debian has.
#[test]
fn the_image_has_the_libraries_of_the_binary() {
    const IN_EVERY_IMAGE: [&str; 5] = ["linux-vdso", "libc", "libm", "libgcc_s", "ld-linux"];
    let output = Command::new("ldd")
        .arg(outboxd().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| {
        let file = line.split_whitespace().next()?.rsplit('/').next()?;
        file.split_once(".so").map(|(stem, _)| stem)
    });
    let is_basic = |name: &str, base: &str| name == base || name.starts_with(&format!("{base}-"));
    let is_extra = |name: &&str| !IN_EVERY_IMAGE.iter().any(|base| is_basic(name, base));
    let mut extra: Vec<_> = names.filter(is_extra).collect();
    extra.sort_unstable();
    // Both are in the package libssl3.
    assert_eq!(extra, ["libcrypto", "libssl"]);
    let shipped = Dockerfile::read().shipped();
    let install = shipped.all("RUN")[0];
    assert!(install.contains(" libssl3 "), "{install}");
}

#[test]
fn the_build_is_the_one_that_is_tested() {
    let dockerfile = Dockerfile::read();
    let runs = dockerfile.all("RUN");
    let build = runs.iter().find(|run| run.contains("cargo build")).unwrap();
    assert!(
        build.contains("cargo build --release --locked -p outboxd"),
        "{build}"
    );
    assert!(build.contains("target/release/outboxd /outboxd"), "{build}");
}

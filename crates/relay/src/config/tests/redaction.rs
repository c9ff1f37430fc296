//! Secrets appear in no output.

use super::{Given, LEAST};
use crate::config::{Overrides, print};

const SECRET: &str = "hunter2";

/// Lines that hold a secret where one belongs, or where somebody could put one by mistake.
const LINES: [&str; 32] = [
    "postgres.password = 'hunter2'",
    "postgres.password = ['hunter2']",
    "postgres.password = { hunter2 = 'hunter2' }",
    "postgres.password = 'hunter2",
    "postgres.password = hunter2",
    "postgres.password = 'x' 'hunter2'",
    "postgres.url = 'postgres://me:hunter2@localhost/app'",
    "postgres.url = 'postgres://me:hunter2/x@localhost/app'",
    "postgres.url = 'postgres://me:x?hunter2=1@localhost/app'",
    "postgres.url = 'postgres://me:x,(hunter2@localhost/app'",
    "postgres.url = 'postgres://me:hunter2@local host/app'",
    "postgres.url = 'postgres://me:hunter2%zz@localhost/app'",
    "postgres.url = 'postgres://localhost/app?password=hunter2'",
    "postgres.url = 'postgres://localhost/app?password=hunter2&sslmod=1'",
    "postgres.url = 'postgres://localhost/app?password=x&hunter2'",
    "postgres.url = 'mysql://me:hunter2@localhost/app'",
    "postgres.url = 'host=localhost password=hunter2'",
    "postgres.hosts = ['postgres://me:hunter2@localhost/app']",
    "postgres.slot = 'postgres://me:hunter2@localhost/app'",
    "kafka.bootstrap = 'me:hunter2@localhost:9092'",
    "kafka.properties.sasl.password = 'hunter2'",
    "kafka.properties.'sasl.password' = ['hunter2']",
    "kafka.properties.sasl.pasword = 'hunter2'",
    "kafka.properties.ssl.key.password = { env = 'SECRET' }",
    "kafka.properties.client.id = { file = '/secret' }",
    "kafka.properties.ssl.key.pem = 'hunter2'",
    "decrypt = { topics = ['recon.*'], keyring = 'hunter2' }",
    "decrypt = { topics = ['recon.*'], keyring = { env = 'SECRET' } }",
    "decrypt = { topics = ['recon.*'], keyring = ['hunter2'] }",
    "decrypt = { topics = ['recon.*'], keyring = '{\"keys\":[{\"kty\":\"oct\",\"kid\":\"a\",\"alg\":\"dir\",\"k\":\"hunter2\"}]}' }",
    "kafka.properties.sasl.oauthbearer.token.endpoint.url = 'https://me:hunter2@idp/token'",
    "otlp.endpoint = 'https://me:hunter2@collector:4318'",
];

fn check(given: &Given<'_>, what: &str) {
    let shown = match given.load() {
        Ok(config) => format!("{}\n{config:?}\n{config:#?}", print(&config)),
        Err(errors) => format!("{errors}\n{errors:?}"),
    };
    assert!(!shown.contains(SECRET), "{what}: {shown}");
}

#[test]
fn a_secret_never_appears_in_print_debug_or_errors() {
    let bare = "[[pipelines]]\npostgres.database = 'app'\n";
    for line in LINES {
        for before in [LEAST, bare] {
            let toml = format!("{before}{line}\n");
            let env: &[_] = &[("SECRET", SECRET), ("PGPASSWORD", SECRET)];
            let files: &[_] = &[("/secret", SECRET)];
            check(
                &Given {
                    toml: Some(&toml),
                    env,
                    files,
                    ..Given::default()
                },
                line,
            );
        }
    }
}

#[test]
fn a_secret_in_a_variable_or_flag_never_appears() {
    for name in [
        "OUTBOXD_POSTGRES_PASSWORD",
        "OUTBOXD_POSTGRES_PASSWRD",
        "OUTBOXD_DECRYPT_KEYRING",
        "OUTBOXD_KAFKA_PROPERTIES_SASL_PASSWORD",
        "OUTBOXD_KAFKA_PROPERTIES_SASL_PASWORD",
        "PGPASSWORD",
    ] {
        let env: &[_] = &[(name, SECRET)];
        check(
            &Given {
                toml: Some(LEAST),
                env,
                ..Given::default()
            },
            name,
        );
    }
    for url in [
        "postgres://me:hunter2@localhost/app",
        "me:hunter2@localhost/app",
    ] {
        let flags = Overrides {
            postgres: Some(url.into()),
            ..Overrides::default()
        };
        assert!(!format!("{flags:?}").contains(SECRET), "{flags:?}");
        check(
            &Given {
                toml: Some(LEAST),
                flags,
                ..Given::default()
            },
            url,
        );
    }
}

#[test]
fn what_is_redacted_is_still_there() {
    let toml = "[[pipelines]]\n\
                kafka.bootstrap = 'k:9092'\n\
                kafka.properties.sasl.password = 'hunter2'\n\
                postgres.url = 'postgres://me:hunter2@localhost/app'\n";
    let config = super::from_toml(toml);
    let pipeline = &config.pipelines[0];
    assert_eq!(
        pipeline.postgres.password.as_ref().unwrap().expose(),
        SECRET
    );
    assert_eq!(pipeline.kafka.properties["sasl.password"].expose(), SECRET);
    let shown = print(&config);
    assert!(shown.contains("\npassword = \"<redacted>\"\n"), "{shown}");
    assert!(
        shown.contains("\n\"sasl.password\" = \"<redacted>\"\n"),
        "{shown}"
    );
}

//! The connection to Postgres: URL, separate keys, TLS, passwords.

use std::path::PathBuf;
use std::time::Duration;

use super::{Given, from_toml, message};
use crate::config::{Host, HostAddr, Overrides, Postgres, Secret, SslMode, database_by_url};

fn flags(url: &str) -> Overrides {
    Overrides {
        postgres: Some(url.into()),
        kafka: Some("k:9092".into()),
        ..Overrides::default()
    }
}

#[track_caller]
fn from_url(url: &str) -> Postgres {
    match (Given {
        flags: flags(url),
        ..Given::default()
    })
    .load()
    {
        Ok(mut config) => config.pipelines.remove(0).postgres,
        Err(errors) => panic!("{url}: {errors}"),
    }
}

fn tcp(name: &str, port: u16) -> Host {
    Host {
        host: HostAddr::Tcp(name.into()),
        port,
    }
}

fn unix(folder: &str, port: u16) -> Host {
    Host {
        host: HostAddr::Unix(folder.into()),
        port,
    }
}

#[test]
fn urls_are_read_as_libpq_reads_them() {
    let check = |url: &str, hosts: &[Host]| assert_eq!(from_url(url).hosts, hosts, "{url}");
    check("postgres://db/app", &[tcp("db", 5432)]);
    check("postgresql://db:6000/app", &[tcp("db", 6000)]);
    check(
        "postgres://a:1,b,c:3/app",
        &[tcp("a", 1), tcp("b", 5432), tcp("c", 3)],
    );
    check(
        "postgres://[::1]:6000,[2001:db8::1]/app",
        &[tcp("::1", 6000), tcp("2001:db8::1", 5432)],
    );
    check("postgres://%2Frun%2Fpg/app", &[unix("/run/pg", 5432)]);
    check(
        "postgres:///app?host=/run/pg&port=6000",
        &[unix("/run/pg", 6000)],
    );
    check(
        "postgres:///app?host=a,b&port=1,2",
        &[tcp("a", 1), tcp("b", 2)],
    );
    check(
        "postgres:///app?host=a,b&port=7",
        &[tcp("a", 7), tcp("b", 7)],
    );

    let postgres = from_url(
        "postgres://me%40home:p%3Aw%2F%25@db/my%20app?application_name=x&connect_timeout=3\
         &sslmode=verify-ca&sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem\
         &target_session_attrs=read-write",
    );
    assert_eq!(postgres.user, "me@home");
    assert_eq!(postgres.password.unwrap().expose(), "p:w/%");
    assert_eq!(postgres.database, "my app");
    assert_eq!(postgres.application_name, "x");
    assert_eq!(postgres.connect_timeout, Duration::from_secs(3));
    assert_eq!(postgres.sslmode, SslMode::VerifyCa);
    assert_eq!(postgres.sslrootcert, Some(PathBuf::from("/ca.pem")));
    assert_eq!(postgres.sslcert, Some(PathBuf::from("/c.pem")));
    assert_eq!(postgres.sslkey, Some(PathBuf::from("/k.pem")));
    assert_eq!(
        from_url("postgres:///?host=h&user=u&dbname=d").database,
        "d"
    );
}

#[test]
fn wrong_urls_are_refused_with_a_remedy() {
    let check = |url: &str, problem: &str, remedy: &str| {
        let expected = format!(
            "the configuration has 1 error\n  --postgres: postgres.url: {problem}\n    remedy: {remedy}"
        );
        assert_eq!(
            message(&Given {
                flags: flags(url),
                ..Given::default()
            }),
            expected,
            "{url}"
        );
    };
    let form = "write postgres://user@host:5432/database, with the password in \
                postgres.password_file or PGPASSWORD";
    let host = "write host, host:port or the folder of a Unix socket";
    check("mysql://h/d", "does not begin with postgres://", form);
    check("host=h dbname=d", "does not begin with postgres://", form);
    check(
        "postgres://h:0/d",
        "a port is not a number from 1 to 65535",
        host,
    );
    check(
        "postgres://h:x/d",
        "a port is not a number from 1 to 65535",
        host,
    );
    check("postgres://a,,b/d", "a host is empty", host);
    check(
        "postgres://a$/d",
        "a host is neither a name nor an address",
        host,
    );
    check(
        "postgres:///d?host=a,b,c&port=1,2",
        "3 hosts but 2 ports",
        "give one port for all hosts or one for each",
    );
    check(
        "postgres://h/d?sslmod=require",
        "unknown URL parameter \"sslmod\"",
        "did you mean sslmode?",
    );
    check(
        "postgres://h/d?keepalives=1",
        "unknown URL parameter \"keepalives\"",
        "remove it: a dead server is noticed by postgres.wal_sender_timeout",
    );
    check(
        "postgres://h/d?sslmode=prefer",
        "sslmode=prefer sends plain text when somebody in the middle refuses TLS",
        "use verify-full, or disable where the network is trusted",
    );
    check(
        "postgres://h/d?target_session_attrs=standby",
        "target_session_attrs=\"standby\" would keep the relay off the primary",
        "remove it: the hosts are searched for the primary",
    );
    check(
        "postgres://h/d?connect_timeout=0",
        "connect_timeout=\"0\" in the URL is not a number of seconds",
        "write 1 to 3600",
    );
    check(
        "postgres://u:a/b@h/d",
        "holds an @ behind the first / or ?",
        "write / as %2F, ? as %3F and @ as %40 in user and password",
    );
    check(
        "postgres://u:%zz@h/d",
        "holds a % that is not followed by two hexadecimal digits, or bytes that are not UTF-8",
        "write % as %25, @ as %40, : as %3A and / as %2F in user and password",
    );
}

#[test]
fn tls_is_verified_unless_the_server_is_local() {
    let check = |url: &str, expected| assert_eq!(from_url(url).sslmode, expected, "{url}");
    check("postgres://db.example/app", SslMode::VerifyFull);
    check("postgres://10.0.0.1/app", SslMode::VerifyFull);
    check("postgres://localhost,db.example/app", SslMode::VerifyFull);
    check("postgres://localhost.example/app", SslMode::VerifyFull);
    check("postgres://localhost/app", SslMode::Disable);
    check("postgres://127.0.0.2,[::1]/app", SslMode::Disable);
    check("postgres:///app?host=/run/pg", SslMode::Disable);
    check(
        "postgres://db.example/app?sslmode=disable",
        SslMode::Disable,
    );
    check("postgres://localhost/app?sslmode=require", SslMode::Require);
    check(
        "postgres://localhost/app?sslrootcert=system",
        SslMode::VerifyFull,
    );
}

#[test]
fn contradictions_in_tls_are_refused() {
    let check = |url: &str, expected: &str| {
        let message = message(&Given {
            flags: flags(url),
            ..Given::default()
        });
        assert!(message.contains(expected), "{message}");
    };
    check("postgres://h/d?sslcert=/c", "needs postgres.sslkey");
    check(
        "postgres://h/d?sslmode=require&sslrootcert=/ca",
        "require does not check the server",
    );
    check(
        "postgres:///d?host=/run&sslmode=verify-full",
        "no TLS over a Unix socket",
    );
}

#[test]
fn separate_keys_replace_the_url() {
    let toml = "[[pipelines]]\n\
                kafka.bootstrap = 'k:9092'\n\
                [pipelines.postgres]\n\
                hosts = ['a', 'b:6000', '[::1]:7000', '/run/pg:8000']\n\
                user = 'me'\n\
                database = 'app'\n\
                sslmode = 'require'\n";
    let postgres = &super::from_toml(toml).pipelines[0].postgres;
    let hosts = [
        tcp("a", 5432),
        tcp("b", 6000),
        tcp("::1", 7000),
        unix("/run/pg", 8000),
    ];
    assert_eq!(postgres.hosts, hosts);
    assert_eq!((&*postgres.user, &*postgres.database), ("me", "app"));
    assert_eq!(postgres.sslmode, SslMode::Require);
}

#[test]
fn a_later_url_replaces_only_what_it_names() {
    let toml = "[[pipelines]]\n\
                kafka.bootstrap = 'k:9092'\n\
                [pipelines.postgres]\n\
                hosts = ['a']\n\
                user = 'me'\n\
                password = 'secret'\n\
                database = 'app'\n\
                connect_timeout = '7s'\n";
    let flags = flags("postgres://b/other");
    let mut config = Given {
        toml: Some(toml),
        flags,
        ..Given::default()
    }
    .load()
    .unwrap();
    let postgres = config.pipelines.remove(0).postgres;
    assert_eq!(postgres.hosts, [tcp("b", 5432)]);
    assert_eq!((&*postgres.user, &*postgres.database), ("me", "other"));
    assert_eq!(postgres.password.unwrap().expose(), "secret");
    assert_eq!(postgres.connect_timeout, Duration::from_secs(7));
}

#[test]
fn a_later_key_replaces_that_part_of_the_url() {
    let toml = "[[pipelines]]\n\
                kafka.bootstrap = 'k:9092'\n\
                postgres.url = 'postgres://me:old@a/app'\n";
    let env: &[_] = &[
        ("OUTBOXD_POSTGRES_PASSWORD", "new"),
        ("OUTBOXD_POSTGRES_HOSTS", "b,c:1"),
    ];
    let mut config = Given {
        toml: Some(toml),
        env,
        ..Given::default()
    }
    .load()
    .unwrap();
    let postgres = config.pipelines.remove(0).postgres;
    assert_eq!(postgres.hosts, [tcp("b", 5432), tcp("c", 1)]);
    assert_eq!(postgres.password.unwrap().expose(), "new");
    assert_eq!(postgres.database, "app");
}

#[test]
fn passwords_come_from_many_places() {
    let check = |line: &str, env: &[(&str, &str)], expected: Option<&str>| {
        let toml = format!(
            "[[pipelines]]\nkafka.bootstrap = 'k:9092'\n[pipelines.postgres]\n\
             hosts = ['h']\ndatabase = 'd'\n{line}\n"
        );
        let files: &[_] = &[("/secret", "from file\n"), ("/dos", "from dos\r\n")];
        let config = Given {
            toml: Some(&toml),
            env,
            files,
            ..Given::default()
        }
        .load();
        let password = config.unwrap().pipelines.remove(0).postgres.password;
        assert_eq!(password.as_ref().map(|p| p.expose()), expected, "{line}");
    };
    check("", &[], None);
    check("", &[("PGPASSWORD", "from pg")], Some("from pg"));
    check(
        "password = 'given'",
        &[("PGPASSWORD", "from pg")],
        Some("given"),
    );
    check(
        "password = { env = 'MINE' }",
        &[("MINE", "from env")],
        Some("from env"),
    );
    check("password = { file = '/secret' }", &[], Some("from file"));
    check("password_file = '/secret'", &[], Some("from file"));
    check("password_file = '/dos'", &[], Some("from dos"));
    check(
        "password_file = '/absent'",
        &[("OUTBOXD_POSTGRES_PASSWORD", "later")],
        Some("later"),
    );
    check(
        "password = 'x'",
        &[("OUTBOXD_POSTGRES_PASSWORD_FILE", "/secret")],
        Some("from file"),
    );
}

#[test]
fn secrets_that_cannot_be_had_are_named() {
    let check = |line: &str, expected: &str| {
        let toml = format!("{}postgres.{line}\n", super::LEAST);
        let message = message(&Given {
            toml: Some(&toml),
            ..Given::default()
        });
        assert!(message.contains(expected), "{message}");
    };
    check(
        "password = { env = 'ABSENT' }",
        "the environment variable ABSENT is not set",
    );
    check("password = { file = '/absent' }", "cannot read /absent: ");
    check("password_file = '/absent'", "cannot read /absent: ");
    check(
        "password = { vault = 'x' }",
        "the table is not a reference to a secret",
    );
    check(
        "password = '<redacted>'",
        "<redacted> stands for a secret that was not shown",
    );
}

#[test]
fn another_database_is_reached_by_its_url_as_the_pipelines_is() {
    let by_url = |url: &str| database_by_url(url, Some("from env".into()));
    for url in [
        "postgres://u@db:5433/app",
        "postgres://u:p@localhost/app?connect_timeout=3",
    ] {
        let (one, other) = (by_url(url).unwrap(), from_url(url));
        let password = other.password.clone().or(Some(Secret::new("from env")));
        let same = Postgres { password, ..other };
        assert_eq!(one, same, "{url}");
    }
    for wrong in ["postgres://u:secret@db", "mysql://u:secret@db/app"] {
        let told = by_url(wrong).unwrap_err();
        assert!(!told.contains("secret") && !told.is_empty(), "{told}");
    }
}

#[test]
fn a_role_for_write_back_has_a_password_of_its_own() {
    let config = Given {
        toml: Some(
            "[[pipelines]]\nsink = 'stdout'\npostgres.url = 'postgres://r:theirs@h/d'\n\
             postgres.write_back_user = 'w'\npostgres.write_back_password = { file = '/w' }\n",
        ),
        files: &[("/w", "its own\n")],
        ..Given::default()
    }
    .load();
    let postgres = config.unwrap().pipelines.remove(0).postgres;
    assert_eq!(postgres.user, "r");
    let writing = postgres.for_write_back();
    assert_eq!(writing.user, "w");
    assert_eq!(writing.password.unwrap().expose(), "its own");

    let toml = "[[pipelines]]\nsink = 'stdout'\npostgres.url = 'postgres://r:theirs@h/d'\n";
    let postgres = from_toml(toml).pipelines.remove(0).postgres;
    assert_eq!(postgres.for_write_back(), postgres);
}

#[test]
fn a_token_that_can_be_guessed_is_refused() {
    let check = |content: &str, expected: bool| {
        let loaded = Given {
            toml: Some("admin.token_file = '/t'\n[[pipelines]]\nsink = 'stdout'\npostgres.url = 'postgres://h/d'\n"),
            files: &[("/t", content)],
            ..Given::default()
        }
        .load();
        assert_eq!(loaded.is_ok(), expected, "{content:?}");
    };
    check("0123456789abcdef\n", true);
    check("0123456789abcde\n", false);
    check("", false);
    check("              x \n", false);
}

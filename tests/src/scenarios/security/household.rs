//! Who lives here: roles, principals, their secrets in files, and a relay that is configured with them.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::{Authority, Issued, KafkaBuilder, Usage};

use crate::relay::Relay;
use crate::scenario::Figures;
use crate::stage::{DATABASE, Stage, outboxd};
use crate::{https, wait};

pub(super) const RELAY: &str = "outboxd";
pub(super) const WRITER: &str = "outboxd_write_back";
pub(super) const SERVICE: &str = "service";
pub(super) const OPERATOR: &str = "operator";
pub(super) const OWNER: &str = "outbox_owner";
/// Everybody who logs in to Postgres, with the first password.
pub(super) const ROLES: [(&str, &str); 5] = [
    (RELAY, "first-relay-password-90cd"),
    (WRITER, "writer-password-13ef"),
    (SERVICE, "service-password-57ab"),
    (OPERATOR, "operator-password-24cc"),
    (OWNER, "owner-password-68dd"),
];
/// The relay's principal in Kafka, a consumer's, and one of nobody.
pub(super) const USERS: [(&str, &str); 3] = [
    ("outboxd", "relay-scram-password-31fe"),
    ("books", "books-scram-password-42ed"),
    ("mallory", "mallory-scram-password-53dc"),
];
pub(super) const PUBLISHED: &str = "outboxd_events_published_total";
const TOKEN: &str = "0123456789abcdef-admin-token-64cb";
const WITHIN: Duration = Duration::from_secs(60);

/// The users of the brokers.
pub(super) fn users(kafka: KafkaBuilder) -> KafkaBuilder {
    let add = |kafka: KafkaBuilder, (name, password): &(&str, &str)| kafka.user(name, password);
    USERS.iter().fold(kafka, add)
}

/// A secret in a file.
pub(super) struct SecretFile(pub PathBuf);

impl SecretFile {
    fn new(folder: &Path, name: &str, secret: &str) -> Result<Self> {
        let file = Self(folder.join(name));
        file.write(secret)?;
        Ok(file)
    }

    pub fn read(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.0)?.trim().to_owned())
    }

    pub fn write(&self, secret: &str) -> Result<()> {
        Ok(fs::write(&self.0, format!("{secret}\n"))?)
    }

    pub fn path(&self) -> String {
        self.0.display().to_string()
    }
}

/// What a command has said.
pub(super) struct Said {
    pub succeeded: bool,
    pub text: String,
}

/// All of it.
pub(super) struct Household<'a> {
    pub stage: &'a Stage,
    folder: PathBuf,
    pub relay_password: SecretFile,
    pub kafka_password: SecretFile,
    pub token: SecretFile,
    pub authority: Authority,
    pub admin: Issued,
    client: Issued,
    config: PathBuf,
    /// Everything that any program has said.
    said: RefCell<String>,
}

impl<'a> Household<'a> {
    /// Writes all secrets and the configuration down.
    pub fn found(stage: &'a Stage) -> Result<Self> {
        let folder = stage.folder().to_owned();
        let secret = |name: &str, secret: &str| SecretFile::new(&folder, name, secret);
        let authority = Authority::make(&folder.join("admin-ca"))?;
        let brokers = stage.kafka.authority().context("no authority")?;
        secret("writer", ROLES[1].1)?;
        let mut house = Self {
            stage,
            relay_password: secret("relay", ROLES[0].1)?,
            kafka_password: secret("kafka", USERS[0].1)?,
            token: secret("token", TOKEN)?,
            admin: authority.issue("admin", "localhost", Usage::Server)?,
            authority,
            client: brokers.issue("outboxd", "outboxd", Usage::Client)?,
            config: folder.join("outboxd.toml"),
            said: RefCell::default(),
            folder,
        };
        house.configure()?;
        Ok(house)
    }

    fn configure(&mut self) -> Result<()> {
        let port = self.stage.postgres.port();
        let postgres_ca = self.stage.postgres.ca_path().context("no authority")?;
        let kafka_ca = self.stage.kafka.authority().context("no authority")?;
        let text = format!(
            "log.level = \"debug\"\n\
             admin.tls_cert = \"{cert}\"\nadmin.tls_key = \"{key}\"\nadmin.token_file = \"{token}\"\n\
             [[pipelines]]\n\
             postgres.hosts = [\"localhost:{port}\"]\npostgres.user = \"{RELAY}\"\n\
             postgres.database = \"{DATABASE}\"\npostgres.password_file = \"{password}\"\n\
             postgres.sslmode = \"verify-full\"\npostgres.sslrootcert = \"{ca}\"\n\
             postgres.write_back_user = \"{WRITER}\"\n\
             postgres.write_back_password = {{ file = \"{writer}\" }}\n\
             kafka.bootstrap = \"{sasl}\"\n\
             retry.max_retries = 1\n\
             [pipelines.kafka.properties]\n\
             \"ssl.ca.location\" = \"{kafka_ca}\"\n\
             \"security.protocol\" = \"SASL_SSL\"\n\
             \"sasl.mechanism\" = \"SCRAM-SHA-512\"\n\
             \"sasl.username\" = \"outboxd\"\n\
             \"sasl.password\" = {{ file = \"{kafka_password}\" }}\n",
            cert = self.admin.certificate.display(),
            key = self.admin.key.display(),
            token = self.token.path(),
            password = self.relay_password.path(),
            ca = postgres_ca.display(),
            writer = self.folder.join("writer").display(),
            sasl = self.stage.kafka.sasl_bootstrap().context("no listener")?,
            kafka_ca = kafka_ca.certificate().display(),
            kafka_password = self.kafka_password.path(),
        );
        fs::write(&self.config, text)?;
        Ok(())
    }

    /// What the relay needs to reach the listener for passwords: nothing beyond the file.
    pub fn with_password(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// What it needs to reach the listener for client certificates instead.
    pub fn with_certificate(&self) -> Vec<(String, String)> {
        let property = |name: &str| format!("OUTBOXD_KAFKA_PROPERTIES_{name}");
        let tls = self.stage.kafka.tls_bootstrap().unwrap_or_default();
        vec![
            ("OUTBOXD_KAFKA_BOOTSTRAP".to_owned(), tls),
            (property("SECURITY_PROTOCOL"), "SSL".to_owned()),
            (
                property("SSL_CERTIFICATE_LOCATION"),
                self.client.certificate.display().to_string(),
            ),
            (
                property("SSL_KEY_LOCATION"),
                self.client.key.display().to_string(),
            ),
        ]
    }

    /// What a command needs to be given by an operator.
    pub fn as_operator(&self) -> [(String, String); 1] {
        let url = format!(
            "postgres://{OPERATOR}:{}@localhost:{}/{DATABASE}",
            ROLES[3].1,
            self.stage.postgres.port()
        );
        [("OUTBOXD_POSTGRES_URL".to_owned(), url)]
    }

    /// Starts a relay with the configuration.
    pub fn launch(&self, env: Vec<(String, String)>) -> Result<Relay> {
        let flags = ["--config".to_owned(), self.config.display().to_string()];
        let env: Vec<_> = env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        Relay::launch(&flags, &env, self.stage.folder())
    }

    /// Runs a command with the configuration.
    pub fn outboxd(&self, args: &[&str], env: &[(String, String)]) -> Result<Said> {
        let mut command = Command::new(outboxd()?);
        command.args(args).arg("--config").arg(&self.config);
        self.run(command.envs(env.iter().cloned()))
    }

    /// Runs any command.
    pub fn run(&self, command: &mut Command) -> Result<Said> {
        let output = command.output()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        self.hear(&text);
        Ok(Said {
            succeeded: output.status.success(),
            text,
        })
    }

    /// Remembers what was said.
    pub fn hear(&self, text: &str) {
        self.said.borrow_mut().push_str(text);
    }

    /// Status and body of an admin path, with the token.
    pub fn get(&self, relay: &Relay, path: &str) -> Result<(u16, String)> {
        let token = format!("Authorization: Bearer {}", self.token.read()?);
        self.ask(relay, path, &[&token])
    }

    /// Status and body of an admin path, with these lines of a header.
    pub fn ask(&self, relay: &Relay, path: &str, lines: &[&str]) -> Result<(u16, String)> {
        let authority = self.authority.certificate();
        let (status, body) = https::get(relay.admin(), path, &authority, lines)?;
        self.hear(&body);
        Ok((status, body))
    }

    /// Waits until events can flow.
    pub async fn ready(&self, relay: &Relay) -> Result<()> {
        wait::until("the relay is ready", WITHIN, async || {
            Ok(self
                .get(relay, "/ready")
                .is_ok_and(|(status, _)| status == 200))
        })
        .await
        .map(drop)
        .with_context(|| relay.log_text())
    }

    /// The sum of a metric.
    pub fn metric(&self, relay: &Relay, name: &str) -> Result<f64> {
        let (_, text) = self.get(relay, "/metrics")?;
        let of = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let values = of.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.sum())
    }

    /// Waits until so many events are published.
    pub async fn published(&self, relay: &Relay, count: f64) -> Result<()> {
        wait::until("the events are published", WITHIN, async || {
            Ok(self.metric(relay, PUBLISHED)? >= count)
        })
        .await
        .map(drop)
        .with_context(|| relay.log_text())
    }

    /// The service writes an event of each type.
    pub fn insert(&self, types: &[&str]) -> Result<()> {
        for kind in types {
            let sql = format!(
                "BEGIN; SET LOCAL ROLE {SERVICE}; \
                 INSERT INTO outbox (event_type, payload) VALUES ('{kind}', '{{}}'); COMMIT"
            );
            self.stage.postgres.sql(DATABASE, &sql)?;
        }
        Ok(())
    }

    /// Ends a relay, and keeps what it has logged.
    pub fn stop(&self, relay: Relay) -> Result<()> {
        for path in ["/status", "/ready", "/metrics"] {
            self.get(&relay, path)?;
        }
        let (status, _) = relay.terminate(Duration::from_secs(20))?;
        ensure!(status.success(), "the relay ended with {status}");
        self.hear(&relay.log_text());
        Ok(())
    }

    /// No secret is in anything that was said.
    pub fn shows_no_secret(&self, figures: &mut Figures) -> Result<()> {
        let printed = self.outboxd(&["config", "print"], &[])?;
        ensure!(printed.text.contains("<redacted>"), "{}", printed.text);
        let mut secrets: Vec<String> = ROLES.iter().map(|(_, s)| (*s).to_owned()).collect();
        secrets.extend(USERS.iter().map(|(_, s)| (*s).to_owned()));
        for text in [
            "second-relay-password-77aa",
            "not-the-password-a1b2c3",
            TOKEN,
        ] {
            secrets.push(text.to_owned());
        }
        secrets.push(self.token.read()?);
        for key in [&self.client.key, &self.admin.key] {
            let pem = fs::read_to_string(key)?;
            let body = pem.lines().find(|line| !line.starts_with("---"));
            secrets.push(body.context("an empty key")?.to_owned());
        }
        let said = self.said.borrow();
        for secret in &secrets {
            let place = said.find(secret.as_str());
            let around = place.map(|at| said[..at].lines().last().unwrap_or_default());
            ensure!(place.is_none(), "a secret is shown behind: {around:?}");
        }
        figures.add("secrets", secrets.len());
        figures.add("bytes_without_them", said.len());
        Ok(())
    }
}

//! Secrets in the configuration: wherever one stands, in whatever broken form, no error, print or
//! debug output shows it.

use std::io;
use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};
use outboxd::config::{Config, ConfigErrors, Overrides, load, print};

use crate::config::check_errors;
use crate::connection_url::escaped;

/// A part of every secret. Nothing else holds it.
pub const MARKER: &str = "Zq7hunter2Xw";

/// A secret where an operator could put it, amid other text.
#[derive(Arbitrary, Clone, Debug)]
pub struct Case<'a> {
    /// Where it stands.
    pub place: Place,
    /// What the secret begins with.
    pub before: &'a str,
    /// What the secret ends with.
    pub after: &'a str,
    /// Further lines of the pipeline in the file.
    pub noise: &'a str,
}

/// Where a secret stands.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Place {
    /// `postgres.password`.
    Password(Form),
    /// `postgres.password_file`.
    PasswordFile,
    /// In a URL, which stands where it should or where it should not.
    Url(UrlPart, UrlPlace),
    /// A property of librdkafka, by an index of `SECRET_PROPERTIES`.
    Property(u8, Form),
    /// Any property, by an index of `PROPERTIES`, kept in a variable or a file.
    Reference(u8, Kept),
    /// A variable, by an index of `VARIABLES`.
    Variable(u8),
}

/// How a secret is written in TOML.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A string, escaped as it must be.
    Text,
    /// Between quotes, not escaped, so that it may break the file.
    Raw,
    /// Without quotes.
    Bare,
    /// In a list.
    List,
    /// In a table that is no reference.
    Table,
    /// Elsewhere, by reference.
    Kept(Kept),
}

/// Where a secret is kept outside the file.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In a variable.
    Env,
    /// In a file.
    File,
}

/// Which part of a URL the secret is.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum UrlPart {
    /// The password before the host.
    Userinfo,
    /// The same, every character escaped.
    EscapedUserinfo,
    /// The parameter `password`.
    Parameter,
    /// The same, with a broken parameter behind it.
    ParameterAmongOthers,
}

/// Where the URL stands.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum UrlPlace {
    /// `postgres.url`.
    Key,
    /// The variable.
    Variable,
    /// The flag.
    Flag,
    /// The key of another kind, by an index of `WRONG_KEYS`.
    WrongKey(u8),
}

/// Keys that take no URL, with what stands around the string.
const WRONG_KEYS: [(&str, &str, &str); 5] = [
    ("postgres.hosts", "[", "]"),
    ("postgres.slot", "", ""),
    ("kafka.bootstrap", "", ""),
    ("batch.max_wait", "", ""),
    ("postgres.sslmode", "", ""),
];

/// Properties that hold secrets, some misspelt.
const SECRET_PROPERTIES: [&str; 10] = [
    "sasl.password",
    "sasl.pasword",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.secrets",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
];

/// Properties of every kind: passed through, checked, refused, unknown.
const PROPERTIES: [&str; 8] = [
    "client.id",
    "sasl.username",
    "message.max.bytes",
    "max.in.flight",
    "partitioner",
    "acks",
    "group.id",
    "no.such.property",
];

/// Variables that hold secrets, some misspelt.
const VARIABLES: [&str; 6] = [
    "PGPASSWORD",
    "OUTBOXD_POSTGRES_PASSWORD",
    "OUTBOXD_POSTGRES_PASSWRD",
    "OUTBOXD_KAFKA_PROPERTIES_SASL_PASSWORD",
    "OUTBOXD_KAFKA_PROPERTIES_SASL_PASWORD",
    "OUTBOXD_KAFKA_PROPERTIES_SSL_KEY_PEM",
];

/// All that the process may show of what it loaded.
pub type Show = fn(&Result<Config, ConfigErrors>) -> String;

/// Checks the relay's configuration.
pub fn check(bytes: &[u8]) {
    if let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(bytes)) {
        check_with(&case, show);
    }
}

/// Checks what `show` shows.
pub fn check_with(case: &Case<'_>, show: Show) {
    if !case.makes_sense() {
        return;
    }
    let sources = Sources::of(case);
    let loaded = sources.load();
    let shown = format!("{:?}\n{}", sources.flags, show(&loaded));
    assert!(!shown.contains(MARKER), "{sources:?}\n{shown}");
    match loaded {
        Ok(config) => case.check_kept(&config),
        Err(errors) => check_errors(&errors, &sources.toml),
    }
}

/// `config print`, debug output, and errors in both forms.
pub fn show(loaded: &Result<Config, ConfigErrors>) -> String {
    match loaded {
        Ok(config) => format!("{}\n{config:?}\n{config:#?}", print(config)),
        Err(errors) => format!("{errors}\n{errors:?}\n{errors:#?}"),
    }
}

impl Case<'_> {
    fn secret(&self) -> String {
        format!("{}{MARKER}{}", self.before, self.after)
    }

    /// Whether the marker stands only in the secret, and the secret is what an operator could mean:
    /// one line, and for what is not escaped, no beginning of something else.
    fn makes_sense(&self) -> bool {
        let texts = [self.before, self.after];
        let one_line = !texts.iter().any(|text| text.contains(['\n', '\r']));
        !self.noise.contains(MARKER) && one_line
    }

    /// A secret that is not shown is still there.
    fn check_kept(&self, config: &Config) {
        let Place::Password(Form::Text | Form::Kept(Kept::Env)) = self.place else {
            return;
        };
        let password = config.pipelines.first().map(|p| &p.postgres.password);
        let exposed = password.and_then(|p| p.as_ref()).map(|p| p.expose());
        assert_eq!(exposed, Some(&*self.secret()));
    }

    /// The URL with the secret in it.
    fn url(&self, part: UrlPart) -> String {
        let secret = self.secret();
        let (user, path) = ("postgres://me", "localhost/app");
        match part {
            UrlPart::Userinfo => format!("{user}:{secret}@{path}"),
            UrlPart::EscapedUserinfo => format!("{user}:{}@{path}", escaped(&secret)),
            UrlPart::Parameter => format!("{user}@{path}?password={secret}"),
            UrlPart::ParameterAmongOthers => {
                format!("{user}@{path}?password={secret}&sslmod=disable")
            }
        }
    }
}

/// What a case amounts to.
#[derive(Debug, Default)]
struct Sources {
    toml: String,
    env: Vec<(&'static str, String)>,
    flags: Overrides,
    secret_file: Option<String>,
}

impl Sources {
    fn of(case: &Case<'_>) -> Self {
        let mut sources = Self::default();
        let line = match case.place {
            Place::Password(form) => sources.line("postgres.password", form, case),
            Place::PasswordFile => {
                sources.secret_file = Some(case.secret());
                "postgres.password_file = '/secret'".to_owned()
            }
            Place::Url(part, place) => sources.url(case.url(part), place),
            Place::Property(index, form) => {
                let name = pick(&SECRET_PROPERTIES, index);
                sources.line(&format!("kafka.properties.'{name}'"), form, case)
            }
            Place::Reference(index, kept) => {
                let name = pick(&PROPERTIES, index);
                sources.line(
                    &format!("kafka.properties.'{name}'"),
                    Form::Kept(kept),
                    case,
                )
            }
            Place::Variable(index) => {
                sources.env.push((pick(&VARIABLES, index), case.secret()));
                String::new()
            }
        };
        let url = match case.place {
            Place::Url(_, UrlPlace::Key) => "",
            _ => "postgres.hosts = ['localhost']\npostgres.database = 'app'\n",
        };
        let head = "[[pipelines]]\nkafka.bootstrap = 'localhost:9092'\n";
        sources.toml = format!("{head}{url}{line}\n{}", case.noise);
        sources
    }

    /// A line of the file that sets `key`.
    fn line(&mut self, key: &str, form: Form, case: &Case<'_>) -> String {
        let secret = case.secret();
        match form {
            Form::Text => format!("{key} = {}", quoted(&secret)),
            Form::Raw => format!("{key} = \"{secret}\""),
            Form::Bare => format!("{key} = {secret}"),
            Form::List => format!("{key} = [{}]", quoted(&secret)),
            Form::Table => format!("{key} = {{ secret = {} }}", quoted(&secret)),
            Form::Kept(Kept::Env) => {
                self.env.push(("SECRET", secret));
                format!("{key} = {{ env = 'SECRET' }}")
            }
            Form::Kept(Kept::File) => {
                self.secret_file = Some(secret);
                format!("{key} = {{ file = '/secret' }}")
            }
        }
    }

    /// The line of the file that sets a URL, empty if it comes from elsewhere.
    fn url(&mut self, url: String, place: UrlPlace) -> String {
        match place {
            UrlPlace::Key => return format!("postgres.url = {}", quoted(&url)),
            UrlPlace::Variable => self.env.push(("OUTBOXD_POSTGRES_URL", url)),
            UrlPlace::Flag => self.flags.postgres = Some(url),
            UrlPlace::WrongKey(index) => {
                let (key, open, close) = pick(&WRONG_KEYS, index);
                return format!("{key} = {open}{}{close}", quoted(&url));
            }
        }
        String::new()
    }

    fn load(&self) -> Result<Config, ConfigErrors> {
        let flags = Overrides {
            config: Some("outboxd.toml".into()),
            ..self.flags.clone()
        };
        let env = self.env.iter().map(|(n, v)| ((*n).into(), v.clone()));
        load(&flags, env, |path| self.read(path))
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let text = match path.to_str() {
            Some("outboxd.toml") => Some(self.toml.clone()),
            Some("/secret") => self.secret_file.clone(),
            Some(_) | None => None,
        };
        text.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn pick<T: Copy>(items: &[T], index: u8) -> T {
    items[usize::from(index) % items.len()]
}

/// `text` as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

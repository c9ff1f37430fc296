//! docker-compose.yml as typed values: a key that is not known here is an error.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// The keys used, of those in the Compose specification.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compose {
    pub name: String,
    pub services: BTreeMap<String, Service>,
    pub configs: BTreeMap<String, Inline>,
    pub volumes: BTreeMap<String, Option<BTreeMap<String, String>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    pub image: String,
    pub build: Option<String>,
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub configs: Vec<Mount>,
    pub volumes: Vec<String>,
    pub ports: Vec<String>,
    pub depends_on: BTreeMap<String, Dependency>,
    pub healthcheck: Option<Healthcheck>,
    pub stop_grace_period: Option<String>,
    pub restart: Option<String>,
    pub read_only: bool,
    pub cap_drop: Vec<String>,
    pub security_opt: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inline {
    pub content: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    pub source: String,
    pub target: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    pub condition: Condition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    ServiceHealthy,
    ServiceCompletedSuccessfully,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Healthcheck {
    pub test: Vec<String>,
    pub interval: String,
    pub timeout: String,
    pub retries: u32,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub address: String,
    pub host: u16,
    pub container: u16,
}

/// The file as it stands in the repository.
pub fn read() -> Compose {
    let text = std::fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A duration such as `20s`.
pub fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').unwrap().parse().unwrap()
}

impl Compose {
    pub fn service(&self, name: &str) -> &Service {
        let found = self.services.get(name);
        found.unwrap_or_else(|| panic!("there is no service {name}"))
    }
}

impl Service {
    /// The part of the image's name behind the colon.
    pub fn tag(&self) -> &str {
        self.image.rsplit_once(':').unwrap().1
    }

    pub fn variable(&self, name: &str) -> &str {
        let found = self.environment.get(name);
        found.unwrap_or_else(|| panic!("{name} is not set"))
    }

    pub fn published(&self) -> Vec<Port> {
        let parse = |text: &String| {
            let parts: Vec<&str> = text.split(':').collect();
            let [address, host, container] = parts[..] else {
                panic!("port {text:?} is not ADDRESS:PORT:PORT")
            };
            Port {
                address: address.to_owned(),
                host: host.parse().unwrap(),
                container: container.parse().unwrap(),
            }
        };
        self.ports.iter().map(parse).collect()
    }

    /// The `-c name=value` arguments of a Postgres command.
    pub fn postgres_settings(&self) -> Vec<(String, String)> {
        let (program, arguments) = self.command.split_first().unwrap();
        assert_eq!(program, "postgres");
        let setting = |pair: &[String]| {
            let [flag, setting] = pair else {
                panic!("{pair:?} is not -c name=value")
            };
            assert_eq!(flag, "-c");
            let (name, value) = setting.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        arguments.chunks(2).map(setting).collect()
    }

    /// The broker properties among the variables of the `apache/kafka` image: behind `KAFKA_`, `_`
    /// stands for `.`, `__` for `_` and `___` for `-` (docker/examples/README.md of Kafka).
    pub fn broker_properties(&self) -> BTreeMap<String, String> {
        let named = self.environment.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("KAFKA_")?.to_lowercase();
            let name = name.replace("___", "-").replace("__", "\0");
            Some((name.replace('_', ".").replace('\0', "_"), value.clone()))
        });
        named.collect()
    }

    /// The values of a flag written as `--flag=value`.
    pub fn flags(&self, flag: &str) -> Vec<&str> {
        let prefix = format!("--{flag}=");
        let values = self.command.iter();
        values
            .filter_map(|argument| argument.strip_prefix(prefix.as_str()))
            .collect()
    }
}

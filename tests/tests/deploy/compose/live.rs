//! Plays compose: the same settings, commands and variables, between servers of the testbed.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use scenarios::reader::Reader;
use scenarios::relay::http_get;
use scenarios::stage;
use testbed::{KAFKA_VERSION, Kafka, Postgres, Program, RunFolder};

use super::document::{Compose, Service, read, seconds};

const READY_WITHIN: Duration = Duration::from_secs(60);
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// Where a node listens, keeps its data and finds its peers: no two brokers have these in common,
/// so the testbed's stay. That they fit together is checked without a broker.
const OF_ONE_NODE: [&str; 9] = [
    "node.id",
    "process.roles",
    "controller.quorum.voters",
    "controller.listener.names",
    "inter.broker.listener.name",
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "log.dirs",
];

fn start_postgres(service: &Service) -> Postgres {
    let mut builder = Postgres::builder().version(service.tag().parse().unwrap());
    for (name, value) in service.postgres_settings() {
        builder = builder.setting(&name, &value);
    }
    builder.start().unwrap()
}

fn start_kafka(service: &Service) -> Kafka {
    assert_eq!(service.tag(), KAFKA_VERSION);
    let mut builder = Kafka::builder();
    for (name, value) in service.broker_properties() {
        if !OF_ONE_NODE.contains(&name.as_str()) {
            builder = builder.setting(&name, &value);
        }
    }
    builder.start().unwrap()
}

/// The properties that the broker has, by their names.
fn known_properties(kafka: &Kafka) -> BTreeMap<String, Option<String>> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .create()
        .unwrap();
    let broker = [ResourceSpecifier::Broker(1)];
    let options = AdminOptions::new();
    let describing = admin.describe_configs(&broker, &options);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let described = runtime.block_on(describing).unwrap().remove(0).unwrap();
    let entries = described.entries.into_iter();
    entries.map(|entry| (entry.name, entry.value)).collect()
}

/// The containers' names are not known here, nor are their ports free.
struct Places {
    replacements: Vec<(&'static str, String)>,
}

impl Places {
    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, place) in &self.replacements {
            text = text.replace(name, place);
        }
        text
    }

    fn environment(&self, service: &Service) -> Vec<(String, String)> {
        let variables = service.environment.iter();
        variables
            .map(|(name, value)| (name.clone(), self.text(value)))
            .collect()
    }

    /// Runs outboxd to its end, as the service would.
    fn outboxd<'a>(
        &self,
        service: &Service,
        command: impl IntoIterator<Item = &'a String>,
    ) -> Output {
        Command::new(stage::outboxd().unwrap())
            .args(command)
            .env_clear()
            .envs(self.environment(service))
            .output()
            .unwrap()
    }

    fn run(&self, service: &Service, folder: &RunFolder) -> Program {
        let environment = self.environment(service);
        let environment: Vec<_> = environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let log = folder.path().join("outboxd.log");
        let binary = stage::outboxd().unwrap();
        Program::start(&binary, &service.command, &environment, &log).unwrap()
    }
}

fn require(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn prepare(compose: &Compose, postgres: &Postgres) {
    let service = compose.service("postgres");
    let database = service.variable("POSTGRES_DB");
    let password = service.variable("POSTGRES_PASSWORD");
    let user = service.variable("POSTGRES_USER");
    let sql = |database: &str, sql: &str| drop(postgres.sql(database, sql).unwrap());
    sql("postgres", &format!("CREATE DATABASE {database}"));
    sql(
        "postgres",
        &format!("ALTER ROLE {user} PASSWORD '{password}'"),
    );
    for config in &service.configs {
        assert!(config.target.starts_with("/docker-entrypoint-initdb.d/"));
        assert!(config.target.ends_with(".sql"));
        sql(database, &compose.configs[&config.source].content);
    }
}

#[test]
fn every_setting_is_known_to_the_servers_and_events_flow() {
    let compose = read();
    let postgres = start_postgres(compose.service("postgres"));
    let kafka = start_kafka(compose.service("kafka"));
    check_settings(&compose, &postgres, &kafka);
    prepare(&compose, &postgres);
    let port = testbed::free_port().unwrap();
    let places = Places {
        replacements: vec![
            ("@postgres:5432", format!("@{}", postgres.addr())),
            ("kafka:9092", kafka.bootstrap()),
            ("0.0.0.0:8080", format!("0.0.0.0:{port}")),
        ],
    };

    let init = compose.service("init");
    require(&places.outboxd(init, &init.command));
    let again = require(&places.outboxd(init, &init.command));
    assert!(again.contains("nothing to do"), "{again}");
    check_health_of_kafka(&compose, &kafka, &places);

    let relay = compose.service("outboxd");
    let folder = RunFolder::fresh("compose").unwrap();
    let program = places.run(relay, &folder);
    await_ready(port, &program);
    let health = &relay.healthcheck.as_ref().unwrap().test;
    assert_eq!(health[..2], ["CMD", "outboxd"]);
    require(&places.outboxd(relay, &health[2..]));
    check_flow(&compose, &postgres, &kafka);

    let grace = seconds(relay.stop_grace_period.as_deref().unwrap());
    let ended = program.terminate(Duration::from_secs(grace));
    assert!(ended.unwrap().0.success());
}

fn check_settings(compose: &Compose, postgres: &Postgres, kafka: &Kafka) {
    for (name, _) in compose.service("postgres").postgres_settings() {
        let sql = format!("SELECT source FROM pg_settings WHERE name = '{name}'");
        let rows = postgres.sql("postgres", &sql).unwrap();
        assert_eq!(rows, [[Some("configuration file".to_owned())]], "{name}");
    }
    let known = known_properties(kafka);
    for (name, value) in compose.service("kafka").broker_properties() {
        let found = known.get(&name);
        let found = found.unwrap_or_else(|| panic!("the broker knows no {name}"));
        if !OF_ONE_NODE.contains(&name.as_str()) {
            assert_eq!(found.as_ref(), Some(&value), "{name}");
        }
    }
}

/// `kafka-topics.sh` is `TopicCommand` (bin/kafka-topics.sh of Kafka).
fn check_health_of_kafka(compose: &Compose, kafka: &Kafka, places: &Places) {
    let health = &compose.service("kafka").healthcheck.as_ref().unwrap().test;
    assert_eq!(health[..2], ["CMD", "/opt/kafka/bin/kafka-topics.sh"]);
    let mut tool = kafka.tool("org.apache.kafka.tools.TopicCommand").unwrap();
    tool.args(health[2..].iter().map(|argument| places.text(argument)));
    let topics = require(&tool.output().unwrap());
    let topics: BTreeSet<&str> = topics.lines().collect();
    for topic in compose.service("init").flags("topic") {
        assert!(topics.contains(topic), "{topic} is not in {topics:?}");
    }
}

fn await_ready(port: u16, program: &Program) {
    let address = ([127, 0, 0, 1], port).into();
    let deadline = Instant::now() + READY_WITHIN;
    while !matches!(http_get(address, "/ready"), Ok((200, _))) {
        assert_eq!(program.exit_status(), None, "the relay has ended");
        assert!(Instant::now() < deadline, "the relay is not ready");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Written by the service's role, one event for each topic.
fn check_flow(compose: &Compose, postgres: &Postgres, kafka: &Kafka) {
    let init = compose.service("init");
    let topics = init.flags("topic");
    let database = compose.service("postgres").variable("POSTGRES_DB");
    let role = init.flags("service-role")[0];
    let values: Vec<_> = topics
        .iter()
        .map(|topic| format!("('{topic}', 't-1', '{{}}')"))
        .collect();
    let sql = format!(
        "SET ROLE {role}; INSERT INTO outbox (event_type, transfer_id, payload) VALUES {}",
        values.join(", ")
    );
    postgres.sql(database, &sql).unwrap();
    let reader = Reader::open(&kafka.bootstrap(), &topics).unwrap();
    let arrived: BTreeSet<String> = topics
        .iter()
        .map(|_| reader.next(ARRIVES_WITHIN).unwrap().unwrap().topic)
        .collect();
    let expected: BTreeSet<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
    assert_eq!(arrived, expected);
}

//! What the services say of each other, checked without starting anything.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use outboxd::config::{self, Config, Overrides, SslMode};

use super::document::{Condition, Service, read, seconds};

/// What the relay may need beyond its `shutdown_timeout` until it has ended.
const EXIT_COURTESY: Duration = Duration::from_secs(3);

fn load(service: &Service) -> Config {
    let no_file = |path: &Path| Err(std::io::Error::other(path.display().to_string()));
    config::load(&Overrides::default(), service.environment.clone(), no_file)
        .unwrap_or_else(|errors| panic!("{errors}"))
}

fn listeners(list: &str) -> BTreeMap<&str, (&str, u16)> {
    let parse = |listener| {
        let (name, address) = str::split_once(listener, "://").unwrap();
        let (host, port) = address.rsplit_once(':').unwrap();
        (name, (host, port.parse().unwrap()))
    };
    list.split(',').map(parse).collect()
}

#[test]
fn every_service_waits_for_what_can_tell_that_it_is_there() {
    let compose = read();
    for (name, service) in &compose.services {
        for (other, dependency) in &service.depends_on {
            let other_service = compose.service(other);
            match dependency.condition {
                Condition::ServiceHealthy => {
                    assert!(
                        other_service.healthcheck.is_some(),
                        "{name} waits for {other}"
                    );
                }
                Condition::ServiceCompletedSuccessfully => {
                    assert_eq!(other_service.restart, None, "{other} must end");
                }
            }
        }
    }
    let init = &compose.service("init").depends_on;
    assert_eq!(init["postgres"].condition, Condition::ServiceHealthy);
    assert_eq!(init["kafka"].condition, Condition::ServiceHealthy);
    let relay = &compose.service("outboxd").depends_on;
    assert_eq!(
        relay["init"].condition,
        Condition::ServiceCompletedSuccessfully
    );
}

#[test]
fn volumes_and_configs_are_declared_and_used() {
    let compose = read();
    let services = || compose.services.values();
    let mounts = services().flat_map(|s| &s.volumes);
    let mut volumes: Vec<_> = mounts.map(|m| m.split_once(':').unwrap().0).collect();
    volumes.sort_unstable();
    assert_eq!(volumes, compose.volumes.keys().collect::<Vec<_>>());
    let configs = services().flat_map(|s| &s.configs);
    let configs: Vec<_> = configs.map(|c| &c.source).collect();
    assert_eq!(configs, compose.configs.keys().collect::<Vec<_>>());
}

#[test]
fn what_is_published_is_listened_on_and_stays_on_this_machine() {
    let compose = read();
    for service in compose.services.values() {
        for port in service.published() {
            assert_eq!(port.address, "127.0.0.1", "{port:?}");
        }
    }
    let only = |service: &str| match &compose.service(service).published()[..] {
        [port] => port.clone(),
        ports => panic!("{service}: {ports:?}"),
    };
    assert_eq!(only("postgres").container, 5432);
    let admin = load(compose.service("outboxd")).admin.listen;
    assert!(admin.ip().is_unspecified(), "{admin}");
    assert_eq!(only("outboxd").container, admin.port());
    let kafka = compose.service("kafka");
    let bound = listeners(kafka.variable("KAFKA_LISTENERS"));
    let advertised = listeners(kafka.variable("KAFKA_ADVERTISED_LISTENERS"));
    assert_eq!(only("kafka").container, bound["HOST"].1);
    assert_eq!(("localhost", only("kafka").host), advertised["HOST"]);
}

#[test]
fn the_listeners_of_kafka_fit_together() {
    let compose = read();
    let kafka = compose.service("kafka");
    let bound = listeners(kafka.variable("KAFKA_LISTENERS"));
    let advertised = listeners(kafka.variable("KAFKA_ADVERTISED_LISTENERS"));
    let protocols: BTreeMap<_, _> = kafka
        .variable("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP")
        .split(',')
        .map(|entry| entry.split_once(':').unwrap())
        .collect();
    let controller = kafka.variable("KAFKA_CONTROLLER_LISTENER_NAMES");
    let names: Vec<_> = bound.keys().collect();
    assert_eq!(names, protocols.keys().collect::<Vec<_>>());
    let public: Vec<_> = bound.keys().filter(|name| **name != controller).collect();
    assert_eq!(public, advertised.keys().collect::<Vec<_>>());
    for (name, (_, port)) in &advertised {
        assert_eq!(*port, bound[name].1, "{name}");
    }
    let inner = kafka.variable("KAFKA_INTER_BROKER_LISTENER_NAME");
    assert_eq!(advertised[inner].0, "kafka");
    let voter = format!(
        "{}@kafka:{}",
        kafka.variable("KAFKA_NODE_ID"),
        bound[controller].1
    );
    assert_eq!(kafka.variable("KAFKA_CONTROLLER_QUORUM_VOTERS"), voter);
    let data = kafka.variable("KAFKA_LOG_DIRS");
    assert_eq!(kafka.volumes, [format!("kafka-data:{data}")]);
}

#[test]
fn both_commands_of_outboxd_are_told_where_postgres_and_kafka_are() {
    let compose = read();
    let (postgres, kafka) = (compose.service("postgres"), compose.service("kafka"));
    let broker = listeners(kafka.variable("KAFKA_ADVERTISED_LISTENERS"))["INTERNAL"];
    for name in ["init", "outboxd"] {
        let config = load(compose.service(name));
        let [pipeline] = &config.pipelines[..] else {
            panic!("{name}: one pipeline is expected")
        };
        let hosts: Vec<_> = pipeline
            .postgres
            .hosts
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(hosts, ["postgres:5432"]);
        assert_eq!(pipeline.postgres.database, postgres.variable("POSTGRES_DB"));
        assert_eq!(pipeline.postgres.sslmode, SslMode::Disable);
        let (host, port) = broker;
        assert_eq!(pipeline.kafka.bootstrap, format!("{host}:{port}"));
    }
    let health = &postgres.healthcheck.as_ref().unwrap().test;
    let database = format!("--dbname={}", postgres.variable("POSTGRES_DB"));
    assert!(health.contains(&database), "{health:?}");
}

#[test]
fn users_and_passwords_are_those_that_were_made() {
    let compose = read();
    let postgres = compose.service("postgres");
    let init = compose.service("init");
    let relay = compose.service("outboxd");
    let user = |service: &Service| load(service).pipelines[0].postgres.user.clone();
    assert_eq!(user(init), postgres.variable("POSTGRES_USER"));
    assert_eq!(
        init.variable("PGPASSWORD"),
        postgres.variable("POSTGRES_PASSWORD")
    );
    assert_eq!(init.flags("role"), [user(relay)]);
    let roles = &compose.configs["roles"].content;
    let made = format!(
        "CREATE ROLE {} LOGIN REPLICATION PASSWORD '{}';",
        user(relay),
        relay.variable("PGPASSWORD")
    );
    assert!(roles.contains(&made), "{made}");
    let [service] = init.flags("service-role")[..] else {
        panic!("one --service-role is expected")
    };
    assert!(roles.contains(&format!("CREATE ROLE {service} LOGIN")));
}

#[test]
fn the_topics_that_init_makes_are_allowed() {
    let compose = read();
    let pipeline = &load(compose.service("outboxd")).pipelines[0];
    let topics = compose.service("init").flags("topic");
    assert!(!topics.is_empty());
    for topic in topics {
        assert_eq!(pipeline.topics.check(topic), Ok(()), "{topic}");
    }
}

#[test]
fn a_stop_leaves_time_to_drain() {
    let compose = read();
    let relay = compose.service("outboxd");
    let grace = seconds(relay.stop_grace_period.as_deref().unwrap());
    let needed = load(relay).shutdown_timeout + EXIT_COURTESY;
    assert!(Duration::from_secs(grace) > needed, "{grace} s");
}

#[test]
fn the_relay_runs_without_rights_and_is_restarted() {
    let compose = read();
    let relay = compose.service("outboxd");
    assert!(relay.read_only);
    assert_eq!(relay.cap_drop, ["ALL"]);
    assert_eq!(relay.security_opt, ["no-new-privileges:true"]);
    assert_eq!(relay.restart.as_deref(), Some("unless-stopped"));
    let init = compose.service("init");
    assert_eq!((&init.image, &init.build), (&relay.image, &relay.build));
}

#[test]
fn servers_have_a_minute_to_become_healthy() {
    let compose = read();
    assert_eq!(compose.name, "outboxd");
    for name in ["postgres", "kafka"] {
        let health = compose.service(name).healthcheck.as_ref().unwrap();
        let patience = seconds(&health.interval) * u64::from(health.retries);
        assert!(patience >= 60, "{name}: {patience} s");
        assert!(seconds(&health.timeout) >= 5, "{name}");
    }
}

/// Up to 17 the data lay in /var/lib/postgresql/data; from 18 on the image's volume is the folder
/// above it.
#[test]
fn the_data_of_postgres_is_kept() {
    let compose = read();
    let postgres = compose.service("postgres");
    let major: u32 = postgres.tag().parse().unwrap();
    assert!(major >= 18);
    assert_eq!(postgres.volumes, ["postgres-data:/var/lib/postgresql"]);
}

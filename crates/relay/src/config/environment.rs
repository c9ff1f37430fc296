//! Environment variables into a draft.

use super::draft::{Draft, Scope};
use super::error::{Fault, Faults, Place, quoted};
use super::field::{Field, Sources};
use super::keys::{CONSUMER, GLOBAL, Key, PIPELINE, TABLE, find};
use super::nearest::nearest;
use super::value::Value;

/// Beginning of the variables that are the relay's own.
pub(super) const PREFIX: &str = "OUTBOXD_";
/// The variable that names the configuration file.
pub(super) const FILE: &str = "OUTBOXD_CONFIG";
/// What stands in the variables of tables between prefix and key.
pub(super) const TABLES: &str = "TABLES_";
/// What stands in the variables of consumers between prefix and key.
pub(super) const CONSUMERS: &str = "CONSUMERS_";
/// Beginning of the variables that set librdkafka properties.
pub(super) const PROPERTIES: &str = "OUTBOXD_KAFKA_PROPERTIES_";

/// A variable without prefix that deployments of relays commonly set.
pub(super) struct Plain {
    pub name: &'static str,
    pub path: &'static str,
    /// What the number counts, to be put behind it.
    pub unit: &'static str,
}

/// Variables without prefix. The ones with prefix override them.
pub(super) const PLAIN: [Plain; 5] = [
    Plain {
        name: "RETRY_MAX",
        path: "retry.max_retries",
        unit: "",
    },
    Plain {
        name: "BATCH_SIZE",
        path: "batch.max_events",
        unit: "",
    },
    Plain {
        name: "CONCURRENCY",
        path: "concurrency",
        unit: "",
    },
    Plain {
        name: "BACKOFF_INITIAL_MS",
        path: "retry.initial_backoff",
        unit: "ms",
    },
    Plain {
        name: "BACKOFF_MAX_MS",
        path: "retry.max_backoff",
        unit: "ms",
    },
];

/// Reads every variable that concerns the relay. Empty ones count as not set.
pub(super) fn read(draft: &mut Draft, sources: &Sources<'_>, faults: &mut Faults) {
    let set = |name: &str| sources.env.get(name).filter(|value| !value.is_empty());
    for plain in &PLAIN {
        if let Some(value) = set(plain.name) {
            read_plain(plain, value, draft, sources, faults);
        }
    }
    let own = sources.env.iter().filter(|(name, value)| {
        name.starts_with(PREFIX)
            && *name != FILE
            && !value.is_empty()
            && !is_service_link(name, value)
    });
    for (name, value) in own {
        let place = Place::Variable(name.clone());
        let known = read_property(name, value, draft, &place, sources, faults)
            || read_key(name, value, draft, &place, sources, faults);
        if !known {
            faults.push(&place, "", unknown(name));
        }
    }
}

fn read_plain(
    plain: &Plain,
    value: &str,
    draft: &mut Draft,
    sources: &Sources<'_>,
    faults: &mut Faults,
) {
    let place = Place::Variable(plain.name.into());
    let digits = value.trim();
    if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
        let fault = Fault::new(
            format!("{} is not a whole number", quoted(value)),
            "write digits",
        );
        return faults.push(&place, plain.path, fault);
    }
    let Some(key) = find(PIPELINE, plain.path) else {
        return;
    };
    for pipeline in &mut draft.pipelines {
        let value = Value::Untyped(format!("{digits}{}", plain.unit));
        pipeline.settings.set(key, value, &place, sources, faults);
    }
}

/// `OUTBOXD_KAFKA_PROPERTIES_SASL_USERNAME` is the property `sasl.username`.
fn read_property(
    name: &str,
    value: &str,
    draft: &mut Draft,
    place: &Place,
    sources: &Sources<'_>,
    faults: &mut Faults,
) -> bool {
    let (Some(property), Some(key)) = (
        name.strip_prefix(PROPERTIES),
        find(PIPELINE, "kafka.properties"),
    ) else {
        return false;
    };
    let property = property.to_lowercase().replace('_', ".");
    for pipeline in &mut draft.pipelines {
        let entry = (&*property, Value::Untyped(value.into()));
        pipeline
            .settings
            .set_entry(key, entry, place, sources, faults);
    }
    true
}

fn read_key(
    name: &str,
    value: &str,
    draft: &mut Draft,
    place: &Place,
    sources: &Sources<'_>,
    faults: &mut Faults,
) -> bool {
    let mut reader = Variable {
        name,
        value,
        place,
        sources,
        faults,
    };
    if reader.set(GLOBAL, "", [&mut draft.global]) {
        return true;
    }
    let mut settings = Vec::new();
    let mut tables = Vec::new();
    let mut consumers = Vec::new();
    for pipeline in &mut draft.pipelines {
        // Without a file, variables name the only one.
        if is_of(CONSUMER, CONSUMERS, name) && pipeline.consumers.is_empty() {
            pipeline.consumers.push(pipeline.next_consumer());
        }
        settings.push(&mut pipeline.settings);
        tables.extend(&mut pipeline.tables);
        consumers.extend(&mut pipeline.consumers);
    }
    reader.set(PIPELINE, "", settings)
        || reader.set(TABLE, TABLES, tables)
        || reader.set(CONSUMER, CONSUMERS, consumers)
}

fn is_of<T>(keys: &[Key<T>], section: &str, name: &str) -> bool {
    keys.iter().any(|key| key.variable(section) == name)
}

struct Variable<'a> {
    name: &'a str,
    value: &'a str,
    place: &'a Place,
    sources: &'a Sources<'a>,
    faults: &'a mut Faults,
}

impl Variable<'_> {
    /// Sets the key of this name in all `scopes`; false if there is no such key.
    fn set<'s, T: 'static>(
        &mut self,
        keys: &'static [Key<T>],
        section: &str,
        scopes: impl IntoIterator<Item = &'s mut Scope<T>>,
    ) -> bool {
        let Some(key) = keys.iter().find(|key| key.variable(section) == self.name) else {
            return false;
        };
        for scope in scopes {
            match (key.field)(&mut scope.draft) {
                Field::Properties(_) => {
                    let fault = Fault::new(
                        "sets no property",
                        format!("name the property: {PROPERTIES}LINGER_MS=5"),
                    );
                    self.faults.push(self.place, key.path, fault);
                }
                Field::HeaderColumns(_) => self.set_pairs(key, scope),
                _ => {
                    let value = Value::Untyped(self.value.into());
                    scope.set(key, value, self.place, self.sources, self.faults);
                }
            }
        }
        true
    }

    /// `header=column,header=column`.
    fn set_pairs<T: 'static>(&mut self, key: &'static Key<T>, scope: &mut Scope<T>) {
        for pair in self.value.split(',') {
            let Some((name, value)) = pair.split_once('=') else {
                let fault = Fault::new(
                    format!("{} is not a pair", quoted(pair)),
                    "write header=column, several separated by commas",
                );
                self.faults.push(self.place, key.path, fault);
                continue;
            };
            let entry = (name.trim(), Value::Untyped(value.trim().into()));
            scope.set_entry(key, entry, self.place, self.sources, self.faults);
        }
    }
}

/// Kubernetes and Docker links set variables for each service beside a container, such as
/// `OUTBOXD_PORT=tcp://…` for one called `outboxd`. They are not settings.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_port_part = |rest: &str| {
        let mut parts = rest.split('_');
        parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
            && parts
                .next()
                .is_some_and(|protocol| ["TCP", "UDP", "SCTP"].contains(&protocol))
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && ["tcp://", "udp://"].iter().any(|p| value.starts_with(p)))
        || name
            .match_indices("_PORT_")
            .any(|(at, mark)| name.get(at + mark.len()..).is_some_and(is_port_part))
}

/// Every variable with the prefix, except those of properties.
pub(super) fn names() -> Vec<String> {
    let global = GLOBAL.iter().map(|key| key.variable(""));
    let pipelines = PIPELINE.iter().map(|key| key.variable(""));
    let tables = TABLE.iter().map(|key| key.variable(TABLES));
    let consumers = CONSUMER.iter().map(|key| key.variable(CONSUMERS));
    global
        .chain(pipelines)
        .chain(tables)
        .chain(consumers)
        .chain([FILE.to_string()])
        .collect()
}

fn unknown(name: &str) -> Fault {
    let names = names();
    // Without the prefix, which would make every name look near.
    let bare = |name: &str| name.trim_start_matches(PREFIX).to_string();
    let bare_names: Vec<_> = names.iter().map(|name| bare(name)).collect();
    let remedy = match nearest(&bare(name), bare_names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {PREFIX}{near}?"),
        None => "unset it; docs/configuration.md lists the names".to_string(),
    };
    Fault::new("unknown variable", remedy)
}

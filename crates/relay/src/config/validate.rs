//! A draft into a configuration: what keys leave open is filled in, and keys are checked against
//! each other.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::hash::Hash;

use envelope::{
    HeaderColumn, TableSpec, TopicPattern, TopicPatternError, TopicPolicy, TopicTemplate,
};

use super::connection;
use super::consumers::ConsumerSpec;
use super::dead_letter::DeadLetterSpec;
use super::decrypt;
use super::draft::{ConsumerDraft, Draft, PipelineDraft, PipelineScope, Scope, TableDraft};
use super::error::{Fault, Faults};
use super::field::{Sources, secret_file};
use super::kafka::Kafka;
use super::keys::is_topic_name;
use super::pipeline::{Pipeline, SinkKind};
use super::{Admin, Config};

/// The configuration that `draft` means, as far as there are no faults.
pub(super) fn finish(draft: &Draft, sources: &Sources<'_>, faults: &mut Faults) -> Config {
    let mut pipelines: Vec<_> = draft
        .pipelines
        .iter()
        .map(|scope| pipeline(scope, sources, faults))
        .collect();
    let scopes: Vec<_> = draft
        .pipelines
        .iter()
        .map(|scope| &scope.settings)
        .collect();
    check_unique(&scopes, &pipelines, faults);
    check_consumers(draft, faults);
    check_otlp(&draft.global, faults);
    let checkpoints: Vec<_> = pipelines
        .iter()
        .map(|pipeline| pipeline.kafka.checkpoint_topic.clone())
        .collect();
    for pipeline in &mut pipelines {
        // An event among the checkpoints of any pipeline would corrupt them; one among the dead
        // letters would be taken for one.
        let dead_letters = pipeline.dead_letters.iter().map(|spec| spec.topic.clone());
        let denied = checkpoints.iter().cloned().chain(dead_letters);
        pipeline.topics.deny.extend(denied);
    }
    Config {
        pipelines,
        admin: admin(&draft.global, sources, faults),
        ..draft.global.draft.clone()
    }
}

/// Shorter tokens can be guessed.
const TOKEN_CHARS_MIN: usize = 16;

fn admin(scope: &Scope<Config>, sources: &Sources<'_>, faults: &mut Faults) -> Admin {
    let mut admin = scope.draft.admin.clone();
    let mut report = |path, fault| scope.fault(scope.place(path), path, fault, faults);
    match (&admin.tls_cert, &admin.tls_key) {
        (Some(_), None) => report(
            "admin.tls_cert",
            Fault::new(
                "needs admin.tls_key",
                "give the certificate's key, or remove it",
            ),
        ),
        (None, Some(_)) => report(
            "admin.tls_key",
            Fault::new(
                "needs admin.tls_cert",
                "give the key's certificate, or remove it",
            ),
        ),
        (Some(_), Some(_)) | (None, None) => {}
    }
    let path = "admin.token_file";
    match admin
        .token_file
        .as_deref()
        .map(|file| secret_file(file, sources))
    {
        Some(Ok(token)) if token.expose().trim().chars().count() < TOKEN_CHARS_MIN => report(
            path,
            Fault::new(
                "the file holds no token of 16 characters or more",
                "write one there, such as the output of: openssl rand -hex 32",
            ),
        ),
        Some(Ok(token)) => admin.token = Some(token),
        Some(Err(fault)) => report(path, fault),
        None => {}
    }
    admin
}

/// What is asked for needs somewhere to go.
fn check_otlp(scope: &Scope<Config>, faults: &mut Faults) {
    let otlp = &scope.draft.otlp;
    // A faulty endpoint is reported as that.
    if otlp.endpoint.is_some() || scope.is_given("otlp.endpoint") {
        return;
    }
    let asked = [("otlp.metrics", otlp.metrics), ("otlp.logs", otlp.logs)];
    for (path, _) in asked.into_iter().filter(|(_, is_asked)| *is_asked) {
        let fault = Fault::new(
            "needs otlp.endpoint",
            "give the URL of a collector, or set this to false",
        );
        scope.fault(scope.place(path), path, fault, faults);
    }
}

fn pipeline(scope: &PipelineScope, sources: &Sources<'_>, faults: &mut Faults) -> Pipeline {
    let settings = &scope.settings;
    let draft = &settings.draft;
    check_bounds(settings, faults);
    check_tables(&scope.tables, faults);
    Pipeline {
        name: draft.name.clone(),
        mode: draft.mode,
        sink: draft.sink,
        concurrency: draft.concurrency,
        postgres: connection::resolve(settings, sources, faults),
        kafka: kafka(settings, faults),
        tables: scope
            .tables
            .iter()
            .map(|table| table_spec(table, faults))
            .collect(),
        states: scope
            .tables
            .iter()
            .map(|table| table.draft.state.clone())
            .collect(),
        topics: topic_policy(settings, faults),
        decrypt: decrypt::resolve(settings, faults),
        batch: draft.batch.clone(),
        event: draft.event.clone(),
        retry: draft.retry.clone(),
        sla: draft.sla.clone(),
        dead_letters: scope
            .tables
            .iter()
            .map(|table| dead_letter(table, faults))
            .collect(),
        dead_letter_bounds: draft.dead_letter_bounds.clone(),
        write_back: draft.write_back.clone(),
        retention: draft.retention.clone(),
        backfill: draft.backfill.clone(),
        consumers: scope
            .consumers
            .iter()
            .map(|consumer| consumer_spec(consumer, faults))
            .collect(),
        consumer_lag: draft.consumer_lag.clone(),
    }
}

fn consumer_spec(scope: &Scope<ConsumerDraft>, faults: &mut Faults) -> ConsumerSpec {
    let draft = &scope.draft;
    if draft.group.is_none() && !scope.is_given("group") {
        let fault = Fault::new("no group is given", "give group its group.id");
        scope.fault(scope.place("group"), "group", fault, faults);
    }
    let group = draft.group.clone().unwrap_or_default();
    ConsumerSpec {
        service: draft.service.clone().unwrap_or_else(|| group.clone()),
        group,
        topics: patterns(&draft.topics, "topics", scope, faults),
        offset_reset: draft.offset_reset,
    }
}

/// One series must not tell of two groups.
fn check_consumers(draft: &Draft, faults: &mut Faults) {
    let mut services = BTreeSet::new();
    let consumers = draft
        .pipelines
        .iter()
        .flat_map(|pipeline| &pipeline.consumers);
    for scope in consumers {
        let ConsumerDraft { group, service, .. } = &scope.draft;
        let Some(service) = service.as_ref().or(group.as_ref()) else {
            continue;
        };
        if !services.insert(service) {
            let path = if scope.is_given("service") {
                "service"
            } else {
                "group"
            };
            let fault = Fault::new(
                format!("{service} is the service of another consumer too"),
                "give each consumer a service of its own",
            );
            scope.fault(scope.place(path), path, fault, faults);
        }
    }
}

fn kafka(scope: &Scope<PipelineDraft>, faults: &mut Faults) -> Kafka {
    let draft = &scope.draft.kafka;
    let path = "kafka.bootstrap";
    if draft.bootstrap.is_none() && !scope.is_given(path) && scope.draft.sink == SinkKind::Kafka {
        let fault = Fault::new(
            "no broker is given",
            "give --kafka HOST:PORT, OUTBOXD_KAFKA_BOOTSTRAP, or kafka.bootstrap in the file; or \
             set sink to stdout to try without Kafka",
        );
        scope.fault(scope.place(path), path, fault, faults);
    }
    let fill_in = |template: &str| template.replace("{name}", &scope.draft.name);
    let kafka = Kafka {
        bootstrap: draft.bootstrap.clone().unwrap_or_default(),
        checkpoint_topic: fill_in(&draft.checkpoint_topic),
        transactional_id_prefix: fill_in(&draft.transactional_id_prefix),
        transaction_timeout: draft.transaction_timeout,
        properties: draft.properties.clone(),
        topics: draft.topics.clone(),
    };
    let names = [
        ("kafka.checkpoint_topic", &kafka.checkpoint_topic),
        (
            "kafka.transactional_id_prefix",
            &kafka.transactional_id_prefix,
        ),
    ];
    for (path, _) in names.iter().filter(|(_, name)| !is_topic_name(name)) {
        let fault = Fault::new(
            "is no valid name once {name} is filled in",
            "keep it to 1 to 249 of a-z, A-Z, 0-9, ., _ and -",
        );
        scope.fault(scope.place(path), path, fault, faults);
    }
    kafka
}

fn dead_letter(scope: &Scope<TableDraft>, faults: &mut Faults) -> DeadLetterSpec {
    let draft = &scope.draft;
    let service = draft.service.as_ref().unwrap_or(&draft.table);
    let topic = draft.dead_letter.topic.replace("{service}", service);
    if !is_topic_name(&topic) {
        let path = "dead_letter_topic";
        let fault = Fault::new(
            format!("{topic:?} is no valid name of a topic"),
            "give dead_letter_topic 1 to 249 of a-z, A-Z, 0-9, ., _ and -",
        );
        scope.fault(scope.place(path), path, fault, faults);
    }
    DeadLetterSpec {
        topic,
        ..draft.dead_letter.clone()
    }
}

/// Checks keys of one pipeline against each other.
fn check_bounds(scope: &Scope<PipelineDraft>, faults: &mut Faults) {
    let PipelineDraft {
        batch,
        event,
        retry,
        kafka,
        ..
    } = &scope.draft;
    let mut check = |holds: bool, path: &str, problem: &str, remedy: &str| {
        if !holds {
            scope.fault(scope.place(path), path, Fault::new(problem, remedy), faults);
        }
    };
    check(
        retry.initial_backoff <= retry.max_backoff,
        later(scope, "retry.initial_backoff", "retry.max_backoff"),
        "retry.initial_backoff is above retry.max_backoff",
        "raise retry.max_backoff or lower retry.initial_backoff",
    );
    check(
        event.max_bytes <= batch.max_bytes,
        later(scope, "event.max_bytes", "batch.max_bytes"),
        "event.max_bytes is above batch.max_bytes: such an event would fit into no window",
        "raise batch.max_bytes or lower event.max_bytes",
    );
    check(
        batch.max_wait * 2 <= kafka.transaction_timeout,
        later(scope, "batch.max_wait", "kafka.transaction_timeout"),
        "batch.max_wait leaves less than half of kafka.transaction_timeout for the commit",
        "raise kafka.transaction_timeout or lower batch.max_wait",
    );
    let (replicas, in_sync) = (
        kafka.topics.replication_factor,
        kafka.topics.min_insync_replicas,
    );
    check(
        replicas.is_none_or(|replicas| in_sync.is_none_or(|in_sync| in_sync <= replicas)),
        later(
            scope,
            "kafka.topics.min_insync_replicas",
            "kafka.topics.replication_factor",
        ),
        "kafka.topics.min_insync_replicas is above kafka.topics.replication_factor: nothing could \
         be written",
        "lower it; one less than the replicas survives the loss of one broker",
    );
    let largest = kafka
        .properties
        .get("message.max.bytes")
        .map(|p| p.expose().parse::<usize>());
    check(
        !matches!(largest, Some(Ok(largest)) if largest < event.max_bytes),
        later(scope, "kafka.properties", "event.max_bytes"),
        "message.max.bytes is below event.max_bytes: librdkafka would refuse events that are \
         allowed",
        "raise message.max.bytes or lower event.max_bytes",
    );
}

/// The one of two keys that came from the later source, where an operator looks first.
fn later<'a>(scope: &Scope<PipelineDraft>, first: &'a str, second: &'a str) -> &'a str {
    if scope.place(second).rank() > scope.place(first).rank() {
        second
    } else {
        first
    }
}

fn topic_policy(scope: &Scope<PipelineDraft>, faults: &mut Faults) -> TopicPolicy {
    let path = "topics.allow";
    let allow = patterns(&scope.draft.topics.allow, path, scope, faults);
    if scope.draft.topics.allow.is_empty() {
        let fault = Fault::new(
            "allows no topic",
            "list patterns, or [\"*\"] to allow every topic",
        );
        scope.fault(scope.place(path), path, fault, faults);
    }
    TopicPolicy {
        allow,
        deny: scope.draft.topics.deny.iter().cloned().collect(),
    }
}

/// Reads patterns of topics, which `path` holds.
pub(super) fn patterns<T>(
    given: &[String],
    path: &str,
    scope: &Scope<T>,
    faults: &mut Faults,
) -> Vec<TopicPattern> {
    let mut patterns = Vec::with_capacity(given.len());
    for pattern in given {
        match pattern.parse() {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                let error: TopicPatternError = error;
                let remedy = "write topic names with * for any characters, such as \"transfers.*\"";
                let fault = Fault::new(error.to_string(), remedy);
                scope.fault(scope.place(path), path, fault, faults);
            }
        }
    }
    patterns
}

fn table_spec(scope: &Scope<TableDraft>, faults: &mut Faults) -> TableSpec {
    let draft = &scope.draft;
    let topic = draft.topic.parse::<TopicTemplate>().unwrap_or_else(|error| {
        let fault = Fault::new(
            error.to_string(),
            "write a topic name with placeholders, such as \"{type}\" or \"outbox.{type.domain}\"",
        );
        scope.fault(scope.place("topic"), "topic", fault, faults);
        TopicTemplate::default()
    });
    let header = |(header, column): (&String, &String)| HeaderColumn {
        header: header.clone(),
        column: column.clone(),
    };
    TableSpec {
        schema: draft.schema.clone(),
        table: draft.table.clone(),
        service: draft.service.clone().unwrap_or_else(|| draft.table.clone()),
        columns: draft.columns.clone(),
        topic,
        key: draft.key.clone(),
        format: draft.format,
        headers: draft.header_columns.iter().map(header).collect(),
    }
}

fn check_tables(tables: &[Scope<TableDraft>], faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for scope in tables {
        let TableDraft {
            schema,
            table,
            header_columns,
            ..
        } = &scope.draft;
        if !seen.insert((schema, table)) {
            let fault = Fault::new(
                format!("{schema}.{table} stands twice in this pipeline"),
                "remove one of the two, or name another table",
            );
            scope.fault(scope.place("table"), "table", fault, faults);
        }
        let reserved = |name: &&String| {
            envelope::RESERVED_HEADERS
                .iter()
                .any(|reserved| name.eq_ignore_ascii_case(reserved))
        };
        for name in header_columns.keys().filter(reserved) {
            let path = "header_columns";
            let fault = Fault::new(
                format!("the relay sets the header {name:?} itself"),
                "name another",
            );
            scope.fault(scope.place(path), path, fault, faults);
        }
    }
}

/// Checks what pipelines must not share.
fn check_unique(scopes: &[&Scope<PipelineDraft>], pipelines: &[Pipeline], faults: &mut Faults) {
    let mut names = Unique::new("name", "is the name of", "name each pipeline");
    let mut slots = Unique::new(
        "postgres.slot",
        "is on the same server the slot of",
        "give each pipeline a slot of its own",
    );
    let mut topics = Unique::new(
        "kafka.checkpoint_topic",
        "is the checkpoint topic of",
        "give each pipeline one of its own, for example with {name} in it",
    );
    let mut ids = Unique::new(
        "kafka.transactional_id_prefix",
        "is the transactional id prefix of",
        "give each pipeline one of its own, for example with {name} in it",
    );
    for (scope, pipeline) in scopes.iter().zip(pipelines) {
        names.check(scope, [pipeline.name.clone()], &pipeline.name, faults);
        let hosts = pipeline.postgres.hosts.iter().cloned();
        let slot = &pipeline.postgres.slot;
        slots.check(scope, hosts.map(|host| (host, slot.clone())), slot, faults);
        let kafka = &pipeline.kafka;
        topics.check(
            scope,
            [kafka.checkpoint_topic.clone()],
            &kafka.checkpoint_topic,
            faults,
        );
        let prefix = &kafka.transactional_id_prefix;
        ids.check(scope, [prefix.clone()], prefix, faults);
    }
}

/// Values of one key that pipelines must not share, with the pipeline that has them.
struct Unique<K> {
    path: &'static str,
    relation: &'static str,
    remedy: &'static str,
    owners: HashMap<K, String>,
}

impl<K: Eq + Hash> Unique<K> {
    fn new(path: &'static str, relation: &'static str, remedy: &'static str) -> Self {
        Self {
            path,
            relation,
            remedy,
            owners: HashMap::new(),
        }
    }

    fn check(
        &mut self,
        scope: &Scope<PipelineDraft>,
        claims: impl IntoIterator<Item = K>,
        shown: &dyn Display,
        faults: &mut Faults,
    ) {
        let mut other = None;
        for claim in claims {
            let owner = scope.prefix.trim_end_matches('.').to_string();
            other = other.or(self.owners.insert(claim, owner));
        }
        if let Some(other) = other {
            let problem = format!("{shown} {} {other} too", self.relation);
            let fault = Fault::new(problem, self.remedy);
            scope.fault(scope.place(self.path), self.path, fault, faults);
        }
    }
}

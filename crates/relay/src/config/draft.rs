//! Settings as they were given, before defaults between keys are filled in and keys are checked
//! against each other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use envelope::{ColumnMap, Format, TableSpec, TopicPolicy};

use super::Config;
use super::consumers::{ConsumerLag, ConsumerSpec, OffsetReset};
use super::dead_letter::{DeadLetterBounds, DeadLetterSpec};
use super::decrypt::DecryptDraft;
use super::error::{Fault, Faults, Place};
use super::field::Sources;
use super::kafka::{Kafka, Property, TopicDefaults};
use super::keys::Key;
use super::pipeline::{Backfill, Batch, Event, Mode, Pipeline, Retry, SinkKind, Sla};
use super::postgres::{Host, Postgres, SslMode};
use super::secret::Secret;
use super::value::Value;
use super::write_back::{Retention, StateSpec, WriteBackBounds};

/// A configuration while its sources are being read.
pub(super) struct Draft {
    pub global: Scope<Config>,
    pub pipelines: Vec<PipelineScope>,
}

/// One pipeline with its tables and consumers.
pub(super) struct PipelineScope {
    pub settings: Scope<PipelineDraft>,
    pub tables: Vec<Scope<TableDraft>>,
    pub consumers: Vec<Scope<ConsumerDraft>>,
}

/// The settings under one table of the file, and where each of them came from.
pub(super) struct Scope<T> {
    pub draft: T,
    /// Path of this scope with a trailing dot, such as `pipelines[0].`, or empty.
    pub prefix: String,
    given: BTreeMap<&'static str, Place>,
}

impl<T> Scope<T> {
    pub fn new(draft: T, prefix: String) -> Self {
        Self {
            draft,
            prefix,
            given: BTreeMap::new(),
        }
    }

    /// Sets `key`, whose place must not have a lower rank than those of earlier calls.
    pub fn set(
        &mut self,
        key: &'static Key<T>,
        value: Value,
        place: &Place,
        sources: &Sources<'_>,
        faults: &mut Faults,
    ) {
        self.given.insert(key.path, place.clone());
        if let Err(fault) = (key.field)(&mut self.draft).set(value, &key.allowed, sources) {
            self.fault(place, key.path, fault, faults);
        }
    }

    /// Sets one entry of a key that is a map, such as `kafka.properties`.
    pub fn set_entry(
        &mut self,
        key: &'static Key<T>,
        entry: (&str, Value),
        place: &Place,
        sources: &Sources<'_>,
        faults: &mut Faults,
    ) {
        let (name, value) = entry;
        self.given.insert(key.path, place.clone());
        if let Err(fault) = (key.field)(&mut self.draft).set_entry(name, value, sources) {
            self.fault(place, &format!("{}.{name:?}", key.path), fault, faults);
        }
    }

    /// Where the value of `path` came from.
    pub fn place(&self, path: &str) -> &Place {
        self.given.get(path).unwrap_or(&Place::Nowhere)
    }

    /// Whether any source gave `path`.
    pub fn is_given(&self, path: &str) -> bool {
        self.given.contains_key(path)
    }

    /// Reports a fault of `path`, which variables and flags set in every pipeline at once.
    pub fn fault(&self, place: &Place, path: &str, fault: Fault, faults: &mut Faults) {
        let prefix = match place {
            Place::File { .. } | Place::Nowhere => &*self.prefix,
            Place::Variable(_) | Place::Flag(_) => "",
        };
        faults.push(place, format!("{prefix}{path}"), fault);
    }
}

impl Draft {
    /// Defaults, without any pipeline.
    pub fn new() -> Self {
        Self {
            global: Scope::new(Config::default(), String::new()),
            pipelines: Vec::new(),
        }
    }

    /// The pipeline that comes next: defaults, without any table or consumer.
    pub fn next_pipeline(&self) -> PipelineScope {
        let prefix = format!("pipelines[{}].", self.pipelines.len());
        let settings = Scope::new(PipelineDraft::default(), prefix);
        PipelineScope {
            settings,
            tables: Vec::new(),
            consumers: Vec::new(),
        }
    }

    /// One pipeline and one table in each, where the file names none.
    pub fn fill_in(&mut self) {
        if self.pipelines.is_empty() {
            self.pipelines.push(self.next_pipeline());
        }
        for pipeline in self
            .pipelines
            .iter_mut()
            .filter(|pipeline| pipeline.tables.is_empty())
        {
            pipeline.tables.push(pipeline.next_table());
        }
    }
}

impl PipelineScope {
    /// The table that comes next: defaults.
    pub fn next_table(&self) -> Scope<TableDraft> {
        let prefix = format!("{}tables[{}].", self.settings.prefix, self.tables.len());
        Scope::new(TableDraft::default(), prefix)
    }

    /// The consumer that comes next: defaults.
    pub fn next_consumer(&self) -> Scope<ConsumerDraft> {
        let (prefix, number) = (&self.settings.prefix, self.consumers.len());
        let prefix = format!("{prefix}consumers[{number}].");
        Scope::new(ConsumerDraft::default(), prefix)
    }
}

/// A pipeline as given; see [`Pipeline`] for the settings.
#[derive(Clone)]
pub(super) struct PipelineDraft {
    pub name: String,
    pub mode: Mode,
    pub sink: SinkKind,
    pub concurrency: usize,
    pub postgres: PostgresDraft,
    pub kafka: KafkaDraft,
    pub topics: TopicsDraft,
    pub decrypt: DecryptDraft,
    pub batch: Batch,
    pub event: Event,
    pub retry: Retry,
    pub sla: Sla,
    pub dead_letter_bounds: DeadLetterBounds,
    pub write_back: WriteBackBounds,
    pub retention: Retention,
    pub backfill: Backfill,
    pub consumer_lag: ConsumerLag,
}

/// The connection as given: by URL, by separate settings, or by both.
#[derive(Clone)]
pub(super) struct PostgresDraft {
    pub url: Option<Secret>,
    pub hosts: Vec<String>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub password_file: Option<PathBuf>,
    pub write_back_user: Option<String>,
    pub write_back_password: Option<Secret>,
    pub database: Option<String>,
    pub application_name: Option<String>,
    pub sslmode: Option<SslMode>,
    pub sslrootcert: Option<PathBuf>,
    pub sslcert: Option<PathBuf>,
    pub sslkey: Option<PathBuf>,
    pub slot: String,
    pub publication: String,
    pub failover_slot: bool,
    pub connect_timeout: Duration,
    pub wal_sender_timeout: Duration,
}

/// Kafka as given: `{name}` is not yet filled in.
#[derive(Clone)]
pub(super) struct KafkaDraft {
    pub bootstrap: Option<String>,
    pub checkpoint_topic: String,
    pub transactional_id_prefix: String,
    pub transaction_timeout: Duration,
    pub properties: BTreeMap<String, Property>,
    pub topics: TopicDefaults,
}

/// Routing as given.
#[derive(Clone)]
pub(super) struct TopicsDraft {
    pub allow: Vec<String>,
    pub deny: Vec<String>,
}

/// A table as given.
#[derive(Clone)]
pub(super) struct TableDraft {
    pub schema: String,
    pub table: String,
    pub service: Option<String>,
    pub topic: String,
    pub key: Option<String>,
    pub format: Format,
    pub columns: ColumnMap,
    pub state: StateSpec,
    pub dead_letter: DeadLetterSpec,
    pub header_columns: BTreeMap<String, String>,
}

/// A consumer group as given.
#[derive(Clone, Default)]
pub(super) struct ConsumerDraft {
    pub group: Option<String>,
    pub service: Option<String>,
    pub topics: Vec<String>,
    pub offset_reset: OffsetReset,
}

impl Default for PipelineDraft {
    fn default() -> Self {
        let pipeline = Pipeline::default();
        Self {
            postgres: PostgresDraft::default(),
            kafka: KafkaDraft::default(),
            topics: TopicsDraft::from(&TopicPolicy::default()),
            ..Self::from(&pipeline)
        }
    }
}

impl Default for PostgresDraft {
    fn default() -> Self {
        let postgres = Postgres::default();
        Self {
            hosts: Vec::new(),
            user: None,
            database: None,
            application_name: None,
            sslmode: None,
            ..Self::from(&postgres)
        }
    }
}

impl Default for KafkaDraft {
    fn default() -> Self {
        let kafka = Kafka::default();
        Self {
            bootstrap: None,
            checkpoint_topic: "outboxd.checkpoint.{name}".into(),
            transactional_id_prefix: "outboxd.{name}".into(),
            ..Self::from(&kafka)
        }
    }
}

impl Default for TableDraft {
    fn default() -> Self {
        let mut draft = Self::from((
            &TableSpec::default(),
            &StateSpec::default(),
            &DeadLetterSpec::default(),
        ));
        draft.service = None;
        draft.dead_letter.topic = "{service}.dead-letter".into();
        draft
    }
}

impl From<&Pipeline> for PipelineDraft {
    fn from(pipeline: &Pipeline) -> Self {
        Self {
            name: pipeline.name.clone(),
            mode: pipeline.mode,
            sink: pipeline.sink,
            concurrency: pipeline.concurrency,
            postgres: PostgresDraft::from(&pipeline.postgres),
            kafka: KafkaDraft::from(&pipeline.kafka),
            topics: TopicsDraft::from(&pipeline.topics),
            decrypt: DecryptDraft::from(pipeline.decrypt.as_ref()),
            batch: pipeline.batch.clone(),
            event: pipeline.event.clone(),
            retry: pipeline.retry.clone(),
            sla: pipeline.sla.clone(),
            dead_letter_bounds: pipeline.dead_letter_bounds.clone(),
            write_back: pipeline.write_back.clone(),
            retention: pipeline.retention.clone(),
            backfill: pipeline.backfill.clone(),
            consumer_lag: pipeline.consumer_lag.clone(),
        }
    }
}

impl From<&Postgres> for PostgresDraft {
    fn from(postgres: &Postgres) -> Self {
        let writer = postgres.write_back.as_ref();
        Self {
            url: None,
            hosts: postgres.hosts.iter().map(Host::to_string).collect(),
            user: Some(postgres.user.clone()),
            password: postgres.password.clone(),
            password_file: None,
            write_back_user: writer.map(|login| login.user.clone()),
            write_back_password: writer.and_then(|login| login.password.clone()),
            database: Some(postgres.database.clone()),
            application_name: Some(postgres.application_name.clone()),
            sslmode: Some(postgres.sslmode),
            sslrootcert: postgres.sslrootcert.clone(),
            sslcert: postgres.sslcert.clone(),
            sslkey: postgres.sslkey.clone(),
            slot: postgres.slot.clone(),
            publication: postgres.publication.clone(),
            failover_slot: postgres.failover_slot,
            connect_timeout: postgres.connect_timeout,
            wal_sender_timeout: postgres.wal_sender_timeout,
        }
    }
}

impl From<&Kafka> for KafkaDraft {
    fn from(kafka: &Kafka) -> Self {
        Self {
            bootstrap: Some(kafka.bootstrap.clone()).filter(|bootstrap| !bootstrap.is_empty()),
            checkpoint_topic: kafka.checkpoint_topic.clone(),
            transactional_id_prefix: kafka.transactional_id_prefix.clone(),
            transaction_timeout: kafka.transaction_timeout,
            properties: kafka.properties.clone(),
            topics: kafka.topics.clone(),
        }
    }
}

impl From<&TopicPolicy> for TopicsDraft {
    fn from(policy: &TopicPolicy) -> Self {
        Self {
            allow: policy.allow.iter().map(ToString::to_string).collect(),
            deny: policy.deny.iter().cloned().collect(),
        }
    }
}

impl From<&ConsumerSpec> for ConsumerDraft {
    fn from(consumer: &ConsumerSpec) -> Self {
        Self {
            group: Some(consumer.group.clone()),
            service: Some(consumer.service.clone()),
            topics: consumer.topics.iter().map(ToString::to_string).collect(),
            offset_reset: consumer.offset_reset,
        }
    }
}

impl From<(&TableSpec, &StateSpec, &DeadLetterSpec)> for TableDraft {
    fn from((table, state, dead_letter): (&TableSpec, &StateSpec, &DeadLetterSpec)) -> Self {
        let header = |h: &envelope::HeaderColumn| (h.header.clone(), h.column.clone());
        Self {
            schema: table.schema.clone(),
            table: table.table.clone(),
            service: Some(table.service.clone()),
            topic: table.topic.to_string(),
            key: table.key.clone(),
            format: table.format,
            columns: table.columns.clone(),
            state: state.clone(),
            dead_letter: dead_letter.clone(),
            header_columns: table.headers.iter().map(header).collect(),
        }
    }
}

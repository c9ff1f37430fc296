//! `outboxd acl`: who may do what with a pipeline's topics and transactional ids.
//!
//! ```text
//!  configuration, flags ──► plan (pure) ──► print │ apply │ audit (pure) ◄── what the brokers have
//! ```
//!
//! Nothing is ever taken away: what is too much is shown, with the command that removes it.

mod audit;
mod consumer;
mod pattern;
mod plan;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use producer::{AclBinding, Admin, ClientError};
use rdkafka::admin::ResourceSpecifier;

use self::audit::{Finding, Wanted};
use self::consumer::Consumer;
use self::plan::{Change, Ground, Repairs};
use super::cluster::{self, Cluster};
use super::problem::Problem;
use super::{Exit, Settings};
use crate::cli::out::say;
use crate::config::{Config, Pipeline, SinkKind};
use crate::failure::Failure;
use crate::sink::kafka;

/// The remedy where the brokers refuse it.
const ADMINISTRATOR: &str = "Run it as an administrator, with that one's credentials in kafka.properties: reading the \
     lists takes Describe on the cluster, --apply takes Alter.";
/// How long the brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Brokers without an authorizer.
const SECURITY_DISABLED: i32 = 54;
/// The principal may not read or change the lists.
const CLUSTER_AUTHORIZATION_FAILED: i32 = 31;
const OPEN_BY_DEFAULT: &str = "allow.everyone.if.no.acl.found";

#[derive(Args)]
pub(super) struct AclArgs {
    #[command(flatten)]
    settings: Settings,
    /// The relay's principal, such as User:outboxd. The brokers are asked with the principal of the
    /// configuration, which may be an administrator's.
    #[arg(long, value_name = "PRINCIPAL", value_parser = consumer::principal)]
    principal: String,
    /// A consumer: its group, its principal and the beginning of the topics that it reads, such as
    /// books=User:books:transfers. (with the dot); may be repeated.
    #[arg(long = "consumer", value_name = "GROUP=PRINCIPAL:PREFIX")]
    consumers: Vec<Consumer>,
    /// Also what `outboxd repair` needs, for the relay's principal: to read the topics of events.
    #[arg(long)]
    repair: bool,
    /// Create what is missing of what would be printed.
    #[arg(long)]
    apply: bool,
    /// Compare with what the brokers have: exits with 1 if anything is missing, forbidden, or wider
    /// than needed.
    #[arg(long)]
    check: bool,
}

pub(super) fn acl(args: &AclArgs) -> Result<(), Exit> {
    let config = args.settings.load()?;
    let failed = |problem: Problem| {
        problem.report();
        Exit::Failure
    };
    let wanted = wanted(&config, args).map_err(failed)?;
    if !args.apply && !args.check {
        print(&config, &wanted);
        return Ok(());
    }
    super::block_on(run(&config, args, wanted))?.map_err(failed)?
}

/// What all pipelines need together: they share the principal.
fn wanted(config: &Config, args: &AclArgs) -> Result<Wanted, Problem> {
    let repairs = match args.repair {
        true => Repairs::Yes,
        false => Repairs::No,
    };
    let mut wanted = Wanted {
        relay: args.principal.clone(),
        ..Wanted::default()
    };
    for pipeline in published(config) {
        let ground = Ground::of(pipeline)?;
        wanted
            .bindings
            .extend(ground.relay(&args.principal, repairs));
        wanted.guarded.extend(ground.guarded());
    }
    wanted.bindings.extend(plan::consumers(&args.consumers));
    Ok(wanted)
}

fn published(config: &Config) -> impl Iterator<Item = &Pipeline> {
    config
        .pipelines
        .iter()
        .filter(|pipeline| pipeline.sink == SinkKind::Kafka)
}

fn print(config: &Config, wanted: &Wanted) {
    let bootstrap = published(config)
        .next()
        .map_or("", |pipeline| pipeline.kafka.bootstrap.as_str());
    for binding in &wanted.bindings {
        say!("# {binding}");
        say!("{}", plan::command(bootstrap, Change::Add, binding));
    }
}

/// Goes to each cluster of brokers once; a pipeline's topics may be on any of them.
async fn run(config: &Config, args: &AclArgs, wanted: Wanted) -> Result<Result<(), Exit>, Problem> {
    let mut clusters: BTreeMap<&str, &Pipeline> = BTreeMap::new();
    for pipeline in published(config) {
        let bootstrap = pipeline.kafka.bootstrap.as_str();
        clusters.entry(bootstrap).or_insert(pipeline);
    }
    let mut agrees = true;
    for pipeline in clusters.into_values() {
        let brokers = Brokers::connect(pipeline).await?;
        if args.apply {
            brokers.apply(&wanted).await?;
        }
        if args.check {
            agrees &= brokers.check(&wanted).await?;
        }
    }
    Ok(match agrees {
        true => Ok(()),
        false => Err(Exit::Failure),
    })
}

/// A cluster and its lists.
struct Brokers {
    pipeline: Pipeline,
    cluster: Cluster,
}

impl Brokers {
    async fn connect(pipeline: &Pipeline) -> Result<Self, Problem> {
        // Its errors say why nobody answers; those of a request about the lists don't.
        let cluster = Cluster::connect(pipeline).await?;
        Ok(Self {
            pipeline: pipeline.clone(),
            cluster,
        })
    }

    async fn found(&self) -> Result<Vec<AclBinding>, Problem> {
        self.ask("reading the access control lists", |admin| {
            admin.acls(PATIENCE)
        })
        .await
    }

    /// Creates what is not there as it should be, be it covered by something wider.
    async fn apply(&self, wanted: &Wanted) -> Result<(), Problem> {
        let found = self.found().await?;
        let missing = wanted.bindings.iter().filter(|b| !found.contains(b));
        let missing: Vec<AclBinding> = missing.cloned().collect();
        if missing.is_empty() {
            say!("nothing to do");
            return Ok(());
        }
        let created = missing.clone();
        self.ask("creating access control lists", move |admin| {
            admin.create_acls(&created, PATIENCE)
        })
        .await?;
        for binding in missing {
            say!("granted: {binding}");
        }
        Ok(())
    }

    /// Whether everything is as it should be; what is not is told.
    async fn check(&self, wanted: &Wanted) -> Result<bool, Problem> {
        let found = self.found().await?;
        if found.is_empty() {
            // librdkafka 2.12 drops the error of this answer (rd_kafka_DescribeAclsResponse_parse).
            eprintln!(
                "outboxd: the brokers tell of no access control list at all: there is none, or this principal may \
                 not read them\n  remedy: {ADMINISTRATOR}"
            );
        }
        let findings = audit::compare(wanted, &found);
        let bootstrap = &self.pipeline.kafka.bootstrap;
        for finding in &findings {
            say!("{}", told(bootstrap, finding));
        }
        let is_open = self.is_open_by_default().await;
        match is_open {
            Some(true) => say!(
                "WIDER    {OPEN_BY_DEFAULT} is true: what no list names is open to everybody\n         \
                 fix: remove it from the brokers' configuration"
            ),
            Some(false) => {}
            None => say!(
                "NOTE     {OPEN_BY_DEFAULT} can't be read: that takes DescribeConfigs on the cluster"
            ),
        }
        let agrees = findings.is_empty() && is_open != Some(true);
        if agrees {
            let count = wanted.bindings.len();
            say!("OK       {count} bindings as they should be, and nothing wider");
        }
        Ok(agrees)
    }

    /// Whether the brokers let everybody do what no list speaks of; `None` if they don't say.
    async fn is_open_by_default(&self) -> Option<bool> {
        let admin = self.cluster.admin();
        let broker = self.cluster.broker_ids.first()?;
        let asked = [ResourceSpecifier::Broker(*broker)];
        let answers = admin.describe_configs(&asked, &cluster::options()).await;
        let described = answers.ok()?.into_iter().next()?.ok()?;
        let entry = described
            .entries
            .into_iter()
            .find(|e| e.name == OPEN_BY_DEFAULT);
        // What is not set is not among the settings of some versions.
        Some(entry.and_then(|e| e.value).as_deref() == Some("true"))
    }

    /// A request about the lists, on a thread that may block.
    async fn ask<T: Send + 'static>(
        &self,
        attempt: &'static str,
        request: impl FnOnce(&Admin) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<T, Problem> {
        let pipeline = self.pipeline.clone();
        let asking = tokio::task::spawn_blocking(move || {
            let admin = kafka::admin(&pipeline)?;
            request(&admin).map_err(|error| refused(attempt, &error))
        });
        asking
            .await
            .map_err(|e| Failure::caused("internal", attempt, &e))?
    }
}

fn refused(attempt: &str, error: &ClientError) -> Problem {
    let ClientError {
        code,
        name,
        message,
    } = error;
    let message = format!("{attempt}: {message} ({name})");
    match *code {
        SECURITY_DISABLED => Problem::new(
            format!("{message}: everybody who reaches the brokers may do everything"),
            "Set authorizer.class.name = org.apache.kafka.metadata.authorizer.StandardAuthorizer and \
             super.users on the brokers.",
        ),
        CLUSTER_AUTHORIZATION_FAILED => Problem::new(message, ADMINISTRATOR),
        _ => Problem::from(kafka::trouble_of(attempt, error)),
    }
}

fn told(bootstrap: &str, finding: &Finding) -> String {
    match finding {
        Finding::Missing(binding) => format!(
            "MISSING  {binding}\n         fix: {}",
            plan::command(bootstrap, Change::Add, binding)
        ),
        Finding::Denied { wanted, by } => format!(
            "DENIED   {wanted}: {by}\n         fix: {}",
            plan::command(bootstrap, Change::Remove, by)
        ),
        Finding::Wider { binding, why } => format!(
            "WIDER    {binding}: {why}\n         fix: {}",
            plan::command(bootstrap, Change::Remove, binding)
        ),
    }
}

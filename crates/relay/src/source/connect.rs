//! Opening a session: catalog and replication connection to the same server, the primary.

use std::time::Duration;

use delivery::{Identity, ServerFacts, TimelineSwitch};
use pgoutput::Lsn;
use pgwire_replication::{
    PgWireError, ReplicationClient, ReplicationConfig, SslMode as WireSslMode, TlsConfig,
};

use super::catalog::{ANSWER_PATIENCE, Catalog};
use super::publication::PublicationFacts;
use super::{PgStream, error, stream};
use crate::config::{Host, HostAddr, Pipeline, Postgres, SslMode};
use crate::failure::Failure;

/// How long the server may take to accept `START_REPLICATION`: it may have to read much WAL first.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Creating a slot waits for every running transaction to end.
const CREATE_PATIENCE: Duration = Duration::from_secs(600);

/// A connected session that does not hold the slot yet.
pub struct Session {
    /// Catalog queries, on a connection of their own.
    pub catalog: Catalog,
    /// What the server says of itself.
    pub facts: ServerFacts,
    /// An LSN read before the publication was checked.
    pub verified: Lsn,
    client: ReplicationClient,
    slot: String,
    failover: bool,
    patience: Duration,
}

/// Connects to the first configured host that is the primary, and reads what the start-up checks
/// need.
pub async fn connect(pipeline: &Pipeline) -> Result<Session, Failure> {
    let mut last = None;
    for host in &pipeline.postgres.hosts {
        match connect_to(pipeline, host).await {
            Ok(session) => return Ok(session),
            Err(failure) => {
                tracing::debug!(%host, %failure, "host not usable");
                last = Some(failure);
            }
        }
    }
    Err(last.unwrap_or_else(no_host))
}

/// A catalog connection to the first configured host that is the primary.
pub async fn primary(postgres: &Postgres) -> Result<Catalog, Failure> {
    let mut last = None;
    for host in &postgres.hosts {
        match primary_at(postgres, host).await {
            Ok(catalog) => return Ok(catalog),
            Err(failure) => last = Some(failure),
        }
    }
    Err(last.unwrap_or_else(no_host))
}

fn no_host() -> Failure {
    Failure::new("postgres-unreachable", "no host is configured")
}

async fn primary_at(postgres: &Postgres, host: &Host) -> Result<Catalog, Failure> {
    let catalog = Catalog::connect(postgres, host).await?;
    catalog.require_primary(host).await?;
    Ok(catalog)
}

async fn connect_to(pipeline: &Pipeline, host: &Host) -> Result<Session, Failure> {
    let postgres = &pipeline.postgres;
    let catalog = primary_at(postgres, host).await?;
    catalog.require_logical().await?;
    let verified = catalog.wal_end().await?;
    let publication = PublicationFacts::read(&catalog, &postgres.publication).await?;
    publication.check(&catalog, &pipeline.tables).await?;
    let mut client = open(pipeline, host).await?;
    let facts = read_facts(&mut client, &catalog, pipeline, &publication).await;
    let facts = facts.inspect_err(|_| client.abort())?;
    Ok(Session {
        catalog,
        facts,
        verified,
        client,
        slot: pipeline.slot_name(),
        failover: postgres.failover_slot,
        patience: postgres.connect_timeout,
    })
}

async fn open(pipeline: &Pipeline, host: &Host) -> Result<ReplicationClient, Failure> {
    let postgres = &pipeline.postgres;
    let attempt = format!("opening a replication connection to {host}");
    let lost = |e| error::replication(&attempt, &e);
    let config = replication_config(pipeline, host);
    let mut client = ReplicationClient::connect_gated(config)
        .await
        .map_err(lost)?;
    // The connection is opened in the background: the first query tells how it went.
    let first = client.simple_query("SELECT 1");
    match tokio::time::timeout(postgres.connect_timeout, first).await {
        Ok(answered) => answered.map(|_| client).map_err(lost),
        Err(_) => {
            // Dropped, it would wait on.
            client.abort();
            let message = format!("{attempt}: timed out");
            Err(Failure::new("postgres-unreachable", message))
        }
    }
}

fn replication_config(pipeline: &Pipeline, host: &Host) -> ReplicationConfig {
    let postgres = &pipeline.postgres;
    let name = match &host.host {
        HostAddr::Tcp(name) => name.clone(),
        HostAddr::Unix(folder) => folder.display().to_string(),
    };
    let password = postgres.current_password();
    // The server splits the list of names as SQL identifiers, so the name is quoted as one.
    let publication = format!("\"{}\"", postgres.publication.replace('"', "\"\""));
    let options = format!(
        "-c wal_sender_timeout={}ms -c datestyle=ISO -c intervalstyle=postgres -c timezone=UTC \
         -c bytea_output=hex -c extra_float_digits=1 -c statement_timeout=0 -c lock_timeout=0 \
         -c idle_in_transaction_session_timeout=0",
        postgres.wal_sender_timeout.as_millis()
    );
    ReplicationConfig::new(
        name,
        &postgres.user,
        password.expose(),
        &postgres.database,
        pipeline.slot_name(),
        publication.as_str(),
    )
    .with_port(host.port)
    .with_tls(tls(postgres, host))
    .with_status_interval(stream::STATUS_INTERVAL)
    // Silence from us makes the server send a keepalive at half its timeout, which we answer; our
    // own periodic status would suppress it (`WalSndKeepaliveIfNecessary`) and blind the watchdog.
    .with_wakeup_interval(postgres.wal_sender_timeout.mul_f64(0.8))
    .with_buffer_size(stream::BUFFERED_FRAMES)
    .with_options(options)
    .with_application_name(&postgres.application_name)
}

fn tls(postgres: &Postgres, host: &Host) -> TlsConfig {
    let mode = match (&host.host, postgres.sslmode) {
        (HostAddr::Unix(_), _) | (_, SslMode::Disable) => WireSslMode::Disable,
        (_, SslMode::Require) => WireSslMode::Require,
        (_, SslMode::VerifyCa) => WireSslMode::VerifyCa,
        (_, SslMode::VerifyFull) => WireSslMode::VerifyFull,
    };
    TlsConfig {
        mode,
        ca_pem_path: postgres.sslrootcert.clone(),
        sni_hostname: None,
        client_cert_pem_path: postgres.sslcert.clone(),
        client_key_pem_path: postgres.sslkey.clone(),
    }
}

async fn read_facts(
    client: &mut ReplicationClient,
    catalog: &Catalog,
    pipeline: &Pipeline,
    publication: &PublicationFacts,
) -> Result<ServerFacts, Failure> {
    let attempt = "identifying the server";
    let slot = pipeline.slot_name();
    let system = answer(attempt, client.identify_system()).await?;
    let history = match system.timeline {
        0 | 1 => Vec::new(),
        timeline => {
            let history = client.timeline_history(timeline);
            let history = answer("reading timelines", history).await?;
            parse_history(&String::from_utf8_lossy(&history.content))
        }
    };
    Ok(ServerFacts {
        identity: Identity {
            system_identifier: system.system_id,
            timeline: system.timeline,
            database: pipeline.postgres.database.clone(),
            slot: slot.clone(),
        },
        wal_end: Lsn::from(system.xlogpos.as_u64()),
        history,
        slot: catalog.slot(&slot).await?,
        fingerprint: publication.fingerprint(),
        coverage: publication.coverage(&pipeline.tables),
    })
}

async fn answer<T>(
    attempt: &str,
    query: impl Future<Output = Result<T, PgWireError>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER_PATIENCE, query).await {
        Ok(answer) => answer.map_err(|e| error::replication(attempt, &e)),
        Err(_) => Err(error::silent(attempt, ANSWER_PATIENCE)),
    }
}

/// A history file has a line per past timeline: its number, the LSN where it ended, a reason.
fn parse_history(content: &str) -> Vec<TimelineSwitch> {
    let switch = |line: &str| {
        let mut fields = line.split_whitespace();
        let timeline = fields.next()?.parse().ok()?;
        let ends_at = fields.next()?.parse().ok()?;
        Some(TimelineSwitch { timeline, ends_at })
    };
    content.lines().filter_map(switch).collect()
}

/// A slot to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotForm {
    /// Gone with the session.
    Temporary,
    /// To be kept.
    Lasting,
    /// To be kept, with a snapshot of what is committed before its stream. The snapshot is there
    /// until the session's next command.
    WithSnapshot,
}

/// A slot that was made.
#[derive(Debug, Clone)]
pub struct MadeSlot {
    /// Its consistent point: the stream has what commits from here on.
    pub at: Lsn,
    /// Names the snapshot of everything that was committed before.
    pub snapshot: Option<String>,
}

/// On 17 and later it is made a failover slot, so that a promoted standby has it.
fn create_sql(slot: &str, form: SlotForm, server_version: i32, failover: bool) -> String {
    let (temporary, exports) = match form {
        SlotForm::Temporary => ("TEMPORARY ", false),
        SlotForm::Lasting => ("", false),
        SlotForm::WithSnapshot => ("", true),
    };
    let lasts = form != SlotForm::Temporary;
    let options = match (server_version, exports) {
        (..150_000, true) => "EXPORT_SNAPSHOT",
        (..150_000, false) => "NOEXPORT_SNAPSHOT",
        (170_000.., true) if failover => "(SNAPSHOT 'export', FAILOVER)",
        (170_000.., false) if failover && lasts => "(SNAPSHOT 'nothing', FAILOVER)",
        (_, true) => "(SNAPSHOT 'export')",
        (_, false) => "(SNAPSHOT 'nothing')",
    };
    format!("CREATE_REPLICATION_SLOT \"{slot}\" {temporary}LOGICAL pgoutput {options}")
}

impl Session {
    /// Reads the slot's row again.
    pub async fn refresh_slot(&mut self) -> Result<(), Failure> {
        self.facts.slot = self.catalog.slot(&self.slot).await?;
        Ok(())
    }

    /// Creates the slot on this session.
    pub async fn create_slot(&mut self, form: SlotForm) -> Result<MadeSlot, Failure> {
        let sql = create_sql(
            &self.slot,
            form,
            self.catalog.server_version(),
            self.failover,
        );
        let attempt = format!("creating replication slot {:?}", self.slot);
        let creating = tokio::time::timeout(CREATE_PATIENCE, self.client.simple_query(&sql));
        let created = tokio::select! {
            created = creating => created,
            failure = self.catalog.silent() => {
                self.client.abort();
                return Err(failure);
            }
        };
        let rows = match created {
            Ok(rows) => rows.map_err(|e| error::replication(&attempt, &e))?,
            Err(_) => {
                // Dropped, it would go on waiting, and make the slot one day.
                self.client.abort();
                let why = format!("{attempt}: a transaction has been running for too long");
                return Err(Failure::new("postgres-lost", why));
            }
        };
        let column = |index: usize| {
            let bytes = rows.first()?.get(index)?.as_ref()?;
            Some(std::str::from_utf8(bytes).ok()?.to_owned())
        };
        let unexpected = || Failure::new("protocol", format!("{attempt}: unexpected answer"));
        let at = column(1).and_then(|text| text.parse().ok());
        Ok(MadeSlot {
            at: at.ok_or_else(unexpected)?,
            snapshot: column(2).filter(|name| !name.is_empty()),
        })
    }

    /// Starts streaming from the slot's confirmed LSN: from then on this session holds the slot.
    ///
    /// Starting at 0/0 means just that (`CreateDecodingContext` in `logical.c`); a higher LSN
    /// would be obeyed, and would skip.
    pub async fn start(mut self) -> Result<(PgStream, Catalog, ServerFacts), Failure> {
        let attempt = format!("starting replication from slot {:?}", self.slot);
        let starting = async {
            self.client.start().await?;
            self.client.wait_started().await
        };
        let starting = tokio::time::timeout(START_PATIENCE.max(self.patience), starting);
        let started = tokio::select! {
            started = starting => started,
            failure = self.catalog.silent() => {
                self.client.abort();
                return Err(failure);
            }
        };
        match started {
            Ok(started) => started.map_err(|e| error::replication(&attempt, &e))?,
            Err(_) => {
                self.client.abort();
                return Err(Failure::new(
                    "postgres-lost",
                    format!("{attempt}: timed out"),
                ));
            }
        }
        let stream = PgStream::new(self.client);
        // Read once more, now that nobody else can move it.
        self.facts.slot = self.catalog.slot(&self.slot).await?;
        self.facts.wal_end = self.catalog.wal_end().await?;
        Ok((stream, self.catalog, self.facts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_made_as_each_version_knows_it() {
        let check = |form, version, failover, options: &str| {
            let sql = create_sql("s", form, version, failover);
            let expected = format!("CREATE_REPLICATION_SLOT \"s\" {options}");
            assert_eq!(sql, expected);
        };
        use SlotForm::{Lasting, Temporary, WithSnapshot};
        let old = "LOGICAL pgoutput NOEXPORT_SNAPSHOT";
        check(Lasting, 140_000, true, old);
        check(
            WithSnapshot,
            140_000,
            true,
            "LOGICAL pgoutput EXPORT_SNAPSHOT",
        );
        let plain = "LOGICAL pgoutput (SNAPSHOT 'nothing')";
        check(Lasting, 160_000, true, plain);
        check(Lasting, 180_000, false, plain);
        let failover = "LOGICAL pgoutput (SNAPSHOT 'nothing', FAILOVER)";
        check(Lasting, 170_000, true, failover);
        let export = "LOGICAL pgoutput (SNAPSHOT 'export', FAILOVER)";
        check(WithSnapshot, 180_000, true, export);
        check(Temporary, 180_000, true, &format!("TEMPORARY {plain}"));
    }

    #[test]
    fn timeline_history_is_read_line_by_line() {
        let content = "1\t0/30000A0\tno recovery target specified\n\n2\t0/5000148\treason\n";
        let expected = [
            TimelineSwitch {
                timeline: 1,
                ends_at: Lsn::from(0x30000A0),
            },
            TimelineSwitch {
                timeline: 2,
                ends_at: Lsn::from(0x5000148),
            },
        ];
        assert_eq!(parse_history(content), expected);
    }
}

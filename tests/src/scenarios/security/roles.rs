//! The roles in Postgres: each can do its work, and nothing else.

use anyhow::{Context, Result, ensure};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use super::household::{Household, OPERATOR, OWNER, RELAY, ROLES, SERVICE, WRITER};
use crate::stage::{DATABASE, TOPICS};

const OWNER_ROLE: &str = include_str!("../../../../sql/owner_role.sql");

/// The superuser makes roles, a stranger's table, and nothing else; the owner runs `init`.
pub(super) fn make(house: &Household<'_>) -> Result<()> {
    let stage = house.stage;
    let superuser = |sql: &str| stage.postgres.sql(DATABASE, sql);
    superuser(OWNER_ROLE)?;
    superuser("CREATE TABLE public.accounts (balance bigint); INSERT INTO accounts VALUES (1)")?;
    superuser(&format!(
        "CREATE ROLE {RELAY} LOGIN REPLICATION; CREATE ROLE {WRITER} LOGIN; \
         CREATE ROLE {SERVICE} LOGIN; CREATE ROLE {OPERATOR} LOGIN"
    ))?;
    for (role, password) in ROLES {
        superuser(&format!("ALTER ROLE {role} PASSWORD '{password}'"))?;
    }
    let url = format!(
        "postgres://{OWNER}:{}@localhost:{}/{DATABASE}",
        ROLES[4].1,
        stage.postgres.port()
    );
    let mut init = std::process::Command::new(crate::stage::outboxd()?);
    init.args([
        "init",
        "--apply",
        "--role",
        RELAY,
        "--write-back-role",
        WRITER,
    ]);
    init.args(["--service-role", SERVICE, "--operator-role", OPERATOR]);
    // The brokers' administrator comes through the plain listener.
    init.args(["--kafka", &stage.bootstrap()]);
    for topic in TOPICS {
        init.args(["--topic", topic]);
    }
    let made = house.run(init.env("OUTBOXD_POSTGRES_URL", url))?;
    // Everything but the slot: the owner may not stream, the relay will.
    ensure!(!made.succeeded, "the owner may stream: {}", made.text);
    for part in ["replication-denied", "Everything else is done"] {
        ensure!(made.text.contains(part), "no {part}: {}", made.text);
    }
    Ok(())
}

const INSERT: &str = "INSERT INTO outbox (event_type, payload) VALUES ('transfers.settled', '{}')";
const EMIT: &str = "SELECT outbox_emit('transfers.settled', 't', '{}')";
const MARK: &str = "UPDATE outbox SET state = 'SENT', attempts = 1, last_error = NULL";
const FORGE: &str = "UPDATE outbox SET payload = '{}'";
const REMOVE: &str = "DELETE FROM outbox";
const READ: &str = "SELECT payload FROM outbox";
const LOOK: &str = "SELECT id, state FROM outbox WHERE state = 'PENDING'";
const COUNT: &str = "SELECT last_value FROM outbox_seq_seq";
const ASK: &str = "INSERT INTO outboxd.control (request_id, slot, reason, command) \
                   VALUES (gen_random_uuid(), 's', 'r', '{}')";
const ASK_AS_ANOTHER: &str = "INSERT INTO outboxd.control (requested_by, slot, reason, command) \
                              VALUES ('boss', 's', 'r', '{}')";
const UNASK: &str = "DELETE FROM outboxd.control";
const READ_CONTROL: &str = "SELECT command FROM outboxd.control";
const FEED: &str = "INSERT INTO outboxd.feed_rows VALUES (gen_random_uuid(), 's', 1, 't', '1')";
const UNFEED: &str = "DELETE FROM outboxd.feed_rows";
const STREAM: &str = "SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')";
const PUBLISH: &str = "ALTER PUBLICATION outboxd DROP TABLE outbox";
const ALTER: &str = "ALTER TABLE outbox ADD COLUMN more text";
const TRUNCATE: &str = "TRUNCATE outbox";
const OTHERS: &str = "SELECT balance FROM accounts";
const CREATE: &str = "CREATE TABLE public.mine (a int)";
const ROLE: &str = "CREATE ROLE another SUPERUSER";
const FILES: &str = "SELECT pg_read_file('/etc/passwd')";

/// All statements, each of which every role tries.
const STATEMENTS: [&str; 22] = [
    INSERT,
    EMIT,
    MARK,
    FORGE,
    REMOVE,
    READ,
    LOOK,
    COUNT,
    ASK,
    ASK_AS_ANOTHER,
    UNASK,
    READ_CONTROL,
    FEED,
    UNFEED,
    STREAM,
    PUBLISH,
    ALTER,
    TRUNCATE,
    OTHERS,
    CREATE,
    ROLE,
    FILES,
];

/// What a role may do.
enum May {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

impl May {
    fn do_this(&self, statement: &str) -> bool {
        match self {
            Self::Only(allowed) => allowed.contains(&statement),
            Self::AllBut(denied) => !denied.contains(&statement),
        }
    }
}

const ROLES_MAY: [(&str, May); 5] = [
    (
        RELAY,
        May::Only(&[READ, LOOK, COUNT, READ_CONTROL, FEED, UNFEED, STREAM]),
    ),
    (WRITER, May::Only(&[MARK, LOOK])),
    (SERVICE, May::Only(&[INSERT, EMIT])),
    (OPERATOR, May::Only(&[READ, LOOK, ASK, READ_CONTROL, FEED])),
    (OWNER, May::AllBut(&[STREAM, OTHERS, ROLE, FILES])),
];

/// Tries every statement as every role; how many that were.
pub(super) async fn judge(house: &Household<'_>) -> Result<usize> {
    let mut tried = 0;
    for (role, may) in ROLES_MAY {
        let client = connect(house, role).await?;
        for statement in STATEMENTS {
            let is_denied = !may.do_this(statement);
            let expected = is_denied.then_some(SqlState::INSUFFICIENT_PRIVILEGE);
            let found = attempt(&client, statement).await?;
            ensure!(
                found == expected,
                "{role}: {statement}: {found:?} in the place of {expected:?}"
            );
            tried += 1;
        }
    }
    Ok(tried)
}

/// What a statement fails with; whatever it does is undone.
async fn attempt(client: &Client, statement: &str) -> Result<Option<SqlState>> {
    if statement == STREAM {
        // A slot is not made in a transaction that has written, nor undone with one.
        let outcome = client.batch_execute(statement).await;
        if outcome.is_ok() {
            client
                .batch_execute("SELECT pg_drop_replication_slot('theirs')")
                .await?;
        }
        return failure(outcome);
    }
    client.batch_execute("BEGIN").await?;
    let outcome = client.batch_execute(statement).await;
    client.batch_execute("ROLLBACK").await?;
    failure(outcome)
}

fn failure(outcome: Result<(), tokio_postgres::Error>) -> Result<Option<SqlState>> {
    match outcome {
        Ok(()) => Ok(None),
        Err(error) => {
            let state = error.code().cloned();
            Ok(Some(state.with_context(|| error.to_string())?))
        }
    }
}

async fn connect(house: &Household<'_>, role: &str) -> Result<Client> {
    let known = ROLES.iter().find(|(name, _)| *name == role);
    let (_, password) = known.context("no such role")?;
    let postgres = &house.stage.postgres;
    let (client, connection) = tokio_postgres::Config::new()
        .host("127.0.0.1")
        .port(postgres.port())
        .user(role)
        .password(password)
        .dbname(DATABASE)
        .connect(NoTls)
        .await?;
    tokio::spawn(connection);
    Ok(client)
}

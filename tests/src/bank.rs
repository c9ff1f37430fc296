//! The examples of both libraries as one bank: a service moves money, a ledger books each transfer, and
//! compliance screens it. Whether their books agree is the proof of exactly once from end to end.
//!
//! ```text
//!  transfers ─► outbox ─► outboxd ─► transfers.settled ───► ledger ─────► entries, ledger.posted
//!                                └─► transfers.initiated ─► compliance ─► screenings, dead letters
//! ```

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cluster;
use crate::stage::{self, DATABASE, Stage};
use crate::supervised::{Launch, Supervised};

/// Topics that the services write to.
pub const TOPICS: [&str; 5] = [
    "transfers.initiated",
    "transfers.settled",
    "ledger.posted",
    "compliance.flagged",
    "recon.matched",
];
/// Where the transfers go that can't be screened.
pub const DEAD_LETTERS: &str = "compliance.dead-letter";
const LEDGER_DEAD_LETTERS: &str = "ledger.dead-letter";

const UP_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// The consumers; they run until they are stopped or dropped.
pub struct Consumers {
    /// Books settled transfers.
    pub ledger: Supervised,
    /// Screens initiated ones.
    pub compliance: Supervised,
}

/// What the services need beside `outboxd init`: the inbox, and topics for dead letters.
pub async fn prepare(stage: &Stage) -> Result<()> {
    for migration in inbox::MIGRATIONS {
        stage.postgres.sql(DATABASE, migration.sql)?;
    }
    for topic in [DEAD_LETTERS, LEDGER_DEAD_LETTERS] {
        cluster::create_topic(&stage.bootstrap(), topic, 1, &[]).await?;
    }
    Ok(())
}

/// Starts the service, `rate` transactions a second, and waits until its tables are there.
pub fn start_transfers(stage: &Stage, url: &str, rate: f64) -> Result<Supervised> {
    let service = start(stage, "transfers", url, &[("RATE", rate.to_string())])?;
    await_tables(stage, &service, &["accounts", "transfers"])?;
    Ok(service)
}

/// Starts the consumers, and waits until their tables are there.
pub fn start_consumers(stage: &Stage, url: &str) -> Result<Consumers> {
    let own = |name: &str| [("INSTANCE", format!("{name}-1"))];
    let ledger = start(stage, "ledger", url, &own("ledger"))?;
    let compliance = start(stage, "compliance", url, &[])?;
    await_tables(stage, &ledger, &["entries"])?;
    await_tables(stage, &compliance, &["screenings"])?;
    Ok(Consumers { ledger, compliance })
}

fn start(stage: &Stage, name: &str, url: &str, more: &[(&str, String)]) -> Result<Supervised> {
    let servers = [
        ("DATABASE_URL", url.to_owned()),
        ("KAFKA_BROKERS", stage.bootstrap()),
    ];
    let env = servers.iter().chain(more);
    Supervised::start(Launch {
        binary: stage::example(name)?,
        args: Vec::new(),
        env: env.map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
        log: stage.folder().join(format!("{name}.log")),
    })
}

fn await_tables(stage: &Stage, service: &Supervised, tables: &[&str]) -> Result<()> {
    let names = tables.join("', '");
    let sql = format!(
        "SELECT count(*) = {} FROM pg_tables WHERE schemaname = 'public' AND tablename IN ('{names}')",
        tables.len()
    );
    let began = Instant::now();
    while stage.value(&sql)? != "t" {
        if service.has_ended() || began.elapsed() > UP_WITHIN {
            bail!("a service did not come up:\n{}", service.log_text());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// What both sides have written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// Transfers that were settled, and what they moved.
    pub settled: i64,
    /// In cents.
    pub moved: i64,
    /// Entries of the ledger, two of each transfer.
    pub entries: i64,
    /// What they credit, in cents.
    pub booked: i64,
    /// Entries that are there more than once.
    pub doubled: i64,
    /// Accounts whose balances differ.
    pub differing: i64,
    /// Transfers that are to be screened.
    pub initiated: i64,
    /// Screenings.
    pub screened: i64,
    /// Transfers that were screened more than once.
    pub screened_twice: i64,
    /// Transfers that compliance has put aside.
    pub dead: i64,
}

/// In the order of the fields. Every account begins with the same balance.
const BOOKS: &str = "SELECT \
    (SELECT count(*) FROM transfers WHERE is_settled), \
    (SELECT coalesce(sum(cents), 0) FROM transfers WHERE is_settled), \
    (SELECT count(*) FROM entries), \
    (SELECT coalesce(sum(cents) FILTER (WHERE cents > 0), 0) FROM entries), \
    (SELECT count(*) FROM (SELECT FROM entries GROUP BY transfer_id, account HAVING count(*) > 1) d), \
    (SELECT count(*) FROM accounts a WHERE a.cents - 10000000 <> \
        (SELECT coalesce(sum(e.cents), 0) FROM entries e WHERE e.account = a.id)), \
    (SELECT count(*) FROM transfers), \
    (SELECT count(*) FROM screenings), \
    (SELECT count(*) FROM (SELECT FROM screenings GROUP BY transfer_id HAVING count(*) > 1) d)";

impl Books {
    /// Reads them; how many dead letters there are, their topic tells.
    pub fn read(stage: &Stage, dead: usize) -> Result<Self> {
        let rows = stage.postgres.sql(DATABASE, BOOKS)?;
        let row = rows.into_iter().next().context("no row")?;
        let mut numbers = row.into_iter();
        let mut next = || -> Result<i64> {
            let number = numbers.next().flatten();
            Ok(number.context("a number is missing")?.parse()?)
        };
        Ok(Self {
            settled: next()?,
            moved: next()?,
            entries: next()?,
            booked: next()?,
            doubled: next()?,
            differing: next()?,
            initiated: next()?,
            screened: next()?,
            screened_twice: next()?,
            dead: i64::try_from(dead)?,
        })
    }

    /// Every transfer is booked once, and screened or put aside once.
    pub fn are_even(&self) -> bool {
        let booked = self.booked == self.moved && self.entries == 2 * self.settled;
        let once = self.doubled == 0 && self.screened_twice == 0 && self.differing == 0;
        booked && once && self.screened + self.dead == self.initiated
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = |cents: i64| format!("{}.{:02}", cents / 100, cents % 100);
        write!(
            f,
            "books: transfers={} moved={} entries={} booked={} doubled={} differing={} initiated={} \
             screened={} screened_twice={} dead={}",
            self.settled,
            amount(self.moved),
            self.entries,
            amount(self.booked),
            self.doubled,
            self.differing,
            self.initiated,
            self.screened,
            self.screened_twice,
            self.dead
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn even() -> Books {
        Books {
            settled: 3,
            moved: 1_005,
            entries: 6,
            booked: 1_005,
            initiated: 4,
            screened: 3,
            dead: 1,
            ..Books::default()
        }
    }

    #[test]
    fn every_difference_makes_books_uneven() {
        assert!(even().are_even());
        let changes: [fn(&mut Books); 7] = [
            |books| books.booked += 1,
            |books| books.entries += 2,
            |books| books.doubled += 1,
            |books| books.differing += 1,
            |books| books.screened -= 1,
            |books| books.screened_twice += 1,
            |books| books.dead += 1,
        ];
        for change in changes {
            let mut books = even();
            change(&mut books);
            assert!(!books.are_even(), "{books}");
        }
    }

    #[test]
    fn amounts_are_shown_with_their_cents() {
        assert!(even().to_string().contains("moved=10.05 entries=6"));
    }
}

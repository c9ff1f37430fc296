//! Starts servers, prints how to reach them, and stops them when its standard input ends.
//!
//! `testbed-up [postgres[:VERSION]] [kafka[:BROKERS]]`, both if none is named. The output is
//! `NAME=value` lines and then `READY=1`. The lines `pause` and `resume` on standard input do
//! that to all servers.

use std::io::{self, Write};
use std::process::ExitCode;

use testbed::{Kafka, KafkaCluster, Postgres};

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testbed-up: {error}");
            let mut cause = error.source();
            while let Some(inner) = cause {
                eprintln!("  because: {inner}");
                cause = inner.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run(mut wanted: Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
    if wanted.is_empty() {
        wanted = vec!["postgres".to_owned(), "kafka".to_owned()];
    }
    let mut databases = Vec::new();
    let mut clusters = Vec::new();
    for server in &wanted {
        let (kind, choice) = server.split_once(':').unwrap_or((server, ""));
        match (kind, choice) {
            ("postgres", "") => databases.push(Postgres::builder().start()?),
            ("postgres", major) => {
                databases.push(Postgres::builder().version(major.parse()?).start()?);
            }
            ("kafka", "") => clusters.push(KafkaCluster::start(1)?),
            ("kafka", brokers) => clusters.push(KafkaCluster::start(brokers.parse()?)?),
            _ => return Err(format!("what is {server}? say postgres[:18] or kafka[:3]").into()),
        }
    }
    print(&databases, &clusters)?;
    obey(&databases, &clusters)?;
    Ok(())
}

fn print(databases: &[Postgres], clusters: &[KafkaCluster]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for postgres in databases {
        writeln!(out, "POSTGRES_URL={}", postgres.superuser_url("postgres"))?;
        writeln!(out, "POSTGRES_PID={}", postgres.pid().unwrap_or_default())?;
        writeln!(out, "POSTGRES_LOG={}", postgres.log_path().display())?;
    }
    for cluster in clusters {
        writeln!(out, "KAFKA_BOOTSTRAP={}", cluster.bootstrap())?;
        for broker in cluster.brokers() {
            writeln!(out, "KAFKA_PID={}", broker.pid().unwrap_or_default())?;
            writeln!(out, "KAFKA_LOG={}", broker.log_path().display())?;
        }
    }
    writeln!(out, "READY=1")?;
    out.flush()
}

fn obey(
    databases: &[Postgres],
    clusters: &[KafkaCluster],
) -> Result<(), Box<dyn std::error::Error>> {
    let brokers = || clusters.iter().flat_map(|cluster| cluster.brokers());
    for line in io::stdin().lines() {
        match line?.trim() {
            "pause" => {
                databases.iter().try_for_each(Postgres::pause)?;
                brokers().try_for_each(Kafka::pause)?;
                println!("PAUSED=1");
            }
            "resume" => {
                databases.iter().try_for_each(Postgres::resume)?;
                brokers().try_for_each(Kafka::resume)?;
                println!("PAUSED=0");
            }
            "" => {}
            other => eprintln!("testbed-up: {other}? say pause or resume, or end the input"),
        }
    }
    Ok(())
}

//! A throwaway Kafka keeps its records through stops and kills.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use testbed::{Error, Kafka, KafkaCluster, cpu_seconds};

const TOPIC: &str = "kept";

fn run(mut tool: Command, input: &str) -> String {
    tool.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = tool.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn create_topic(broker: &Kafka, bootstrap: &str) {
    let mut tool = broker.tool("org.apache.kafka.tools.TopicCommand").unwrap();
    tool.args([
        "--bootstrap-server",
        bootstrap,
        "--create",
        "--topic",
        TOPIC,
    ]);
    run(tool, "");
}

fn produce(broker: &Kafka, bootstrap: &str, line: &str) {
    let mut tool = broker
        .tool("org.apache.kafka.tools.ConsoleProducer")
        .unwrap();
    tool.args(["--bootstrap-server", bootstrap, "--topic", TOPIC]);
    tool.args(["--command-property", "acks=all"]);
    run(tool, &format!("{line}\n"));
}

fn consume(broker: &Kafka, bootstrap: &str, count: u32) -> String {
    let mut tool = broker
        .tool("org.apache.kafka.tools.consumer.ConsoleConsumer")
        .unwrap();
    tool.args([
        "--bootstrap-server",
        bootstrap,
        "--topic",
        TOPIC,
        "--from-beginning",
    ]);
    tool.args([
        "--timeout-ms",
        "30000",
        "--max-messages",
        &count.to_string(),
    ]);
    run(tool, "")
}

#[test]
fn a_broker_keeps_its_records_through_a_stop_and_a_kill() {
    let kafka = Kafka::builder().proxied().start().unwrap();
    let direct = kafka.bootstrap();
    assert!(cpu_seconds(kafka.pid().unwrap()).unwrap() > 0.0);
    create_topic(&kafka, &direct);
    produce(&kafka, &direct, "first");

    kafka.stop().unwrap();
    assert_eq!(kafka.pid(), None);
    assert!(matches!(kafka.kill9(), Err(Error::NotRunning { .. })));
    kafka.start_again().unwrap();
    assert_eq!(kafka.bootstrap(), direct);
    produce(&kafka, &kafka.proxied_bootstrap().unwrap(), "second");

    kafka.kill9().unwrap();
    kafka.start_again().unwrap();
    assert_eq!(
        consume(&kafka, &kafka.proxied_bootstrap().unwrap(), 2),
        "first\nsecond\n"
    );
}

#[test]
fn a_paused_broker_answers_only_after_it_is_resumed() {
    let kafka = Kafka::builder().heap_mb(256).start().unwrap();
    kafka.pause().unwrap();
    let mut stream = TcpStream::connect(kafka.bootstrap()).unwrap();
    stream
        .write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff])
        .unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(stream.read(&mut [0; 8]).is_err());
    kafka.resume().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert!(stream.read(&mut [0; 8]).unwrap() > 0);
}

#[test]
fn a_cluster_of_three_lives_on_without_one() {
    let cluster = KafkaCluster::start(3).unwrap();
    let [first, second, third] = cluster.brokers() else {
        panic!("not three brokers")
    };
    create_topic(first, &cluster.bootstrap());
    third.kill9().unwrap();
    produce(first, &cluster.bootstrap(), "by two of three");
    third.start_again().unwrap();
    second.kill9().unwrap();
    assert_eq!(consume(first, &cluster.bootstrap(), 1), "by two of three\n");
}

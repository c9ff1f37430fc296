//! A transactional client before three brokers, each behind its own proxy.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::{Command, Output};

use testbed::{Api, Kafka, KafkaCluster, Proxy};

const TOPIC: &str = "disturbed";
const RECORDS: usize = 400;

fn succeed(tool: &mut Command) -> Output {
    let output = tool.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    output
}

fn create_topic(cluster: &KafkaCluster) {
    let mut tool = cluster.brokers()[0]
        .tool("org.apache.kafka.tools.TopicCommand")
        .unwrap();
    let bootstrap = cluster.bootstrap();
    tool.args(["--bootstrap-server", &bootstrap, "--create"]);
    succeed(tool.args(["--topic", TOPIC, "--partitions", "6"]));
}

/// Writes the records in several transactions; fails if the client gives up.
fn produce(broker: &Kafka, bootstrap: &str) {
    let mut tool = broker
        .tool("org.apache.kafka.tools.ProducerPerformance")
        .unwrap();
    let records = RECORDS.to_string();
    tool.args(["--topic", TOPIC, "--num-records", &records]);
    tool.args(["--record-size", "2000", "--throughput", "400"]);
    tool.args([
        "--transaction-duration-ms",
        "100",
        "--transactional-id",
        "t",
    ]);
    let bootstrap = format!("bootstrap.servers={bootstrap}");
    tool.args(["--producer-props", &bootstrap, "request.timeout.ms=1500"]);
    succeed(tool.args(["acks=all", "max.block.ms=60000", "linger.ms=0"]));
}

/// How many records a consumer sees that is shown only what is committed.
fn committed(broker: &Kafka, bootstrap: &str) -> usize {
    let mut tool = broker
        .tool("org.apache.kafka.tools.consumer.ConsoleConsumer")
        .unwrap();
    tool.args(["--bootstrap-server", bootstrap, "--topic", TOPIC]);
    tool.args(["--from-beginning", "--timeout-ms", "10000"]);
    tool.args(["--command-property", "isolation.level=read_committed"]);
    let output = tool.output().unwrap();
    output.stdout.iter().filter(|byte| **byte == b'\n').count()
}

#[test]
fn lost_answers_of_real_brokers_are_executed_and_asked_for_again() {
    let cluster = Kafka::builder().proxied().start_cluster(3).unwrap();
    create_topic(&cluster);
    let proxies: Vec<&Proxy> = cluster.brokers().iter().filter_map(Kafka::proxy).collect();
    for proxy in &proxies {
        proxy.cut_after_request(Api::INIT_PRODUCER_ID, 1);
        proxy.cut_after_request(Api::PRODUCE, 1);
        proxy.swallow_responses(Api::END_TXN, 1);
        proxy.cut_after_request(Api::END_TXN, 1);
        proxy.cut_before_request(Api::END_TXN, 1);
    }
    let through = cluster.proxied_bootstrap().unwrap();
    produce(&cluster.brokers()[0], &through);

    let sum = |count: fn(&Proxy, Api) -> u64, api| -> u64 {
        proxies.iter().map(|proxy| count(proxy, api)).sum()
    };
    assert!(sum(Proxy::disturbed, Api::INIT_PRODUCER_ID) >= 1);
    assert_eq!(sum(Proxy::disturbed, Api::PRODUCE), 3, "one per leader");
    assert_eq!(sum(Proxy::disturbed, Api::END_TXN), 3, "one coordinator");
    assert!(sum(Proxy::seen, Api::END_TXN) > 3);
    let withheld = proxies
        .iter()
        .map(|proxy| proxy.withheld_errors(Api::END_TXN));
    assert_eq!(withheld.flatten().collect::<Vec<_>>(), [0, 0], "committed");
    assert_eq!(committed(&cluster.brokers()[0], &through), RECORDS);
}

#![allow(clippy::unwrap_used)]
use super::*;

const NOW: Duration = Duration::ZERO;

struct Cluster {
    broker: Broker,
    partition: PartitionId,
}

impl Cluster {
    fn new() -> Self {
        let broker = Broker::new(1, Duration::from_secs(5));
        let metadata = broker.metadata(NOW).unwrap();
        let partition = metadata.partition_for(EVENT_TYPES[0], b"k").unwrap();
        Self { broker, partition }
    }

    fn init(&mut self, id: &str) -> Producer {
        let mut dice = Dice::new(1);
        loop {
            match self.broker.init(id, NOW) {
                Ok(producer) => return producer,
                Err(refusal) => assert_eq!(refusal, Refusal::Concurrent),
            }
            self.broker.step(NOW, &mut dice);
        }
    }

    fn produce(&mut self, producer: &Producer, key: &str) -> Result<(), Refusal> {
        let message = Message {
            key: Some(key.into()),
            ..Message::default()
        };
        let messages = std::iter::once(message);
        self.broker.produce(producer, self.partition, messages, NOW)
    }

    fn settle(&mut self) {
        let mut dice = Dice::new(1);
        while !self.broker.is_settled() {
            self.broker.step(NOW, &mut dice);
        }
    }

    fn visible(&self) -> Vec<String> {
        let stored = self.broker.committed(self.partition, usize::MAX);
        let key = |s: &Stored| String::from_utf8(s.message.key.clone().unwrap()).unwrap();
        stored.map(key).collect()
    }
}

#[test]
fn an_open_transaction_hides_what_lies_behind_it() {
    let mut cluster = Cluster::new();
    let (first, second) = (cluster.init("a"), cluster.init("b"));
    cluster.produce(&first, "1").unwrap();
    cluster.produce(&second, "2").unwrap();
    cluster.broker.commit(&second, NOW).unwrap();
    assert!(cluster.visible().is_empty());
    cluster.broker.commit(&first, NOW).unwrap();
    cluster.settle();
    assert_eq!(cluster.visible(), ["1", "2"]);
}

#[test]
fn fencing_aborts_what_is_open() {
    let mut cluster = Cluster::new();
    let old = cluster.init("a");
    cluster.produce(&old, "1").unwrap();
    let new = cluster.init("a");
    assert_eq!(cluster.produce(&old, "2"), Err(Refusal::Fenced));
    assert_eq!(cluster.broker.commit(&old, NOW), Err(Refusal::Fenced));
    cluster.produce(&new, "3").unwrap();
    cluster.broker.commit(&new, NOW).unwrap();
    cluster.settle();
    assert_eq!(cluster.visible(), ["3"]);
}

#[test]
fn fencing_completes_what_is_decided() {
    let mut cluster = Cluster::new();
    let old = cluster.init("a");
    cluster.produce(&old, "1").unwrap();
    cluster.broker.commit(&old, NOW).unwrap();
    assert_eq!(cluster.produce(&old, "2"), Err(Refusal::Concurrent));
    cluster.init("a");
    assert_eq!(cluster.visible(), ["1"]);
}

#[test]
fn a_transaction_that_is_open_for_too_long_is_aborted_and_its_producer_fenced() {
    let mut cluster = Cluster::new();
    let producer = cluster.init("a");
    cluster.produce(&producer, "1").unwrap();
    let late = Duration::from_secs(6);
    let mut dice = Dice::new(1);
    assert_eq!(
        cluster.broker.step(late, &mut dice),
        Some("transaction-timeout")
    );
    assert_eq!(cluster.broker.commit(&producer, late), Err(Refusal::Fenced));
    cluster.settle();
    assert!(cluster.visible().is_empty());
}

#[test]
fn without_a_transactional_id_records_show_at_once() {
    let mut cluster = Cluster::new();
    let producer = cluster.broker.idempotent();
    cluster.produce(&producer, "1").unwrap();
    assert_eq!(cluster.visible(), ["1"]);
}

#[test]
fn a_broker_that_is_down_answers_nothing() {
    let mut cluster = Cluster::new();
    let producer = cluster.init("a");
    cluster.broker.go_down(Duration::from_secs(1));
    assert_eq!(cluster.produce(&producer, "1"), Err(Refusal::Unavailable));
    assert!(cluster.broker.init("a", Duration::from_secs(2)).is_ok());
}

#![allow(clippy::unwrap_used)]
use super::*;
use crate::Dice;

const NOW: Duration = Duration::ZERO;

struct Cluster {
    broker: Broker,
    partition: PartitionId,
    sequences: BTreeMap<Producer, u64>,
}

impl Cluster {
    fn new() -> Self {
        let broker = Broker::new(1, Duration::from_secs(5));
        let metadata = broker.metadata(NOW).unwrap();
        let partition = metadata.partition_for(EVENT_TYPES[0], b"k").unwrap();
        Self {
            broker,
            partition,
            sequences: BTreeMap::new(),
        }
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
        let first = *self.sequences.get(producer).unwrap_or(&0);
        self.produce_at(producer, key, first)?;
        self.sequences.insert(producer.clone(), first + 1);
        Ok(())
    }

    fn produce_at(&mut self, producer: &Producer, key: &str, first: u64) -> Result<(), Refusal> {
        let (broker, partition) = (&mut self.broker, self.partition);
        if producer.transactional_id.is_some() {
            broker.add_to_transaction(producer, partition, NOW)?;
        }
        let message = Message {
            key: Some(key.into()),
            ..Message::default()
        };
        broker.produce(producer, partition, first, vec![message], NOW)
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

#[test]
fn what_is_sent_again_is_acknowledged_and_not_appended() {
    let mut cluster = Cluster::new();
    let producer = cluster.broker.idempotent();
    for first in [0, 0, 1] {
        cluster.produce_at(&producer, "1", first).unwrap();
    }
    assert_eq!(cluster.visible(), ["1", "1"]);
    let ahead = cluster.produce_at(&producer, "1", 7);
    assert_eq!(ahead, Err(Refusal::OutOfOrder));
}

#[test]
fn asking_again_for_the_end_tells_what_has_become_of_it() {
    let mut cluster = Cluster::new();
    let producer = cluster.init("a");
    cluster.produce(&producer, "1").unwrap();
    assert_eq!(cluster.broker.commit(&producer, NOW), Ok(Ended::Now));
    let asked = cluster.broker.commit(&producer, NOW);
    assert_eq!(asked, Err(Refusal::Concurrent));
    cluster.settle();
    assert_eq!(cluster.broker.commit(&producer, NOW), Ok(Ended::Before));
    assert_eq!(cluster.visible(), ["1"]);
}

#[test]
fn an_end_that_arrives_after_a_successor_is_refused() {
    let mut cluster = Cluster::new();
    let old = cluster.init("a");
    cluster.produce(&old, "1").unwrap();
    let new = cluster.init("a");
    cluster.produce(&new, "2").unwrap();
    assert_eq!(cluster.broker.commit(&old, NOW), Err(Refusal::Fenced));
    cluster.broker.commit(&new, NOW).unwrap();
    cluster.settle();
    assert_eq!(cluster.visible(), ["2"]);
}

#[test]
fn a_partition_that_is_not_in_the_transaction_takes_nothing() {
    let mut cluster = Cluster::new();
    let producer = cluster.init("a");
    let (broker, partition) = (&mut cluster.broker, cluster.partition);
    let refused = broker.produce(&producer, partition, 0, vec![Message::default()], NOW);
    assert_eq!(refused, Err(Refusal::NoTransaction));
}

#[test]
fn added_partitions_are_seen_by_clients_that_ask_again() {
    let mut cluster = Cluster::new();
    let before = cluster.broker.metadata(NOW).unwrap();
    cluster.broker.add_partitions();
    let after = cluster.broker.metadata(NOW).unwrap();
    let keys = ["a", "b", "c", "d"].map(str::as_bytes);
    let moves = |key: &&[u8]| {
        let topic = EVENT_TYPES[0];
        before.partition_for(topic, key) != after.partition_for(topic, key)
    };
    assert!(keys.iter().any(moves));
}

#[test]
fn a_settled_checkpoint_partition_ends_behind_a_marker() {
    let mut cluster = Cluster::new();
    let producer = cluster.init("a");
    let id = cluster.broker.checkpoints();
    cluster
        .broker
        .add_to_transaction(&producer, id, NOW)
        .unwrap();
    let record = vec![Message::checkpoint(b"1".to_vec())];
    cluster
        .broker
        .produce(&producer, id, 0, record, NOW)
        .unwrap();
    assert_eq!(cluster.broker.stable_offset(id, NOW), Ok(0));
    assert_eq!(cluster.broker.high_watermark(id, NOW), Ok(1));
    cluster.broker.commit(&producer, NOW).unwrap();
    cluster.settle();
    assert_eq!(cluster.broker.stable_offset(id, NOW), Ok(2));
    assert_eq!(cluster.broker.high_watermark(id, NOW), Ok(2));
}

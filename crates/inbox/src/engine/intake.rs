//! Records out of the client's queues.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event::envelope::Headers;
use rdkafka::Message as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::types::RDKafkaErrorCode;

use super::{Engine, Place};
use crate::error::Error;
use crate::event::Source;
use crate::metrics::now_ms;
use crate::work::Item;

/// What one poll has found, apart from the client's memory.
enum Found {
    Record {
        source: Source,
        headers: Result<Headers, &'static str>,
    },
    /// The end of a partition; librdkafka's wrapper tells only its number, not its topic.
    End,
    Trouble(KafkaError),
}

impl Engine {
    /// Takes in what is there, as far as there is room.
    pub(super) fn take_in(&mut self) {
        self.take_in_main();
        let places: Vec<Place> = self.partitions.keys().cloned().collect();
        for place in places {
            self.take_in_partition(&place);
        }
    }

    /// The main queue has rebalances, errors, and what was fetched before a partition had its own.
    fn take_in_main(&mut self) {
        loop {
            let served = self.consumer.context().served();
            let polled = self.consumer.poll(Duration::ZERO).map(found);
            match polled {
                Some(Found::Record { source, headers }) => {
                    let place = (Arc::clone(&source.topic), source.partition);
                    self.received(&place, source, headers);
                }
                // Whose end it is can't be told: the next one comes by the partition's own queue.
                Some(Found::End) => {}
                Some(Found::Trouble(error)) => self.trouble(error),
                None if self.consumer.context().served() == served => return,
                None => {}
            }
        }
    }

    fn take_in_partition(&mut self, place: &Place) {
        let bytes_max = self.settings.buffer_bytes / self.partitions.len().max(1);
        loop {
            let is_full = self.lag.progress(place, |progress| {
                progress.open() >= self.settings.buffer || progress.open_bytes() >= bytes_max
            });
            let Some(partition) = self.partitions.get(place) else {
                return;
            };
            if partition.is_shut || is_full.unwrap_or_default() {
                return;
            }
            let Some(queue) = &partition.queue else {
                return;
            };
            let polled = queue.poll(Duration::ZERO).map(found);
            match polled {
                None => return,
                Some(Found::Record { source, headers }) => self.received(place, source, headers),
                Some(Found::End) => {
                    self.lag
                        .progress(place, |progress| progress.reached_end(now_ms()));
                }
                Some(Found::Trouble(error)) => self.trouble(error),
            }
        }
    }

    fn received(
        &mut self,
        place: &Place,
        mut source: Source,
        headers: Result<Headers, &'static str>,
    ) {
        if self.partitions.get(place).is_none_or(|found| found.is_shut) {
            return;
        }
        let expected = self.lag.progress(place, |progress| progress.next());
        let expected = expected.flatten();
        if let Some(next) = expected.filter(|next| source.offset < *next) {
            self.starts_over(place, next, source.offset);
        }
        let Some(partition) = self.partitions.get(place) else {
            return;
        };
        source.topic = Arc::clone(&partition.topic);
        let timestamp_ms = source.timestamp_ms.unwrap_or_else(now_ms);
        let bytes = source.bytes();
        self.lag.progress(place, |progress| {
            progress.received(source.offset, timestamp_ms, bytes)
        });
        let lane = partition.lane(self.settings.once, source.key.as_deref(), source.offset);
        let item = Item::read(
            lane,
            source,
            headers,
            self.settings.format,
            &self.settings.retry,
        );
        self.schedule.push(lane, item);
    }

    /// The client tries again by itself, unless the error is fatal.
    fn trouble(&mut self, source: KafkaError) {
        if matches!(source, KafkaError::MessageConsumptionFatal(_)) {
            let attempt = "consuming";
            self.stop.get_or_insert(Error::Kafka { attempt, source });
        } else {
            tracing::warn!(error = %source, "records can't be read; the client tries again");
        }
    }
}

fn found(polled: KafkaResult<BorrowedMessage<'_>>) -> Found {
    match polled {
        Ok(message) => Found::Record {
            source: Source {
                topic: message.topic().into(),
                partition: message.partition(),
                offset: message.offset(),
                timestamp_ms: message.timestamp().to_millis(),
                key: message.key().map(Bytes::copy_from_slice),
                value: message.payload().map(Bytes::copy_from_slice),
            },
            headers: headers(&message),
        },
        Err(
            KafkaError::PartitionEOF(_)
            | KafkaError::MessageConsumption(RDKafkaErrorCode::PartitionEOF),
        ) => Found::End,
        Err(error) => Found::Trouble(error),
    }
}

fn headers(message: &BorrowedMessage<'_>) -> Result<Headers, &'static str> {
    let Some(headers) = message.headers() else {
        return Ok(Headers::default());
    };
    let copy = || {
        let copied = headers.iter().map(|header| {
            let value = header.value.map(Bytes::copy_from_slice);
            (header.key, value)
        });
        copied.collect()
    };
    // The client's wrapper panics at a name that is not UTF-8.
    let copied = std::panic::catch_unwind(AssertUnwindSafe(copy));
    copied.map_err(|_| "the name of a header is not UTF-8")
}

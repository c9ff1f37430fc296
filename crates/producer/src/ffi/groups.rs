//! What groups have committed, where partitions end, and single records.

use super::describe::{Request, slice};
use super::*;
use crate::groups::{Edge, Found, TopicPartition};

/// A list of partitions with an offset each.
struct List(NonNull<rd::rd_kafka_topic_partition_list_t>);

impl List {
    fn new(capacity: usize) -> Self {
        let capacity = c_int::try_from(capacity).unwrap_or(c_int::MAX);
        // SAFETY: allocates; librdkafka aborts rather than return null.
        let list = unsafe { rd::rd_kafka_topic_partition_list_new(capacity) };
        Self(NonNull::new(list).expect("librdkafka allocates a list"))
    }

    fn add(&mut self, topic: &CStr, partition: i32, offset: i64) {
        // SAFETY: the list is alive, and the name is copied.
        unsafe {
            let added =
                rd::rd_kafka_topic_partition_list_add(self.0.as_ptr(), topic.as_ptr(), partition);
            (*added).offset = offset;
        }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the last use.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.0.as_ptr()) }
    }
}

/// What is said of a partition: an offset, or an error.
type Said = (TopicPartition, Result<i64, ClientError>);

impl Client {
    /// All partitions of all topics, and whether each has a leader.
    pub fn partitions(
        &self,
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, bool)>, ClientError> {
        let mut metadata = ptr::null();
        // SAFETY: the handle is alive; the answer is written where the pointer says.
        let code = unsafe {
            rd::rd_kafka_metadata(
                self.rk.as_ptr(),
                1,
                ptr::null_mut(),
                &mut metadata,
                millis(timeout),
            )
        };
        if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(error_of(code));
        }
        // SAFETY: the answer is alive until it is destroyed, and owns its arrays.
        unsafe {
            let count = usize::try_from((*metadata).topic_cnt).unwrap_or_default();
            let topics = slice((*metadata).topics.cast_const(), count).iter();
            let mut partitions = Vec::new();
            for topic in topics {
                let count = usize::try_from(topic.partition_cnt).unwrap_or_default();
                for partition in slice(topic.partitions.cast_const(), count) {
                    let place = TopicPartition {
                        topic: text(topic.topic),
                        partition: partition.id,
                    };
                    partitions.push((place, partition.leader >= 0));
                }
            }
            rd::rd_kafka_metadata_destroy(metadata);
            Ok(partitions)
        }
    }

    /// Every offset that a group has committed; none if there is no such group.
    pub fn committed(&self, group: &CStr, timeout: Duration) -> Result<Vec<Said>, ClientError> {
        use rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS as CALL;
        let request = Request::new(self, CALL, timeout);
        // SAFETY: group and options are copied or live through the call; no partitions means all.
        unsafe {
            let wanted = rd::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), ptr::null());
            let mut all = [wanted];
            rd::rd_kafka_ListConsumerGroupOffsets(
                self.rk.as_ptr(),
                all.as_mut_ptr(),
                all.len(),
                request.options.as_ptr(),
                request.queue.as_ptr(),
            );
            rd::rd_kafka_ListConsumerGroupOffsets_destroy(wanted);
        }
        request.answer(timeout, |event| {
            // SAFETY: the event is alive and owns what is read here.
            unsafe {
                let result = rd::rd_kafka_event_ListConsumerGroupOffsets_result(event.as_ptr());
                if result.is_null() {
                    return Ok(Vec::new());
                }
                let mut count = 0;
                let groups =
                    rd::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &mut count);
                let Some(group) = slice(groups.cast_const(), count).first() else {
                    return Ok(Vec::new());
                };
                let error = rd::rd_kafka_group_result_error(*group);
                if !error.is_null() {
                    return Err(ClientError {
                        code: rd::rd_kafka_error_code(error) as i32,
                        name: text(rd::rd_kafka_error_name(error)),
                        message: text(rd::rd_kafka_error_string(error)),
                    });
                }
                Ok(said(rd::rd_kafka_group_result_partitions(*group)))
            }
        })?
    }

    /// Asks each partition's leader where it begins or ends: one request for each broker.
    pub fn offsets(
        &self,
        edge: Edge,
        partitions: &[(&CStr, i32)],
        timeout: Duration,
    ) -> Result<Vec<Said>, ClientError> {
        use rd::rd_kafka_IsolationLevel_t::{
            RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED as COMMITTED,
            RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED as UNCOMMITTED,
        };
        use rd::rd_kafka_OffsetSpec_t::{
            RD_KAFKA_OFFSET_SPEC_EARLIEST as EARLIEST, RD_KAFKA_OFFSET_SPEC_LATEST as LATEST,
        };
        use rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS as CALL;
        let (wanted, isolation) = match edge {
            Edge::First => (EARLIEST, COMMITTED),
            Edge::Stable => (LATEST, COMMITTED),
            Edge::Written => (LATEST, UNCOMMITTED),
        };
        let request = Request::new(self, CALL, timeout);
        let mut list = List::new(partitions.len());
        for (topic, partition) in partitions {
            list.add(topic, *partition, wanted as i64);
        }
        // SAFETY: the list is copied, and the options live through the call.
        unsafe {
            // Its error (the option does not fit the call) can't occur.
            take_error(rd::rd_kafka_AdminOptions_set_isolation_level(
                request.options.as_ptr(),
                isolation,
            ));
            rd::rd_kafka_ListOffsets(
                self.rk.as_ptr(),
                list.0.as_ptr(),
                request.options.as_ptr(),
                request.queue.as_ptr(),
            );
        }
        request.answer(timeout, |event| {
            // SAFETY: the event is alive and owns what is read here.
            unsafe {
                let result = rd::rd_kafka_event_ListOffsets_result(event.as_ptr());
                if result.is_null() {
                    return Vec::new();
                }
                let mut count = 0;
                let infos = rd::rd_kafka_ListOffsets_result_infos(result, &mut count);
                let infos = slice(infos.cast_const(), count).iter();
                let places =
                    infos.map(|info| &*rd::rd_kafka_ListOffsetsResultInfo_topic_partition(*info));
                places.map(|place| said_of(place)).collect()
            }
        })
    }

    /// Begins to read partitions.
    pub fn fetching(&self) -> Fetching<'_> {
        // SAFETY: the handle is alive; librdkafka aborts rather than return null.
        let queue = unsafe { rd::rd_kafka_queue_new(self.rk.as_ptr()) };
        Fetching {
            queue: NonNull::new(queue).expect("librdkafka allocates a queue"),
            started: Vec::new(),
            client: std::marker::PhantomData,
        }
    }
}

/// Partitions that are read, without a group, until it is dropped.
pub(crate) struct Fetching<'a> {
    queue: NonNull<rd::rd_kafka_queue_t>,
    started: Vec<(TopicRef, i32)>,
    client: std::marker::PhantomData<&'a Client>,
}

impl Fetching<'_> {
    /// Reads a partition from an offset on. The topic's handle must outlive this.
    pub fn start(
        &mut self,
        topic: TopicRef,
        partition: i32,
        offset: i64,
    ) -> Result<(), ClientError> {
        // SAFETY: topic and queue are alive; no partition is started twice by our caller.
        let started = unsafe {
            rd::rd_kafka_consume_start_queue(
                topic.0.as_ptr(),
                partition,
                offset,
                self.queue.as_ptr(),
            )
        };
        if started != 0 {
            // SAFETY: reads a number of this thread.
            return Err(error_of(unsafe { rd::rd_kafka_last_error() }));
        }
        self.started.push((topic, partition));
        Ok(())
    }

    /// What comes next of any partition; `None` if nothing does in time.
    pub fn next(&mut self, timeout: Duration) -> Option<(TopicPartition, Found)> {
        // SAFETY: the queue is alive; the message is destroyed after its last use.
        unsafe {
            let message = rd::rd_kafka_consume_queue(self.queue.as_ptr(), millis(timeout));
            let message = NonNull::new(message)?;
            let found = found(message.as_ref());
            rd::rd_kafka_message_destroy(message.as_ptr());
            Some(found)
        }
    }

    /// Reads a partition no more.
    pub fn stop(&mut self, topic: TopicRef, partition: i32) {
        let is_it = |(other, number): &(TopicRef, i32)| other.0 == topic.0 && *number == partition;
        if let Some(at) = self.started.iter().position(is_it) {
            self.started.swap_remove(at);
            stop(topic, partition);
        }
    }
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        for (topic, partition) in self.started.drain(..) {
            stop(topic, partition);
        }
        // SAFETY: the last use; what is in it goes with it.
        unsafe { rd::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

fn stop(topic: TopicRef, partition: i32) {
    // SAFETY: the handle is alive, and the partition was started.
    unsafe { rd::rd_kafka_consume_stop(topic.0.as_ptr(), partition) };
}

/// # Safety
/// `message` is alive.
unsafe fn found(message: &rd::rd_kafka_message_t) -> (TopicPartition, Found) {
    use rd::rd_kafka_resp_err_t::{
        RD_KAFKA_RESP_ERR__PARTITION_EOF as END, RD_KAFKA_RESP_ERR_NO_ERROR as NO_ERROR,
    };
    // SAFETY: the message is alive and names its topic, if it has one.
    unsafe {
        let place = TopicPartition {
            topic: match message.rkt.is_null() {
                true => String::new(),
                false => text(rd::rd_kafka_topic_name(message.rkt)),
            },
            partition: message.partition,
        };
        let offset = message.offset;
        let found = match message.err {
            NO_ERROR => {
                let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
                let timestamp_ms = rd::rd_kafka_message_timestamp(message, &mut kind);
                Found::Record {
                    offset,
                    timestamp_ms: (timestamp_ms >= 0).then_some(timestamp_ms),
                }
            }
            END => Found::End { offset },
            code => Found::Refused(error_of(code)),
        };
        (place, found)
    }
}

fn error_of(code: rd::rd_kafka_resp_err_t) -> ClientError {
    // SAFETY: the texts of codes are static.
    unsafe {
        ClientError {
            code: code as i32,
            name: text(rd::rd_kafka_err2name(code)),
            message: text(rd::rd_kafka_err2str(code)),
        }
    }
}

/// # Safety
/// The list is alive, or null.
unsafe fn said(list: *const rd::rd_kafka_topic_partition_list_t) -> Vec<Said> {
    // SAFETY: as the caller promises; the list owns its elements.
    unsafe {
        let Some(list) = list.as_ref() else {
            return Vec::new();
        };
        let count = usize::try_from(list.cnt).unwrap_or_default();
        let places = slice(list.elems.cast_const(), count).iter();
        places.map(|place| said_of(place)).collect()
    }
}

/// # Safety
/// `place` is alive.
unsafe fn said_of(place: &rd::rd_kafka_topic_partition_t) -> Said {
    let said = match place.err {
        rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(place.offset),
        code => Err(error_of(code)),
    };
    let place = TopicPartition {
        topic: text(place.topic),
        partition: place.partition,
    };
    (place, said)
}

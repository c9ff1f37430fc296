//! Admin requests about one topic.

use super::*;

/// What an admin call needs, given back in the end.
pub(super) struct Request {
    pub options: NonNull<rd::rd_kafka_AdminOptions_t>,
    pub queue: NonNull<rd::rd_kafka_queue_t>,
}

impl Request {
    pub fn new(client: &Client, call: rd::rd_kafka_admin_op_t, timeout: Duration) -> Self {
        // SAFETY: the handle is alive; librdkafka aborts rather than return null.
        let (options, queue) = unsafe {
            let rk = client.rk.as_ptr();
            (
                rd::rd_kafka_AdminOptions_new(rk, call),
                rd::rd_kafka_queue_new(rk),
            )
        };
        let options = NonNull::new(options).expect("librdkafka allocates options");
        let queue = NonNull::new(queue).expect("librdkafka allocates a queue");
        let mut reason = [0 as c_char; ERROR_TEXT_BYTES];
        // SAFETY: all pointers live through the call, and the buffer's length is given.
        unsafe {
            rd::rd_kafka_AdminOptions_set_request_timeout(
                options.as_ptr(),
                millis(timeout),
                reason.as_mut_ptr(),
                reason.len(),
            );
        }
        Self { options, queue }
    }

    pub fn options(&self) -> *const rd::rd_kafka_AdminOptions_t {
        self.options.as_ptr()
    }

    pub fn queue(&self) -> *mut rd::rd_kafka_queue_t {
        self.queue.as_ptr()
    }

    /// Waits for the answer, and has it read before it is given back.
    pub fn answer<T>(
        &self,
        timeout: Duration,
        read: impl FnOnce(NonNull<rd::rd_kafka_event_t>) -> T,
    ) -> Result<T, ClientError> {
        // The request ends by itself at its timeout; this one only guards against that it does not.
        let patience = millis(timeout.saturating_mul(2));
        // SAFETY: queue and event are alive; the event is destroyed after its last use.
        unsafe {
            let event = rd::rd_kafka_queue_poll(self.queue.as_ptr(), patience);
            let Some(event) = NonNull::new(event) else {
                return Err(ClientError {
                    code: rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TIMED_OUT as i32,
                    name: "_TIMED_OUT".into(),
                    message: "no answer".into(),
                });
            };
            let code = rd::rd_kafka_event_error(event.as_ptr());
            let answer = match code {
                rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(read(event)),
                _ => Err(client_error(event.as_ptr())),
            };
            rd::rd_kafka_event_destroy(event.as_ptr());
            answer
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // SAFETY: the last use of both.
        unsafe {
            rd::rd_kafka_AdminOptions_destroy(self.options.as_ptr());
            rd::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

impl Client {
    /// The broker's error code for the topic (0: it exists), and whether it may be written to.
    pub fn describe_topic(
        &self,
        name: &CStr,
        timeout: Duration,
    ) -> Result<Option<(i32, bool)>, ClientError> {
        use rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS as CALL;
        let request = Request::new(self, CALL, timeout);
        let mut names = [name.as_ptr()];
        // SAFETY: the names are copied; collection and options live through the call.
        unsafe {
            // Its error (the option does not fit the call) can't occur.
            take_error(rd::rd_kafka_AdminOptions_set_include_authorized_operations(
                request.options.as_ptr(),
                1,
            ));
            let topics = rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
            rd::rd_kafka_DescribeTopics(
                self.rk.as_ptr(),
                topics,
                request.options.as_ptr(),
                request.queue.as_ptr(),
            );
            rd::rd_kafka_TopicCollection_destroy(topics);
        }
        request.answer(timeout, |event| {
            // SAFETY: the event is alive and owns what is read here.
            unsafe {
                let result = rd::rd_kafka_event_DescribeTopics_result(event.as_ptr());
                if result.is_null() {
                    return None;
                }
                let mut count = 0;
                let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &mut count);
                let topic = *slice(topics.cast_const(), count).first()?;
                let error = rd::rd_kafka_TopicDescription_error(topic);
                let code = rd::rd_kafka_error_code(error) as i32;
                Some((code, is_writable(topic)))
            }
        })
    }

    /// The value of a topic's configuration; `None` if that may not be read.
    pub fn topic_config(
        &self,
        topic: &CStr,
        name: &str,
        timeout: Duration,
    ) -> Result<Option<String>, ClientError> {
        use rd::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC as TOPIC;
        use rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS as CALL;
        let request = Request::new(self, CALL, timeout);
        // SAFETY: the name is copied; resource and options live through the call.
        unsafe {
            let resource = rd::rd_kafka_ConfigResource_new(TOPIC, topic.as_ptr());
            let mut resources = [resource];
            rd::rd_kafka_DescribeConfigs(
                self.rk.as_ptr(),
                resources.as_mut_ptr(),
                1,
                request.options.as_ptr(),
                request.queue.as_ptr(),
            );
            rd::rd_kafka_ConfigResource_destroy(resource);
        }
        request.answer(timeout, |event| {
            // SAFETY: the event is alive and owns what is read here.
            unsafe {
                let result = rd::rd_kafka_event_DescribeConfigs_result(event.as_ptr());
                if result.is_null() {
                    return None;
                }
                let mut count = 0;
                let found = rd::rd_kafka_DescribeConfigs_result_resources(result, &mut count);
                let resource = *slice(found.cast_const(), count).first()?;
                let entries = rd::rd_kafka_ConfigResource_configs(resource, &mut count);
                let mut entries = slice(entries.cast_const(), count).iter();
                let entry =
                    entries.find(|entry| text(rd::rd_kafka_ConfigEntry_name(**entry)) == name)?;
                Some(text(rd::rd_kafka_ConfigEntry_value(*entry)))
            }
        })
    }
}

/// Whether WRITE is among the operations allowed. A broker that does not tell has no authorizer.
///
/// # Safety
/// `topic` is alive.
unsafe fn is_writable(topic: *const rd::rd_kafka_TopicDescription_t) -> bool {
    use rd::rd_kafka_AclOperation_t::{RD_KAFKA_ACL_OPERATION_ALL, RD_KAFKA_ACL_OPERATION_WRITE};
    let mut count = 0;
    // SAFETY: the description is alive and owns the array.
    let allowed = unsafe {
        let operations = rd::rd_kafka_TopicDescription_authorized_operations(topic, &mut count);
        if operations.is_null() {
            return true;
        }
        slice(operations, count)
    };
    let writes = [RD_KAFKA_ACL_OPERATION_WRITE, RD_KAFKA_ACL_OPERATION_ALL];
    allowed.iter().any(|operation| writes.contains(operation))
}

/// An array of librdkafka's; null is the empty one.
///
/// # Safety
/// It has `count` elements, unless it is null, and lives as long as the slice is used.
pub(super) unsafe fn slice<'a, T>(array: *const T, count: usize) -> &'a [T] {
    if array.is_null() {
        return &[];
    }
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts(array, count) }
}

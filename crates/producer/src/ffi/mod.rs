//! The calls into librdkafka. Every `unsafe` block of the workspace is in this module.
//!
//! Ownership: [`Client`] owns the handle and its main queue, [`Topic`] a topic handle,
//! [`Headers`] a header list until librdkafka takes it, and an event is destroyed before
//! [`Client::next_event`] returns. [`Topic`]s must be dropped before their [`Client`], which
//! `Producer::drop` sees to.

mod acl;
mod describe;
mod groups;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::bindings as rd;

use crate::error::{BatchReport, cause};
use crate::{ClientError, CreateError, DeliveryError, ErrorClass, Record, TransactionError};

pub(crate) const QUEUE_FULL: i32 = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__QUEUE_FULL as i32;
pub(crate) const INVALID_ARGUMENT: i32 =
    rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__INVALID_ARG as i32;
const ERROR_TEXT_BYTES: usize = 512;
/// `RD_KAFKA_PARTITION_UA`: let the partitioner choose.
const UNASSIGNED: i32 = -1;

/// Copies a C string; null becomes the empty string.
fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka's strings are NUL-terminated and outlive this call.
    unsafe { CStr::from_ptr(pointer) }
        .to_string_lossy()
        .into_owned()
}

fn millis(timeout: Duration) -> c_int {
    c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX)
}

/// A configuration that has not become a client yet.
pub(crate) struct Conf {
    raw: RawConf,
    /// Counts closed connections; librdkafka holds a pointer to it.
    closed: Arc<AtomicU64>,
}

struct RawConf(NonNull<rd::rd_kafka_conf_t>);

/// Called by librdkafka to close a connection's socket, on any of its threads.
unsafe extern "C" fn close_socket(socket: c_int, counter: *mut c_void) -> c_int {
    // SAFETY: the pointer was set from an `Arc` that outlives the client.
    let counter = unsafe { &*counter.cast_const().cast::<AtomicU64>() };
    counter.fetch_add(1, Ordering::SeqCst);
    // SAFETY: librdkafka gives the socket away.
    drop(unsafe { OwnedFd::from_raw_fd(socket) });
    0
}

impl Conf {
    pub fn new() -> Self {
        // SAFETY: allocates; librdkafka aborts rather than return null.
        let conf = unsafe { rd::rd_kafka_conf_new() };
        let mut conf = Self {
            raw: RawConf(NonNull::new(conf).expect("librdkafka allocates a configuration")),
            closed: Arc::default(),
        };
        conf.enable_events();
        conf.count_closed();
        conf
    }

    fn count_closed(&mut self) {
        let counter = Arc::as_ptr(&self.closed).cast_mut().cast::<c_void>();
        // SAFETY: the configuration is alive and ours; the client keeps the counter.
        unsafe {
            rd::rd_kafka_conf_set_opaque(self.raw.0.as_ptr(), counter);
            rd::rd_kafka_conf_set_closesocket_cb(self.raw.0.as_ptr(), Some(close_socket));
        }
    }

    fn enable_events(&mut self) {
        let events = rd::RD_KAFKA_EVENT_DR | rd::RD_KAFKA_EVENT_ERROR | rd::RD_KAFKA_EVENT_LOG;
        // SAFETY: the configuration is alive and ours.
        unsafe { rd::rd_kafka_conf_set_events(self.raw.0.as_ptr(), events) }
    }

    pub fn set(&mut self, name: &CStr, value: &CStr) -> Result<(), String> {
        let mut reason = [0 as c_char; ERROR_TEXT_BYTES];
        // SAFETY: all pointers live through the call, and the buffer's length is given.
        let result = unsafe {
            rd::rd_kafka_conf_set(
                self.raw.0.as_ptr(),
                name.as_ptr(),
                value.as_ptr(),
                reason.as_mut_ptr(),
                reason.len(),
            )
        };
        match result {
            rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
            _ => Err(text(reason.as_ptr())),
        }
    }
}

impl Drop for RawConf {
    fn drop(&mut self) {
        // SAFETY: `Client::new` forgets a configuration that librdkafka has taken.
        unsafe { rd::rd_kafka_conf_destroy(self.0.as_ptr()) }
    }
}

/// An event of the main queue, already copied out.
pub(crate) enum Event {
    Delivered {
        batch: BatchReport,
        failure: Option<DeliveryError>,
    },
    Error(ClientError),
    Other,
}

/// What a client is for. Either kind asks brokers; only a consumer reads.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Producer,
    Consumer,
}

/// The client handle and its main queue.
pub(crate) struct Client {
    rk: NonNull<rd::rd_kafka_t>,
    queue: NonNull<rd::rd_kafka_queue_t>,
    /// Dropped after the handle, whose threads use it.
    closed: Arc<AtomicU64>,
}

// SAFETY: librdkafka handles may be used from any thread; `Client` is not `Sync`, so one at a time.
unsafe impl Send for Client {}

impl Client {
    pub fn new(conf: Conf, kind: Kind) -> Result<Self, CreateError> {
        use rd::rd_kafka_type_t::{RD_KAFKA_CONSUMER, RD_KAFKA_PRODUCER};
        let kind = match kind {
            Kind::Producer => RD_KAFKA_PRODUCER,
            Kind::Consumer => RD_KAFKA_CONSUMER,
        };
        let mut reason = [0 as c_char; ERROR_TEXT_BYTES];
        // SAFETY: on success librdkafka owns the configuration, on failure we still do.
        let rk = unsafe {
            rd::rd_kafka_new(kind, conf.raw.0.as_ptr(), reason.as_mut_ptr(), reason.len())
        };
        let Some(rk) = NonNull::new(rk) else {
            return Err(CreateError::Client(text(reason.as_ptr())));
        };
        let Conf { raw, closed } = conf;
        std::mem::forget(raw);
        // SAFETY: the handle is alive; a null queue forwards logs to the main queue.
        let queue = unsafe {
            rd::rd_kafka_set_log_queue(rk.as_ptr(), ptr::null_mut());
            rd::rd_kafka_queue_get_main(rk.as_ptr())
        };
        let queue = NonNull::new(queue).expect("a client has a main queue");
        Ok(Self { rk, queue, closed })
    }

    pub fn connections_closed(&self) -> u64 {
        self.closed.load(Ordering::SeqCst)
    }

    pub fn topic(&self, name: &CStr) -> Option<Topic> {
        // SAFETY: the name lives through the call, which copies it; null means defaults.
        let topic =
            unsafe { rd::rd_kafka_topic_new(self.rk.as_ptr(), name.as_ptr(), ptr::null_mut()) };
        NonNull::new(topic).map(Topic)
    }

    /// Queues a copy of the record. On failure: librdkafka's code and message.
    pub fn produce(
        &self,
        topic: TopicRef,
        record: &Record<'_>,
        headers: Headers,
    ) -> Result<(), (i32, String)> {
        use rd::rd_kafka_vtype_t as V;
        let values = [
            value(V::RD_KAFKA_VTYPE_RKT, |u| u.rkt = topic.0.as_ptr()),
            value(V::RD_KAFKA_VTYPE_PARTITION, |u| {
                u.i32_ = record.partition.unwrap_or(UNASSIGNED)
            }),
            value(V::RD_KAFKA_VTYPE_MSGFLAGS, |u| {
                u.i = rd::RD_KAFKA_MSG_F_COPY
            }),
            value(V::RD_KAFKA_VTYPE_TIMESTAMP, |u| {
                u.i64_ = record.timestamp_ms
            }),
            value(V::RD_KAFKA_VTYPE_KEY, |u| u.mem = memory(record.key)),
            value(V::RD_KAFKA_VTYPE_VALUE, |u| u.mem = memory(record.value)),
            value(V::RD_KAFKA_VTYPE_OPAQUE, |u| {
                u.ptr = ptr::without_provenance_mut(record.tag)
            }),
            value(V::RD_KAFKA_VTYPE_HEADERS, |u| {
                u.headers = headers.0.as_ptr()
            }),
        ];
        // SAFETY: every tag matches the union member set beside it, and all memory outlives the
        // call, which copies it.
        let error =
            unsafe { rd::rd_kafka_produceva(self.rk.as_ptr(), values.as_ptr(), values.len()) };
        match take_error(error) {
            None => {
                // librdkafka owns the headers of a record that it has taken.
                std::mem::forget(headers);
                Ok(())
            }
            Some(raw) => Err((raw.code, raw.message)),
        }
    }

    /// The next event, waiting up to `timeout`; `None` when there is none.
    pub fn next_event(&self, timeout: Duration) -> Option<Event> {
        // SAFETY: queue and event are alive; the event is destroyed below, after its last use.
        unsafe {
            let event = rd::rd_kafka_queue_poll(self.queue.as_ptr(), millis(timeout));
            if event.is_null() {
                return None;
            }
            let seen = match rd::rd_kafka_event_type(event) {
                rd::RD_KAFKA_EVENT_DR => deliveries(event),
                rd::RD_KAFKA_EVENT_ERROR => Event::Error(client_error(event)),
                rd::RD_KAFKA_EVENT_LOG => log(event),
                _ => Event::Other,
            };
            rd::rd_kafka_event_destroy(event);
            Some(seen)
        }
    }

    pub fn purge(&self) {
        let flags = rd::RD_KAFKA_PURGE_F_QUEUE | rd::RD_KAFKA_PURGE_F_INFLIGHT;
        // SAFETY: the handle is alive.
        unsafe { rd::rd_kafka_purge(self.rk.as_ptr(), flags) };
    }

    pub fn init_transactions(&self, timeout: Duration) -> Result<(), TransactionError> {
        // SAFETY: the handle is alive; the call blocks for at most the timeout.
        let error = unsafe { rd::rd_kafka_init_transactions(self.rk.as_ptr(), millis(timeout)) };
        outcome("init_transactions", error)
    }

    pub fn begin_transaction(&self) -> Result<(), TransactionError> {
        // SAFETY: the handle is alive.
        let error = unsafe { rd::rd_kafka_begin_transaction(self.rk.as_ptr()) };
        outcome("begin_transaction", error)
    }

    pub fn commit_transaction(&self, timeout: Duration) -> Result<(), TransactionError> {
        // SAFETY: the handle is alive; the call blocks for at most the timeout.
        let error = unsafe { rd::rd_kafka_commit_transaction(self.rk.as_ptr(), millis(timeout)) };
        outcome("commit_transaction", error)
    }

    pub fn abort_transaction(&self, timeout: Duration) -> Result<(), TransactionError> {
        // SAFETY: the handle is alive; the call blocks for at most the timeout.
        let error = unsafe { rd::rd_kafka_abort_transaction(self.rk.as_ptr(), millis(timeout)) };
        outcome("abort_transaction", error)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: the last use of both; topics were released before.
        unsafe {
            rd::rd_kafka_queue_destroy(self.queue.as_ptr());
            rd::rd_kafka_destroy(self.rk.as_ptr());
        }
    }
}

/// An owned topic handle.
pub(crate) struct Topic(NonNull<rd::rd_kafka_topic_t>);

// SAFETY: as for `Client`.
unsafe impl Send for Topic {}

impl Topic {
    pub fn as_ref(&self) -> TopicRef {
        TopicRef(self.0)
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: gives back our reference.
        unsafe { rd::rd_kafka_topic_destroy(self.0.as_ptr()) }
    }
}

/// A topic handle that its cache owns.
#[derive(Clone, Copy)]
pub(crate) struct TopicRef(NonNull<rd::rd_kafka_topic_t>);

/// A header list that librdkafka has not taken yet.
pub(crate) struct Headers(NonNull<rd::rd_kafka_headers_t>);

impl Headers {
    pub fn new() -> Self {
        // SAFETY: allocates; librdkafka aborts rather than return null.
        let headers = unsafe { rd::rd_kafka_headers_new(8) };
        Self(NonNull::new(headers).expect("librdkafka allocates headers"))
    }

    pub fn add(&mut self, name: &str, value: Option<&[u8]>) {
        let value = memory(value);
        // SAFETY: name and value live through the call, which copies them; lengths are given.
        unsafe {
            rd::rd_kafka_header_add(
                self.0.as_ptr(),
                name.as_ptr().cast(),
                name.len() as isize,
                value.ptr,
                value.size as isize,
            );
        }
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        // SAFETY: still ours; `Client::produce` forgets a list that librdkafka has taken.
        unsafe { rd::rd_kafka_headers_destroy(self.0.as_ptr()) }
    }
}

fn memory(bytes: Option<&[u8]>) -> rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
    let (ptr, size) = match bytes {
        Some(bytes) => (bytes.as_ptr().cast_mut().cast::<c_void>(), bytes.len()),
        None => (ptr::null_mut(), 0),
    };
    rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size }
}

fn value(
    vtype: rd::rd_kafka_vtype_t,
    set: impl FnOnce(&mut rd::rd_kafka_vu_s__bindgen_ty_1),
) -> rd::rd_kafka_vu_t {
    let mut u = rd::rd_kafka_vu_s__bindgen_ty_1 {
        ptr: ptr::null_mut(),
    };
    set(&mut u);
    rd::rd_kafka_vu_t { vtype, u }
}

struct RawError {
    code: i32,
    name: String,
    message: String,
    class: ErrorClass,
}

/// Copies an error and destroys it; null is success.
fn take_error(error: *mut rd::rd_kafka_error_t) -> Option<RawError> {
    if error.is_null() {
        return None;
    }
    // SAFETY: the error is alive until the destroy at the end.
    unsafe {
        let class = if rd::rd_kafka_error_is_fatal(error) != 0 {
            ErrorClass::Fatal
        } else if rd::rd_kafka_error_txn_requires_abort(error) != 0 {
            ErrorClass::RequiresAbort
        } else if rd::rd_kafka_error_is_retriable(error) != 0 {
            ErrorClass::Retriable
        } else {
            ErrorClass::Unclassified
        };
        let raw = RawError {
            code: rd::rd_kafka_error_code(error) as i32,
            name: text(rd::rd_kafka_error_name(error)),
            message: text(rd::rd_kafka_error_string(error)),
            class,
        };
        rd::rd_kafka_error_destroy(error);
        Some(raw)
    }
}

fn outcome(call: &'static str, error: *mut rd::rd_kafka_error_t) -> Result<(), TransactionError> {
    match take_error(error) {
        None => Ok(()),
        Some(RawError {
            code,
            name,
            message,
            class,
        }) => Err(TransactionError {
            call,
            code,
            name,
            message,
            class,
        }),
    }
}

/// # Safety
/// `event` is alive and a delivery report.
unsafe fn deliveries(event: *mut rd::rd_kafka_event_t) -> Event {
    let mut batch = BatchReport::default();
    let mut failure = None;
    loop {
        // SAFETY: the event owns its messages, which live as long as it does.
        let message = unsafe { rd::rd_kafka_event_message_next(event).as_ref() };
        let Some(message) = message else {
            return Event::Delivered { batch, failure };
        };
        batch.take(message._private.addr(), message.err as i32, || {
            // SAFETY: the message is alive; its text is copied.
            text(unsafe { rd::rd_kafka_message_produce_errstr(message) })
        });
        if message.err != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            // SAFETY: a delivery report always names its topic; error texts are static.
            let failed = unsafe {
                DeliveryError {
                    topic: text(rd::rd_kafka_topic_name(message.rkt)),
                    code: message.err as i32,
                    name: text(rd::rd_kafka_err2name(message.err)),
                    message: text(rd::rd_kafka_err2str(message.err)),
                }
            };
            failure = cause(failure, Some(failed));
        }
    }
}

/// # Safety
/// `event` is alive and an error.
unsafe fn client_error(event: *mut rd::rd_kafka_event_t) -> ClientError {
    // SAFETY: the event is alive; the strings are copied.
    unsafe {
        let code = rd::rd_kafka_event_error(event);
        ClientError {
            code: code as i32,
            name: text(rd::rd_kafka_err2name(code)),
            message: text(rd::rd_kafka_event_error_string(event)),
        }
    }
}

/// # Safety
/// `event` is alive and a log line.
unsafe fn log(event: *mut rd::rd_kafka_event_t) -> Event {
    let (mut facility, mut message, mut level) = (ptr::null(), ptr::null(), 0);
    // SAFETY: the event is alive; the strings are copied before it is destroyed.
    let known = unsafe { rd::rd_kafka_event_log(event, &mut facility, &mut message, &mut level) };
    if known == 0 {
        // The owner decides what an error means for its pipeline, so nothing here is above DEBUG.
        tracing::debug!(target: "librdkafka", level, facility = text(facility), "{}", text(message));
    }
    Event::Other
}

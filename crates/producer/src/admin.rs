//! What the brokers say of a topic, without producing to it; access control lists.

use std::ffi::CString;
use std::time::Duration;

use crate::{AclBinding, ClientError, CreateError, config, ffi};

/// Asks about topics. It never creates one.
pub struct Admin {
    client: ffi::Client,
}

/// What a principal may do with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicAccess {
    /// It exists and may be written to.
    Writable {
        /// `max.message.bytes`, if the principal may read that.
        max_message_bytes: Option<usize>,
    },
    /// It does not exist.
    Missing,
    /// The principal may not write to it.
    Denied,
    /// It is there, but not ready: the broker's code.
    Unready(i32),
}

const UNKNOWN_TOPIC: i32 = 3;
const TOPIC_AUTHORIZATION_FAILED: i32 = 29;
const INVALID_TOPIC: i32 = 17;

impl Admin {
    /// Creates a client from librdkafka properties. Nothing is contacted yet.
    pub fn new<'a>(
        properties: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, CreateError> {
        let client = ffi::Client::new(config::build(properties)?, ffi::Kind::Producer)?;
        Ok(Self { client })
    }

    /// Asks about one topic; blocks for up to about twice the timeout.
    pub fn topic(&self, name: &str, timeout: Duration) -> Result<TopicAccess, ClientError> {
        let Ok(name) = CString::new(name) else {
            return Ok(TopicAccess::Missing);
        };
        let described = self.client.describe_topic(&name, timeout)?;
        Ok(match described {
            Some((0, true)) => TopicAccess::Writable {
                max_message_bytes: self.max_message_bytes(&name, timeout)?,
            },
            Some((0, false) | (TOPIC_AUTHORIZATION_FAILED, _)) => TopicAccess::Denied,
            Some((UNKNOWN_TOPIC | INVALID_TOPIC, _)) | None => TopicAccess::Missing,
            Some((code, _)) => TopicAccess::Unready(code),
        })
    }

    /// Every binding of the brokers' access control lists; blocks for up to about twice the timeout.
    ///
    /// It takes DESCRIBE on the cluster. Brokers without an authorizer answer
    /// `SECURITY_DISABLED` (54).
    pub fn acls(&self, timeout: Duration) -> Result<Vec<AclBinding>, ClientError> {
        self.client.acls(timeout)
    }

    /// Creates bindings; those that are there already stay as they are. It takes ALTER on the cluster.
    pub fn create_acls(
        &self,
        bindings: &[AclBinding],
        timeout: Duration,
    ) -> Result<(), ClientError> {
        // librdkafka refuses an empty request.
        if bindings.is_empty() {
            return Ok(());
        }
        self.client.create_acls(bindings, timeout)
    }

    fn max_message_bytes(
        &self,
        topic: &CString,
        timeout: Duration,
    ) -> Result<Option<usize>, ClientError> {
        let value = self
            .client
            .topic_config(topic, "max.message.bytes", timeout)?;
        Ok(value.and_then(|value| value.parse().ok()))
    }
}

//! Admin requests about access control lists.

use std::ffi::CString;

use super::describe::{Request, slice};
use super::*;
use crate::acl::{AclBinding, AclEffect, AclOperation, AclPattern, AclResource};

/// A binding of librdkafka's, given back in the end.
struct Raw(NonNull<rd::rd_kafka_AclBinding_t>);

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the last use of it.
        unsafe { rd::rd_kafka_AclBinding_destroy(self.0.as_ptr()) }
    }
}

impl Client {
    /// Every binding that the brokers have.
    pub fn acls(&self, timeout: Duration) -> Result<Vec<AclBinding>, ClientError> {
        use rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBEACLS as CALL;
        let filter = everything()?;
        let request = Request::new(self, CALL, timeout);
        // SAFETY: the filter is copied; it and the options live through the call.
        unsafe {
            rd::rd_kafka_DescribeAcls(
                self.rk.as_ptr(),
                filter.0.as_ptr(),
                request.options(),
                request.queue(),
            );
        }
        request.answer(timeout, |event| {
            // SAFETY: the event is alive and owns what is read here.
            unsafe {
                let result = rd::rd_kafka_event_DescribeAcls_result(event.as_ptr());
                if result.is_null() {
                    return Vec::new();
                }
                let mut count = 0;
                let found = rd::rd_kafka_DescribeAcls_result_acls(result, &mut count);
                let found = slice(found.cast_const(), count).iter();
                found.map(|binding| copied(*binding)).collect()
            }
        })
    }

    /// Creates bindings; one that is there already counts as created.
    pub fn create_acls(
        &self,
        bindings: &[AclBinding],
        timeout: Duration,
    ) -> Result<(), ClientError> {
        use rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATEACLS as CALL;
        let wanted: Vec<Raw> = bindings.iter().map(raw).collect::<Result<_, _>>()?;
        let mut pointers: Vec<_> = wanted.iter().map(|raw| raw.0.as_ptr()).collect();
        let request = Request::new(self, CALL, timeout);
        // SAFETY: the bindings are copied; they and the options live through the call.
        unsafe {
            rd::rd_kafka_CreateAcls(
                self.rk.as_ptr(),
                pointers.as_mut_ptr(),
                pointers.len(),
                request.options(),
                request.queue(),
            );
        }
        request.answer(timeout, |event| {
            // SAFETY: the event is alive and owns what is read here.
            unsafe {
                let result = rd::rd_kafka_event_CreateAcls_result(event.as_ptr());
                if result.is_null() {
                    return Err(invalid("the brokers did not say what they created"));
                }
                let mut count = 0;
                let outcomes = rd::rd_kafka_CreateAcls_result_acls(result, &mut count);
                let mut outcomes = slice(outcomes.cast_const(), count).iter();
                let refusal = outcomes.find_map(|outcome| {
                    let error = rd::rd_kafka_acl_result_error(*outcome);
                    (!error.is_null()).then(|| ClientError {
                        code: rd::rd_kafka_error_code(error) as i32,
                        name: text(rd::rd_kafka_error_name(error)),
                        message: text(rd::rd_kafka_error_string(error)),
                    })
                });
                refusal.map_or(Ok(()), Err)
            }
        })?
    }
}

/// A filter that takes every binding.
fn everything() -> Result<Raw, ClientError> {
    let mut reason = [0 as c_char; ERROR_TEXT_BYTES];
    // SAFETY: null stands for any; the buffer's length is given.
    let filter = unsafe {
        rd::rd_kafka_AclBindingFilter_new(
            rd::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_ANY,
            ptr::null(),
            rd::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_ANY,
            ptr::null(),
            ptr::null(),
            rd::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_ANY,
            rd::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ANY,
            reason.as_mut_ptr(),
            reason.len(),
        )
    };
    NonNull::new(filter)
        .map(Raw)
        .ok_or_else(|| invalid(&text(reason.as_ptr())))
}

fn raw(binding: &AclBinding) -> Result<Raw, ClientError> {
    let c_string = |text: &str| CString::new(text).map_err(|_| invalid("a name holds a NUL byte"));
    let name = c_string(&binding.name)?;
    let principal = c_string(&binding.principal)?;
    let host = c_string(&binding.host)?;
    let (Some(resource), Some(pattern), Some(operation), Some(effect)) = (
        resource_to(binding.resource),
        pattern_to(binding.pattern),
        operation_to(binding.operation),
        effect_to(binding.effect),
    ) else {
        return Err(invalid(&format!("no binding can be made of {binding}")));
    };
    let mut reason = [0 as c_char; ERROR_TEXT_BYTES];
    // SAFETY: all strings live through the call, which copies them; the buffer's length is given.
    let made = unsafe {
        rd::rd_kafka_AclBinding_new(
            resource,
            name.as_ptr(),
            pattern,
            principal.as_ptr(),
            host.as_ptr(),
            operation,
            effect,
            reason.as_mut_ptr(),
            reason.len(),
        )
    };
    NonNull::new(made)
        .map(Raw)
        .ok_or_else(|| invalid(&text(reason.as_ptr())))
}

fn invalid(message: &str) -> ClientError {
    ClientError {
        code: INVALID_ARGUMENT,
        name: "_INVALID_ARG".into(),
        message: message.to_owned(),
    }
}

/// # Safety
/// `binding` is alive.
unsafe fn copied(binding: *const rd::rd_kafka_AclBinding_t) -> AclBinding {
    // SAFETY: the binding is alive and owns its strings, which are copied.
    unsafe {
        AclBinding {
            resource: resource_of(rd::rd_kafka_AclBinding_restype(binding)),
            pattern: pattern_of(rd::rd_kafka_AclBinding_resource_pattern_type(binding)),
            name: text(rd::rd_kafka_AclBinding_name(binding)),
            principal: text(rd::rd_kafka_AclBinding_principal(binding)),
            host: text(rd::rd_kafka_AclBinding_host(binding)),
            operation: operation_of(rd::rd_kafka_AclBinding_operation(binding)),
            effect: effect_of(rd::rd_kafka_AclBinding_permission_type(binding)),
        }
    }
}

/// One enumeration of librdkafka's and ours, in both directions.
macro_rules! both_ways {
    ($to:ident, $of:ident, $ours:ident, $raw:ident, $($name:ident = $c_name:ident),+ $(,)?) => {
        fn $to(ours: $ours) -> Option<rd::$raw> {
            match ours {
                $($ours::$name => Some(rd::$raw::$c_name),)+
                $ours::Unknown => None,
            }
        }

        fn $of(raw: rd::$raw) -> $ours {
            match raw {
                $(rd::$raw::$c_name => $ours::$name,)+
                _ => $ours::Unknown,
            }
        }
    };
}

both_ways!(
    resource_to,
    resource_of,
    AclResource,
    rd_kafka_ResourceType_t,
    Topic = RD_KAFKA_RESOURCE_TOPIC,
    Group = RD_KAFKA_RESOURCE_GROUP,
    Cluster = RD_KAFKA_RESOURCE_BROKER,
    TransactionalId = RD_KAFKA_RESOURCE_TRANSACTIONAL_ID,
);

both_ways!(
    pattern_to,
    pattern_of,
    AclPattern,
    rd_kafka_ResourcePatternType_t,
    Literal = RD_KAFKA_RESOURCE_PATTERN_LITERAL,
    Prefixed = RD_KAFKA_RESOURCE_PATTERN_PREFIXED,
);

both_ways!(
    operation_to,
    operation_of,
    AclOperation,
    rd_kafka_AclOperation_t,
    All = RD_KAFKA_ACL_OPERATION_ALL,
    Read = RD_KAFKA_ACL_OPERATION_READ,
    Write = RD_KAFKA_ACL_OPERATION_WRITE,
    Create = RD_KAFKA_ACL_OPERATION_CREATE,
    Delete = RD_KAFKA_ACL_OPERATION_DELETE,
    Alter = RD_KAFKA_ACL_OPERATION_ALTER,
    Describe = RD_KAFKA_ACL_OPERATION_DESCRIBE,
    ClusterAction = RD_KAFKA_ACL_OPERATION_CLUSTER_ACTION,
    DescribeConfigs = RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS,
    AlterConfigs = RD_KAFKA_ACL_OPERATION_ALTER_CONFIGS,
    IdempotentWrite = RD_KAFKA_ACL_OPERATION_IDEMPOTENT_WRITE,
);

both_ways!(
    effect_to,
    effect_of,
    AclEffect,
    rd_kafka_AclPermissionType_t,
    Allow = RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
    Deny = RD_KAFKA_ACL_PERMISSION_TYPE_DENY,
);

//! What a binding reaches: by its resource, its name and how the name is compared.

use producer::{AclBinding, AclOperation, AclPattern, AclResource};

/// The name that, as a literal, stands for every resource.
pub(super) const EVERY: &str = "*";
/// The principal that stands for everybody.
pub(super) const EVERYBODY: &str = "User:*";

/// Whether some resource is reached by both.
pub(super) fn overlap(a: &AclBinding, b: &AclBinding) -> bool {
    use AclPattern::{Literal, Prefixed, Unknown};
    if a.resource != b.resource {
        return false;
    }
    match (a.pattern, b.pattern) {
        (Literal, _) if a.name == EVERY => true,
        (_, Literal) if b.name == EVERY => true,
        (Literal, Literal) => a.name == b.name,
        (Literal, Prefixed) => a.name.starts_with(&b.name),
        (Prefixed, Literal) => b.name.starts_with(&a.name),
        (Prefixed, Prefixed) => a.name.starts_with(&b.name) || b.name.starts_with(&a.name),
        (Unknown, _) | (_, Unknown) => false,
    }
}

/// Whether everything that `narrow` reaches is reached by `wide`, whoever it is for.
pub(super) fn covers(wide: &AclBinding, narrow: &AclBinding) -> bool {
    use AclPattern::{Literal, Prefixed, Unknown};
    let name = match (wide.pattern, narrow.pattern) {
        (Literal, _) if wide.name == EVERY => true,
        (Literal, Literal) => wide.name == narrow.name,
        (Prefixed, Literal) => narrow.name != EVERY && narrow.name.starts_with(&wide.name),
        (Prefixed, Prefixed) => narrow.name.starts_with(&wide.name),
        (Literal, Prefixed) | (Unknown, _) | (_, Unknown) => false,
    };
    let host = wide.host == EVERY || wide.host == narrow.host;
    let resource = wide.resource == narrow.resource && wide.resource != AclResource::Unknown;
    resource && name && host && includes(wide.operation, narrow.operation)
}

/// Whether who may do the one may do the other (`AclAuthorizer` and `StandardAuthorizer`: what reads,
/// writes, deletes or alters describes as well).
fn includes(wide: AclOperation, narrow: AclOperation) -> bool {
    use AclOperation::{
        All, Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Unknown, Write,
    };
    match (wide, narrow) {
        (Unknown, _) | (_, Unknown) => false,
        (All, _) => true,
        (Read | Write | Delete | Alter, Describe) => true,
        (AlterConfigs, DescribeConfigs) => true,
        (wide, narrow) => wide == narrow,
    }
}

use std::fmt;

/// A kind of request, by its API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Api(pub i16);

impl Api {
    /// Produce.
    pub const PRODUCE: Api = Api(0);
    /// Fetch.
    pub const FETCH: Api = Api(1);
    /// ListOffsets.
    pub const LIST_OFFSETS: Api = Api(2);
    /// Metadata.
    pub const METADATA: Api = Api(3);
    /// OffsetCommit.
    pub const OFFSET_COMMIT: Api = Api(8);
    /// OffsetFetch.
    pub const OFFSET_FETCH: Api = Api(9);
    /// FindCoordinator.
    pub const FIND_COORDINATOR: Api = Api(10);
    /// ApiVersions: the first request on every connection.
    pub const API_VERSIONS: Api = Api(18);
    /// InitProducerId: `init_transactions` fences with it.
    pub const INIT_PRODUCER_ID: Api = Api(22);
    /// AddPartitionsToTxn.
    pub const ADD_PARTITIONS_TO_TXN: Api = Api(24);
    /// AddOffsetsToTxn.
    pub const ADD_OFFSETS_TO_TXN: Api = Api(25);
    /// EndTxn: commits or aborts.
    pub const END_TXN: Api = Api(26);
    /// TxnOffsetCommit.
    pub const TXN_OFFSET_COMMIT: Api = Api(28);

    /// The error code of an answer, for the kinds whose body begins with throttle time and error.
    pub(super) fn leading_error(self, version: i16, body: &[u8]) -> Option<i16> {
        let flexible_from = match self {
            Api::END_TXN => 3,
            Api::INIT_PRODUCER_ID => 2,
            _ => return None,
        };
        // The header of a flexible version ends with tagged fields; without any that is one byte.
        let skipped = if version >= flexible_from { 5 } else { 4 };
        let code = body.get(skipped..skipped + 2)?;
        Some(i16::from_be_bytes(code.try_into().ok()?))
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Api::PRODUCE => "Produce",
            Api::FETCH => "Fetch",
            Api::LIST_OFFSETS => "ListOffsets",
            Api::METADATA => "Metadata",
            Api::OFFSET_COMMIT => "OffsetCommit",
            Api::OFFSET_FETCH => "OffsetFetch",
            Api::FIND_COORDINATOR => "FindCoordinator",
            Api::API_VERSIONS => "ApiVersions",
            Api::INIT_PRODUCER_ID => "InitProducerId",
            Api::ADD_PARTITIONS_TO_TXN => "AddPartitionsToTxn",
            Api::ADD_OFFSETS_TO_TXN => "AddOffsetsToTxn",
            Api::END_TXN => "EndTxn",
            Api::TXN_OFFSET_COMMIT => "TxnOffsetCommit",
            Api(key) => return write!(f, "Api({key})"),
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_code_stands_behind_the_throttle_time() {
        let old = [0, 0, 0, 0, 0, 90];
        let flexible = [0, 0, 0, 0, 0, 0, 47];
        assert_eq!(Api::END_TXN.leading_error(1, &old), Some(90));
        assert_eq!(Api::END_TXN.leading_error(3, &flexible), Some(47));
        assert_eq!(Api::INIT_PRODUCER_ID.leading_error(4, &flexible), Some(47));
        assert_eq!(Api::PRODUCE.leading_error(1, &old), None);
        assert_eq!(Api::END_TXN.leading_error(1, &old[..4]), None);
    }
}

//! How long a topic keeps what it is given: what it may have removed is not missing.

use std::collections::BTreeMap;

/// What the settings of a topic say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// Milliseconds; `None`: for ever.
    age_ms: Option<i64>,
    /// Records may go before their time: to save space, or because newer ones have their key.
    is_lossy: bool,
}

impl Keeping {
    /// Nothing is removed: what is taken for granted where the settings can't be read.
    pub const FOR_EVER: Self = Self {
        age_ms: None,
        is_lossy: false,
    };

    /// By the settings in force.
    pub fn of(settings: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| settings.get(name).map_or("", String::as_str);
        let limit = |name: &str| text(name).parse::<i64>().ok().filter(|limit| *limit >= 0);
        let policy = text("cleanup.policy");
        let deletes = policy.is_empty() || policy.contains("delete");
        Self {
            age_ms: limit("retention.ms").filter(|_| deletes),
            is_lossy: policy.contains("compact") || limit("retention.bytes").is_some(),
        }
    }

    /// Records from this time on are kept.
    pub(super) fn since(&self, now_ms: i64) -> i64 {
        match (self.is_lossy, self.age_ms) {
            (true, _) => i64::MAX,
            (false, Some(age)) => now_ms.saturating_sub(age),
            (false, None) => i64::MIN,
        }
    }

    /// Whether any record may be gone.
    pub(super) fn is_lossy(&self) -> bool {
        self.is_lossy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: &[(&str, &str)], kept_since: i64) {
        let settings = settings
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let keeping = Keeping::of(&settings.collect());
        assert_eq!(keeping.since(1_000), kept_since, "{keeping:?}");
    }

    #[test]
    fn a_topic_keeps_what_its_settings_say() {
        let delete = ("cleanup.policy", "delete");
        let bytes = ("retention.bytes", "-1");
        check(&[delete, bytes, ("retention.ms", "100")], 900);
        check(&[delete, bytes, ("retention.ms", "-1")], i64::MIN);
        check(
            &[delete, ("retention.bytes", "5"), ("retention.ms", "-1")],
            i64::MAX,
        );
        check(
            &[
                ("cleanup.policy", "compact,delete"),
                ("retention.ms", "100"),
            ],
            i64::MAX,
        );
        check(&[], i64::MIN);
    }
}

use std::time::Duration;

/// As a word, for atomics: 584 years fit, and more than that counts as that.
pub(crate) fn nanos(duration: Duration) -> u64 {
    let nanos = duration.as_secs().saturating_mul(1_000_000_000);
    nanos.saturating_add(u64::from(duration.subsec_nanos()))
}

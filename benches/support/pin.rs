//! Threads on processors of their own.

/// Pins this thread to the `nth` processor, if there is one.
pub(crate) fn pin(nth: usize) {
    let processors = core_affinity::get_core_ids().unwrap_or_default();
    processors
        .get(nth)
        .copied()
        .map(core_affinity::set_for_current);
}

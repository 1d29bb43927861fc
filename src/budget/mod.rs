//! Budgets and permits: the limit of a process, and the requests in flight under it.

pub(crate) mod admission;
pub(crate) mod budget;
pub(crate) mod cached;
pub(crate) mod drain;
pub(crate) mod entry;
#[cfg(feature = "axum")]
pub(crate) mod extractor;
pub(crate) mod nested;
pub(crate) mod permit;
pub(crate) mod request_permit;
pub(crate) mod sample_timer;
pub(crate) mod sharing;
pub(crate) mod stall;
pub(crate) mod uploads;
pub(crate) mod waiting;

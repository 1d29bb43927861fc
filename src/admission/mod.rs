//! The concurrency core: claims, the count that decides upon them, fair shares, the queue, samples. It knows neither HTTP nor
//! `Budget`.

pub(crate) mod changes;
pub(crate) mod claim;
pub(crate) mod count;
pub(crate) mod counted_units;
pub(crate) mod counter;
pub(crate) mod counters;
pub(crate) mod drain;
pub(crate) mod measured_units;
#[cfg(all(test, loadshed_loom))]
pub(crate) mod model;
pub(crate) mod packed_units;
pub(crate) mod permit;
pub(crate) mod queue;
pub(crate) mod recent_level;
pub(crate) mod sampler;
pub(crate) mod shared_permit;
pub(crate) mod shares;
pub(crate) mod stalls;
pub(crate) mod verdict;
pub(crate) mod word;

//! The bounded queue of requests that wait for free capacity.

pub(crate) mod codel;
#[cfg(all(test, loadshed_loom))]
pub(crate) mod model;
pub(crate) mod queue;

//! The count: the units in flight, and their limit.

pub(crate) mod cap;
pub(crate) mod count;
pub(crate) mod draining;
pub(crate) mod limit;
pub(crate) mod marks;
pub(crate) mod opening;
pub(crate) mod pool;
pub(crate) mod sharing;
pub(crate) mod stripe;
pub(crate) mod stripes;

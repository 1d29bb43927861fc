//! A latency that is too slow, given by the user.

pub(crate) mod evidence;
pub(crate) mod latency_target;

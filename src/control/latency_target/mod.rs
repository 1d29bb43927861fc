//! A controller that keeps the latency below a target of the user.

pub(crate) mod evidence;
pub(crate) mod latency_target;

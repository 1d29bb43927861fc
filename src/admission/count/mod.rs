//! The count: how much is in flight, against which limit.

pub(crate) mod cap;
pub(crate) mod count;
pub(crate) mod kept;
pub(crate) mod lane;

//! What one process can carry at once, and who is in it now.

pub(crate) mod admission;
pub(crate) mod budget;
pub(crate) mod entry;
pub(crate) mod nested;
pub(crate) mod permit;
pub(crate) mod sample_timer;
pub(crate) mod waiting;

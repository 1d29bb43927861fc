//! What applies to one request, where that depends on the request.

pub(crate) mod cohort;
pub(crate) mod decide;

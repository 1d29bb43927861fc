//! The threshold, class, cost and caller of one request, where they depend on the request.

pub(crate) mod cohort;
pub(crate) mod decide;

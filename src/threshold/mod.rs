//! Up to which utilization a request is admitted.

pub(crate) mod band;
pub(crate) mod class_thresholds;
pub(crate) mod criticality;
pub(crate) mod routes;
pub(crate) mod threshold;

//! Up to which utilization a request is admitted.

pub(crate) mod band;
pub(crate) mod class_thresholds;
pub(crate) mod criticality;
pub(crate) mod rounded;
pub(crate) mod routes;
#[cfg(feature = "serde")]
pub(crate) mod serialized;
pub(crate) mod threshold;

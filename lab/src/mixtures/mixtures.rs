//! The catalogue of mixtures.

use super::{
    cases, failing_feature, held_by_client, hostile_outcomes, masking, own_bottleneck,
    parts::Scale, priorities, shared_bottleneck, shifting_mix, slow_by_design,
};
use crate::{
    scenario::scenario::Scenario,
    size::{Length, Size},
};

/// Returns the mixtures for servers of this size. A slow server has none, because none of its kinds is quick.
#[must_use]
pub fn mixtures(size: Size, length: Length) -> Vec<Scenario> {
    let Some(scale) = Scale::of(size, length) else {
        return Vec::new();
    };
    let mut all = slow_by_design::scenarios(&scale);
    all.extend(held_by_client::scenarios(&scale));
    all.extend(shared_bottleneck::scenarios(&scale));
    all.extend(own_bottleneck::scenarios(&scale));
    all.extend(failing_feature::scenarios(&scale));
    all.extend(masking::scenarios(&scale));
    all.extend(shifting_mix::scenarios(&scale));
    all.extend(hostile_outcomes::scenarios(&scale));
    all.extend(priorities::scenarios(&scale));
    all
}

/// Returns the mixtures that reports from users and attacks have shown, with their rates and times. They have no size.
#[must_use]
pub fn mixture_cases() -> Vec<Scenario> {
    cases::scenarios()
}

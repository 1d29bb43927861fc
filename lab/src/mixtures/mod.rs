//! Mixtures: scenarios with several kinds of work under one budget.
//!
//! Each kind has its criterion beside its conditions. A kind whose own server is idle is refused nothing; a kind that is
//! overloaded has the goodput of the best fixed limit of its own bottleneck.

mod cases;
mod failing_feature;
mod held_by_client;
mod hostile_outcomes;
mod masking;
#[expect(
    clippy::module_inception,
    reason = "the folder is named after its function"
)]
pub(crate) mod mixtures;
mod own_bottleneck;
mod parts;
mod priorities;
mod shared_bottleneck;
mod shifting_mix;
mod slow_by_design;

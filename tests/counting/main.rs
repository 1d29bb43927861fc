//! Promises 1, 2, 6 and 7: who is counted, and that it is once.

mod exact_thresholds;
mod one_budget_per_layer;
mod one_permit_per_request;
mod other_tasks;
#[path = "../support/mod.rs"]
mod support;
mod thread_end;
mod thread_interleavings;

//! Promises 1, 2, 6 and 7: who is counted, and that it is once.

mod at_once;
mod nested;
mod one_budget;
#[path = "../support/mod.rs"]
mod support;
mod tasks;
mod thresholds;

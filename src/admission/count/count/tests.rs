use std::{collections::HashSet, ptr, sync::PoisonError};

use super::*;
use crate::{
    admission::{count::pool::POOL, word::TAKEN},
    budget::budget::Budget,
};

#[test]
fn limit_and_units_fill_their_bits_without_touching_each_other() {
    let count = Count::claim(u32::MAX >> 1);
    assert_eq!(count.level().limit, u32::MAX >> 1);
    assert!(count.acquire(TAKEN as u32 - 1, |_| u32::MAX).is_ok());
    assert!(count.acquire(1, |_| u32::MAX).is_ok());
    let full = count.acquire(1, |_| u32::MAX).unwrap_err();
    assert_eq!((full.limit, full.in_flight), (u32::MAX >> 1, TAKEN as u32));
    count.set_limit(1);
    let lowered = count.level();
    assert_eq!((lowered.limit, lowered.in_flight), (1, TAKEN as u32));
}

#[test]
fn the_pool_holds_no_more_counts_than_there_were_at_one_time() {
    // Other tests use the pool at the same time, a few counts each.
    for _ in 0..10_000 {
        let count = Count::claim(1);
        assert!(count.acquire(1, |_| 1).is_ok());
        count.abandon();
        count.release(1);
    }
    let pooled = POOL.lock().unwrap_or_else(PoisonError::into_inner).len();
    assert!(pooled < 1_000, "{pooled} counts for one at a time");
}

#[test]
fn a_budget_returns_its_count_to_the_pool() {
    let mut counts = HashSet::new();
    for _ in 0..10_000 {
        let budget = Budget::fixed(1);
        counts.insert(ptr::from_ref(budget.count()));
    }
    assert!(counts.len() < 1_000, "{} for one at a time", counts.len());
}

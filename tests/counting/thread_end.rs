//! A permit in a thread-local. It stands in a binary without paused clocks: once any test has paused the clock, tokio's
//! `Instant::now` panics in the destructor of a thread-local.

use std::thread;

use loadshed::Budget;

use crate::support::all;

#[test]
fn p03_a_permit_that_a_thread_keeps_for_itself_is_given_back_at_the_end_of_the_thread() {
    thread_local! {
        static KEPT: std::cell::RefCell<Vec<loadshed::Permit>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    for budget in [Budget::fixed(2), Budget::adaptive()] {
        let theirs = budget.clone();
        let in_flight = thread::spawn(move || {
            // Registered before anything that the crate keeps for the thread, so destroyed after it.
            KEPT.with(|kept| kept.borrow_mut().reserve(1));
            let permit = theirs.try_acquire(all()).unwrap();
            KEPT.with(|kept| kept.borrow_mut().push(permit));
            theirs.in_flight()
        })
        .join()
        .unwrap();
        assert_eq!((in_flight, budget.in_flight()), (1, 0));
    }
}

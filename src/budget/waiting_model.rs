//! No interleaving leaves anybody waiting while there is room:
//! `RUSTFLAGS="--cfg loadshed_loom" cargo test --lib loom`.

use std::{
    task::{Poll, Waker},
    time::Duration,
};

use loom::thread;
use tokio::time::Instant;

use super::super::{Claim, Count};
use crate::{
    threshold::Threshold,
    wait::{Joining, Ticket, Verdict},
};

fn all(limit: u32) -> u32 {
    limit
}

fn full() -> &'static Count {
    let count = Count::claim(1);
    assert!(count.acquire(1, all).is_ok());
    count
}

fn join(count: &'static Count) -> Ticket {
    let joining = Joining {
        claim: Claim::of(Threshold::ratio(1.0), 1),
        most: 2,
        longest: Duration::from_secs(3_600),
        deadline: None,
    };
    let ticket = count.line.join(joining, Instant::now());
    count.line_has_changed();
    ticket.expect("there is a place in the line")
}

fn is_admitted(count: &'static Count, ticket: &Ticket) -> bool {
    let polled = count.line.poll(ticket, Waker::noop());
    polled == Poll::Ready(Verdict::Admitted)
}

#[test]
fn loom_a_release_and_one_who_joins_do_not_miss_each_other() {
    loom::model(|| {
        let count = full();
        let release = thread::spawn(move || count.release(1));
        let ticket = join(count);
        release.join().unwrap();
        assert!(is_admitted(count, &ticket));
        assert_eq!(count.level().in_flight, 1);
    });
}

#[test]
fn loom_a_limit_that_is_raised_and_one_who_joins_do_not_miss_each_other() {
    loom::model(|| {
        let count = full();
        let raise = thread::spawn(move || {
            count.set_limit(2);
        });
        let ticket = join(count);
        raise.join().unwrap();
        let polled = count.line.poll(&ticket, Waker::noop());
        assert_eq!(polled, Poll::Ready(Verdict::Admitted));
    });
}

#[test]
fn loom_one_that_an_inner_layer_refuses_and_one_who_joins_do_not_miss_each_other() {
    loom::model(|| {
        let count = Count::claim(1);
        assert!(count.acquire(1, |_| u32::MAX).is_ok());
        assert!(count.acquire(1, |_| u32::MAX).is_ok());
        let refuse = thread::spawn(move || {
            assert!(count.keep(1, 1, all).is_err());
            count.release(1);
        });
        let ticket = join(count);
        refuse.join().unwrap();
        assert!(is_admitted(count, &ticket));
    });
}

#[test]
fn loom_one_who_leaves_passes_on_what_it_was_given() {
    loom::model(|| {
        let count = full();
        let [first, second] = [join(count), join(count)];
        let release = thread::spawn(move || count.release(1));
        match count.line.leave(&first, Instant::now()) {
            None => count.line_has_changed(),
            Some(verdict) => {
                assert_eq!(verdict, Verdict::Admitted);
                count.release(1);
            }
        }
        release.join().unwrap();
        assert!(is_admitted(count, &second));
        assert_eq!((count.level().in_flight, count.line.waiting()), (1, 0));
    });
}

//! How many uploads are read at once.

use std::sync::{Arc, atomic::Ordering};

use http::Request;
use loadshed::{Budget, LoadShed, RefusedUpload, Threshold};
use tokio::time::sleep;

use crate::{
    MIB, SECOND, assert_read, call, dropped, read, refused,
    support::alone,
    upload::{End, Seen, Upload},
};

#[tokio::test(start_paused = true)]
async fn p17_slow_uploads_to_a_layer_leave_reads_to_the_other_layers() {
    let _alone = alone();
    let budget = Budget::fixed(1);
    let _held = budget.try_acquire(Threshold::NEVER_SHED).unwrap();
    let [slow, other, third] = [(); 3].map(|()| LoadShed::ratio(1.0).budget(&budget));
    let trickled = Arc::<Seen>::default();
    let trickle = || Upload::new(usize::MAX, 250, SECOND).watched_by(&trickled);
    for nth in 0..256 {
        // A service of the same layer, and a clone of it, are the same layer.
        let slow = if nth % 2 == 0 { &slow } else { &slow.clone() };
        call(slow, Request::new(trickle())).await;
    }
    let unread = || trickled.dropped.load(Ordering::Relaxed);
    assert_eq!(unread(), 128);
    // 64 at once are read of the next layer, and 32 of the one after it.
    for (shed, reads) in [(&other, 64), (&third, 32)] {
        let seen = Arc::<Seen>::default();
        for _ in 0..reads {
            let upload = Upload::large(8, SECOND / 10).watched_by(&seen);
            call(shed, Request::new(upload)).await;
        }
        assert_eq!(seen.dropped.load(Ordering::Relaxed), 0);
        call(
            shed,
            Request::new(Upload::large(8, SECOND).watched_by(&seen)),
        )
        .await;
        assert_eq!(seen.dropped.load(Ordering::Relaxed), 1);
    }
    sleep(2 * SECOND).await;
    // One after the other, any number is read to its end.
    for _ in 0..20 {
        let seen = Arc::<Seen>::default();
        let upload = Upload::large(8, SECOND / 10).watched_by(&seen);
        call(&other, Request::new(upload)).await;
        assert_eq!(dropped(&seen).await, 8 * MIB);
    }
    assert_eq!(unread(), 128);
    sleep(60 * SECOND).await;
    assert_eq!(unread(), 256);
}

#[tokio::test(start_paused = true)]
async fn p17_at_most_256_uploads_are_read_at_once_and_further_uploads_are_dropped() {
    let _alone = alone();
    let seen = Arc::default();
    for _ in 0..300 {
        refused(
            RefusedUpload::default(),
            Upload::large(3, SECOND).watched_by(&seen),
        )
        .await;
    }
    assert_eq!(seen.dropped.load(Ordering::Relaxed), 300 - 256);
    sleep(5 * SECOND).await;
    assert_eq!(seen.dropped.load(Ordering::Relaxed), 300);
    assert_eq!(seen.bytes.load(Ordering::Relaxed), 256 * 3 * MIB);
    // In memory at any time: at most a frame of each.
    assert!(seen.most_in_memory.load(Ordering::Relaxed) <= 256);
    // Then there is free capacity again.
    assert_eq!(
        read(RefusedUpload::default(), Upload::large(2, SECOND))
            .await
            .0,
        2 * MIB
    );
}

#[tokio::test(start_paused = true)]
async fn p17_concurrent_uploads_are_counted_over_all_layers() {
    let _alone = alone();
    let seen = Arc::default();
    let upload = || Upload::large(3, SECOND).watched_by(&seen);
    let dropped = || seen.dropped.load(Ordering::Relaxed);
    let two = RefusedUpload::default().max_concurrent(2);
    for (bounds, expected) in [
        (two, 0),
        (two, 0),
        (two, 1),
        (RefusedUpload::default(), 1),
        (two, 2),
    ] {
        refused(bounds, upload()).await;
        assert_eq!(dropped(), expected);
    }
    sleep(5 * SECOND).await;
    assert_eq!(dropped(), 5);
    assert_eq!(seen.bytes.load(Ordering::Relaxed), 3 * 3 * MIB);
}

#[tokio::test(start_paused = true)]
async fn p17_an_upload_that_fails_or_panics_counts_no_longer() {
    let _alone = alone();
    let one = RefusedUpload::default().max_concurrent(1);
    for end in [End::Failed, End::Panicked, End::Failed, End::Whole] {
        let upload = Upload::large(2, SECOND).that_ends(end);
        assert_read(read(one, upload).await, 2 * MIB, 3_000);
    }
}

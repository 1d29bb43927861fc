//! How much of an upload is read, and for how long.

use std::{sync::Arc, time::Duration};

use loadshed::RefusedUpload;

use crate::{
    MIB, SECOND, about, assert_read, read,
    support::alone,
    upload::{Seen, Upload},
};

#[tokio::test(start_paused = true)]
async fn p17_a_refused_upload_is_read_to_its_end_after_the_response() {
    let _alone = alone();
    let forty = Upload::large(40, SECOND);
    assert_read(
        read(RefusedUpload::default(), forty).await,
        40 * MIB,
        41_000,
    );
    let as_large_as_allowed = Upload::large(64, Duration::from_millis(1));
    assert_eq!(
        read(RefusedUpload::default(), as_large_as_allowed).await.0,
        64 * MIB
    );
    let nothing = Upload::large(0, Duration::ZERO);
    assert_read(read(RefusedUpload::default(), nothing).await, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn p17_an_upload_is_read_within_the_default_bounds() {
    let _alone = alone();
    let bounds = RefusedUpload::default();
    // Endless, with pauses and without: up to the frame that exceeds 64 MiB.
    for pause in [Duration::from_millis(1), Duration::ZERO] {
        let (bytes, _) = read(bounds, Upload::large(usize::MAX, pause)).await;
        assert_eq!(bytes, 65 * MIB);
    }
    // 300 bytes a second: for 60 s.
    let slow = Upload::new(usize::MAX, 300, SECOND);
    assert_read(read(bounds, slow).await, 18_000, 60_000);
    let rare = Upload::large(usize::MAX, Duration::from_millis(4_500));
    assert_read(read(bounds, rare).await, 13 * MIB, 60_000);
    // Silent: for 5 s.
    let silent = Upload::large(1, 3600 * SECOND);
    assert_read(read(bounds, silent).await, 0, 5_000);
}

#[tokio::test(start_paused = true)]
async fn p17_the_bounds_are_settings() {
    let _alone = alone();
    let endless = || Upload::new(usize::MAX, 100, SECOND);
    let slow = RefusedUpload::default().min_rate(90);
    assert_read(read(slow, endless()).await, 6_000, 60_000);
    let bytes = slow.max_bytes(1_000);
    assert_read(read(bytes, endless()).await, 1_100, 11_000);
    let time = slow.timeout(Duration::from_millis(3_500));
    assert_read(read(time, endless()).await, 300, 3_500);
    let idle = slow.idle_timeout(Duration::from_millis(900));
    assert_read(read(idle, endless()).await, 0, 900);
    let longer = slow.timeout(120 * SECOND);
    assert_read(read(longer, endless()).await, 12_000, 120_000);
    assert_read(read(RefusedUpload::none(), endless()).await, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn p17_an_upload_below_the_minimum_rate_is_read_until_the_idle_timeout_has_passed() {
    let _alone = alone();
    let bounds = RefusedUpload::default();
    let tenth = Duration::from_millis(100);
    for (bounds, size, expected) in [
        // 200 uploads of a byte a second block a connection for 5 s, and not for a minute.
        (bounds, 1, 5_000),
        (bounds, 23, 5_000),
        (bounds, 26, 60_000),
        (bounds.min_rate(1_000), 90, 5_000),
        (bounds.min_rate(1_000), 110, 60_000),
        (bounds.min_rate(1_000).idle_timeout(2 * SECOND), 90, 2_000),
        (bounds.min_rate(1), 1, 60_000),
    ] {
        let (_, took) = read(bounds, Upload::new(usize::MAX, size, tenth)).await;
        assert!(about(expected)(took), "{size} bytes: {took} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn p17_an_upload_that_becomes_slow_is_dropped_once_its_mean_rate_is_below_the_minimum() {
    let _alone = alone();
    // 4,800 bytes in the first second, and then a byte now and then: at the minimum rate until 20 s.
    let seen = Arc::<Seen>::default();
    let mut upload = Upload::new(usize::MAX, 4_800, SECOND).watched_by(&seen);
    upload.then_small = true;
    let (_, took) = read(RefusedUpload::default(), upload).await;
    assert!((20_000..21_100).contains(&took), "{took} ms");
}

#[tokio::test(start_paused = true)]
async fn p17_an_upload_whose_announced_rest_cannot_arrive_in_time_is_read_for_5_s() {
    let _alone = alone();
    let bounds = RefusedUpload::default();
    let at_10_kb = |kilobytes: usize| Upload::new(kilobytes, 1_000, SECOND / 10).announced();
    for (kilobytes, expected) in [
        // In 50 s, in 59 s: to their ends.
        (500, 50_100),
        (590, 59_100),
        // In 61 s, in 100 s, never.
        (610, 5_000),
        (1_000, 5_000),
        (usize::MAX, 5_000),
    ] {
        let (_, took) = read(bounds, at_10_kb(kilobytes)).await;
        assert!(about(expected)(took), "{kilobytes} kB: {took} ms");
    }
    // A longer timeout is time for more, and a length that is not announced is not missed.
    let (bytes, _) = read(bounds.timeout(120 * SECOND), at_10_kb(1_000)).await;
    assert_eq!(bytes, 1_000_000);
    let (_, took) = read(bounds, Upload::new(usize::MAX, 1_000, SECOND / 10)).await;
    assert!(about(60_000)(took), "{took} ms");
}

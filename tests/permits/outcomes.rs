//! Promise 14: how a permit outside of a layer ends.

use std::time::Duration;

use loadshed::{Budget, Threshold, control::Outcome};
use tokio::time::{advance, sleep, timeout};

use crate::detached_work::Recorder;

#[tokio::test(start_paused = true)]
async fn p14_a_permit_that_is_only_dropped_is_cancelled_and_never_a_fast_success() {
    let recorder = Recorder::default();
    let budget = Budget::new(recorder.clone());
    let acquire = || budget.try_acquire(Threshold::NEVER_SHED).unwrap();
    let job = async {
        let permit = acquire();
        // The back end hangs.
        sleep(Duration::from_secs(60)).await;
        permit.succeeded();
    };
    assert!(timeout(Duration::from_millis(20), job).await.is_err());
    let succeeded = acquire();
    advance(Duration::from_millis(30)).await;
    succeeded.succeeded();
    let failed = acquire();
    advance(Duration::from_millis(40)).await;
    failed.failed();
    acquire().discard();
    advance(Duration::from_millis(20)).await;
    drop(acquire());
    let expected = [
        (Outcome::Cancelled, 20),
        (Outcome::Success, 30),
        (Outcome::Overload, 40),
    ];
    let expected = expected.map(|(outcome, millis)| (outcome, Duration::from_millis(millis)));
    assert_eq!(recorder.0.lock().unwrap().samples[..3], expected);
    assert_eq!(budget.in_flight(), 0);
}

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::watch::{Swept, UploadWatch};
use crate::{support::clock::Now, threshold::threshold::Threshold};

/// The uploads of a budget that are ended if they arrive too slowly while requests are refused.
///
/// An upload is noted when its handler first has to wait for the client, so a body that has arrived already is not. Refusals
/// sweep the uploads, at most once in [`INTERVAL`], and no refusal waits for the lock.
///
/// # Memory ordering
///
/// `any` is `Relaxed`: it only saves refusals the lock. A refusal that misses the first upload leaves it to the next refusal.
#[derive(Default)]
pub(crate) struct NotedUploads {
    any: AtomicBool,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    uploads: Vec<Weak<UploadWatch>>,
    /// When the next sweep is due. `None` before the first.
    due: Option<Instant>,
    /// The highest priority of a request refused since the latest sweep.
    refused: u32,
}

/// The least time between two sweeps. A sweep looks at each upload, so it must not follow each refusal.
const INTERVAL: Duration = Duration::from_secs(1);

impl NotedUploads {
    pub(crate) fn note(&self, upload: &Arc<UploadWatch>) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        // Before it grows: so the list is at most twice as long as the most uploads at once.
        if noted.uploads.len() == noted.uploads.capacity() {
            noted.uploads.retain(|upload| upload.strong_count() > 0);
        }
        noted.uploads.push(Arc::downgrade(upload));
        self.any.store(true, Ordering::Relaxed);
    }

    /// Takes note of a refused request, and ends the uploads that are too slow if a sweep is due. Returns their number.
    #[inline]
    pub(crate) fn refused(&self, threshold: Threshold, now: &Now) -> usize {
        if self.any.load(Ordering::Relaxed) {
            self.sweep_if_due(threshold.priority(), now)
        } else {
            0
        }
    }

    #[cold]
    fn sweep_if_due(&self, refused: u32, now: &Now) -> usize {
        let Ok(mut noted) = self.noted.try_lock() else {
            return 0;
        };
        let now = now.get();
        let Some(refused) = noted.due(refused, now) else {
            return 0;
        };
        let mut ended = Vec::new();
        noted.uploads.retain(|upload| {
            let Some(upload) = upload.upgrade() else {
                return false;
            };
            match upload.sweep(refused, now) {
                Swept::GoesOn => true,
                Swept::Ended(waker) => {
                    ended.push(waker);
                    false
                }
            }
        });
        self.any.store(!noted.uploads.is_empty(), Ordering::Relaxed);
        // Woken outside of the lock: a waker may run anything.
        drop(noted);
        let count = ended.len();
        ended.into_iter().flatten().for_each(|waker| waker.wake());
        count
    }
}

impl Noted {
    /// Returns the highest priority of the requests refused lately, if a sweep is due.
    fn due(&mut self, refused: u32, now: Instant) -> Option<u32> {
        if self.due.is_some_and(|due| now >= due + INTERVAL) {
            // The requests refused since the latest sweep were refused too long ago.
            self.refused = 0;
        }
        self.refused = self.refused.max(refused);
        if self.due.is_some_and(|due| now < due) {
            return None;
        }
        self.due = Some(now + INTERVAL);
        Some(mem::take(&mut self.refused))
    }
}

impl fmt::Debug for NotedUploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotedUploads")
            .field("any", &self.any)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Wake};

    use http::Request;
    use tokio::time::advance;

    use super::*;
    use crate::{
        protocol::refusal::slow_upload::SlowUploadResponse,
        upload::{
            min_rate::MinRate,
            watch::{EndableUpload, RateRule, UploadBudget},
        },
    };

    #[derive(Default)]
    struct Pool {
        noted: NotedUploads,
    }

    impl UploadBudget for Pool {
        fn note(&self, upload: &Arc<UploadWatch>) {
            self.noted.note(upload);
        }
    }

    impl Pool {
        fn upload(self: &Arc<Self>, ratio: f64) -> Arc<UploadWatch> {
            let rule = RateRule {
                rate: MinRate::new(100, Duration::from_secs(2)).unwrap(),
                threshold: Threshold::ratio(ratio),
                response: SlowUploadResponse::to(&Request::new(())),
            };
            let upload = UploadWatch::new(self.clone(), None, Some(rule));
            upload.client_wait_begins();
            upload
        }

        fn refuse(&self, ratio: f64) -> usize {
            self.noted.refused(Threshold::ratio(ratio), &Now::default())
        }

        fn listed(&self) -> usize {
            self.noted.noted.lock().unwrap().uploads.len()
        }
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn p17_refusals_sweep_at_most_once_a_second_and_wait_for_no_lock() {
        let pool = Arc::new(Pool::default());
        let first = pool.upload(0.5);
        assert_eq!(pool.refuse(0.5), 0, "within the grace");
        advance(millis(1_500)).await;
        let second = pool.upload(0.5);
        advance(millis(500)).await;
        assert_eq!(pool.refuse(0.5), 1, "the first upload");
        advance(millis(999)).await;
        drop(first);
        advance(millis(600)).await;
        let locked = pool.noted.noted.lock().unwrap();
        assert_eq!(pool.refuse(0.5), 0, "another thread has the lock");
        drop(locked);
        assert_eq!(pool.refuse(0.5), 1, "the second upload");
        advance(millis(500)).await;
        let third = pool.upload(0.5);
        advance(millis(400)).await;
        assert_eq!(pool.refuse(0.5), 0);
        drop((second, third));
    }

    #[tokio::test(start_paused = true)]
    async fn p17_without_uploads_a_refusal_takes_no_lock() {
        let pool = Arc::new(Pool::default());
        let upload = pool.upload(0.5);
        assert!(pool.noted.any.load(Ordering::Relaxed));
        drop(upload);
        assert_eq!(pool.refuse(0.5), 0);
        assert!(!pool.noted.any.load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn p10_the_highest_refusal_since_the_latest_sweep_counts_and_an_old_one_does_not() {
        let pool = Arc::new(Pool::default());
        let _low = pool.upload(0.5);
        let high = pool.upload(0.9);
        advance(millis(10_000)).await;
        assert_eq!(pool.refuse(0.5), 1);
        advance(millis(500)).await;
        assert_eq!(pool.refuse(1.0), 0, "no sweep is due");
        advance(millis(10_000)).await;
        assert_eq!(pool.refuse(0.5), 0, "the refusal at 1.0 is long ago");
        advance(millis(500)).await;
        assert_eq!(pool.refuse(0.9), 0, "no sweep is due");
        advance(millis(600)).await;
        assert_eq!(pool.refuse(0.5), 1);
        drop(high);
    }

    #[tokio::test(start_paused = true)]
    async fn p17_the_list_of_uploads_is_bounded_by_the_uploads_at_once() {
        let pool = Arc::new(Pool::default());
        let mut running = std::collections::VecDeque::new();
        for _ in 0..10_000 {
            running.push_back(pool.upload(0.5));
            if running.len() > 10 {
                running.pop_front();
            }
        }
        assert!(pool.listed() <= 32, "{}", pool.listed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_is_not_ended_once_its_future_is_gone_or_its_handler_goes_on() {
        let pool = Arc::new(Pool::default());
        let [responded, goes_on, ended] = [(); 3].map(|()| pool.upload(0.5));
        let future = EndableUpload::new(responded);
        advance(millis(10_000)).await;
        drop(future);
        goes_on.client_wait_ends(0);
        assert_eq!(pool.refuse(0.5), 1);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(EndableUpload::new(ended).poll_ended(&mut cx).is_ready());
        assert!(EndableUpload::new(goes_on).poll_ended(&mut cx).is_pending());
    }

    /// The task of a future may be what keeps the future: a waker that stays behind would keep both.
    #[tokio::test(start_paused = true)]
    async fn p03_an_upload_keeps_no_waker_of_a_future_that_was_dropped() {
        struct Task;
        impl Wake for Task {
            fn wake(self: Arc<Self>) {}
        }
        let pool = Arc::new(Pool::default());
        let (task, upload) = (Arc::new(Task), pool.upload(0.5));
        let waker = task.clone().into();
        let future = EndableUpload::new(upload);
        for _ in 0..3 {
            let polled = future.poll_ended(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        drop(waker);
        assert_eq!(Arc::strong_count(&task), 2);
        drop(future);
        assert_eq!(Arc::strong_count(&task), 1);
    }
}

//! How a budget is drained before its server stops.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::budget::Budget;

/// # Draining
///
/// A server that is about to stop drains its budget:
///
/// ```
/// use std::time::Duration;
/// use loadshed::Budget;
///
/// # tokio_test::block_on(async {
/// # tokio::time::pause();
/// let pool = Budget::fixed(200);
/// // On SIGTERM: the readiness check fails from now on, and requests are still served for 5 s.
/// pool.begin_drain(Duration::from_secs(5));
/// assert!(pool.is_draining());
/// // After the 5 s new requests are refused. Once nothing is in flight, the server can stop.
/// pool.emptied().await;
/// # });
/// ```
impl Budget {
    /// Begins to drain the budget: for the `grace` all requests are served as before, and then all new requests are refused.
    ///
    /// [`is_draining`](Self::is_draining) is true from now on, so that a readiness check can fail. The grace is the time that load
    /// balancers take to see that and to send no more requests. After the grace:
    ///
    /// - **New requests** are refused, whatever is in flight, also under [`NEVER_SHED`](crate::Threshold::NEVER_SHED). Only
    ///   [`EXEMPT`](crate::Threshold::EXEMPT) requests are served. The drain is the budget's, so it holds for all its layers: for those
    ///   made by [`observe`](crate::LoadShed::observe), and for those in [dry run](crate::LoadShed::dry_run).
    /// - **The response** has the status 503, the headers and the body of other refusals, and over HTTP/1 `Connection: close`. A gRPC
    ///   call gets `UNAVAILABLE`. A response of [`on_shed`](crate::LoadShed::on_shed) keeps its status, and gets the
    ///   `Connection: close`. The [reason](crate::Shed::reason) is [`Draining`](crate::Reason::Draining), as it is in the error of
    ///   [`try_acquire`](Self::try_acquire).
    /// - **Queued requests** are refused, once the grace has passed.
    /// - **Requests in flight** run to their end, and so do permits.
    /// - **Refused uploads** are no longer read after 2 s: see [`RefusedUpload`](crate::RefusedUpload).
    ///
    /// A second call sets the grace anew, from its own time on: it may serve requests again that the first call refused. A grace of
    /// more than `u32::MAX` seconds (136 years) counts as that long.
    ///
    /// A grace of zero refuses the next request. But a request that another thread is deciding upon at the moment of the call counts
    /// as an earlier one, and may still be admitted, also right after [`emptied`](Self::emptied). A grace of some milliseconds
    /// excludes that.
    ///
    /// A drain runs no task and no timer, and a budget that does not drain pays nothing for it. While the budget drains, each
    /// request reads the clock, some 50 ns, and permits are counted in one place for all threads.
    pub fn begin_drain(&self, grace: Duration) {
        let grace = grace.min(LONGEST_GRACE);
        self.count.set_drain(Some(Instant::now() + grace));
        self.observed().drain_begun(&*self.inner, grace);
    }

    /// Ends the drain: requests are served again as before it. Without effect where the budget does not drain.
    pub fn end_drain(&self) {
        if self.is_draining() {
            self.count.set_drain(None);
            self.observed().drain_ended(&*self.inner);
        }
    }

    /// Returns whether the budget drains: from [`begin_drain`](Self::begin_drain) on, the grace included, until
    /// [`end_drain`](Self::end_drain).
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.count.drain.refuses_from().is_some()
    }

    /// Waits until nothing is in flight, and, where the budget drains, until the grace has passed as well.
    ///
    /// Where the budget does not drain, more requests may be admitted right after. Any number of tasks may wait, and a future may be
    /// dropped at any time. While a task waits, requests and releases of the budget use one counter for all threads.
    ///
    /// Requests that a layer refuses or [exempts](crate::Threshold::EXEMPT) are not in flight, nor are queued requests.
    ///
    /// # Panics
    ///
    /// If the budget drains and its grace has not passed, or a response may [stall](crate::LoadShed::stall_timeout), and there
    /// is no tokio runtime with a timer (`Builder::enable_time`).
    pub async fn emptied(&self) {
        let mut emptied = Emptied {
            budget: self,
            number: self.count.watch(),
            timer: None,
        };
        poll_fn(|cx| emptied.poll(cx)).await;
    }

    /// Returns a function that returns from when on new requests are refused, where the budget drains. It keeps no budget alive.
    pub(crate) fn refuses_from(&self) -> impl Fn() -> Option<Instant> + Send + 'static {
        let inner = Arc::downgrade(&self.inner);
        move || inner.upgrade()?.count.drain.refuses_from()
    }
}

/// 136 years, which any clock can add.
const LONGEST_GRACE: Duration = Duration::from_secs(u32::MAX as u64);

/// A watch for the last permit. Its drop ends the watch.
struct Emptied<'a> {
    budget: &'a Budget,
    number: u64,
    /// The timer of the grace, and then of the sweeps of stalled responses, once there was something to wait for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Emptied<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let count = self.budget.count;
        // First: a change of the drain, and a release, wake from now on.
        count.drain.wait(self.number, cx.waker());
        let refuses_from = count.drain.refuses_from();
        if let Some(from) = refuses_from.filter(|from| *from > Instant::now()) {
            ready!(self.poll_timer(from, cx));
        }
        // A response whose reader does not read would hold this up for ever, where no refusal looks for it.
        while !count.is_unused_after_wait() {
            self.budget.sweep_stalled(Instant::now());
            let Some(next) = self.budget.next_sweep() else {
                // The first response wakes this.
                return Poll::Pending;
            };
            ready!(self.poll_timer(next, cx));
        }
        Poll::Ready(())
    }

    fn poll_timer(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx)
    }
}

impl Drop for Emptied<'_> {
    fn drop(&mut self) {
        self.budget.count.unwatch(self.number);
    }
}

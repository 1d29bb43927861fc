use std::{sync::Arc, time::Duration};

use http::Request;

use super::load_shed::LoadShed;
use crate::{
    control::controller::MAX_LIMIT,
    shedder::wait::{Bounds, LONGEST},
    support::invalid::{InvalidSetting, expect_valid},
};

/// # A short wait
impl LoadShed {
    /// Has a request for which there is no room wait for some, in place of being refused at once: for `max_wait` at most, and
    /// while fewer than `max_waiting` others wait. By default none does.
    ///
    /// ```
    /// use std::time::Duration;
    /// use loadshed::{Budget, LoadShed};
    ///
    /// let pool = Budget::fixed(200);
    /// let shed = LoadShed::ratio(0.85).budget(&pool).wait(64, Duration::from_millis(50));
    /// ```
    ///
    /// It is for bursts. Where there is more to do than can be done for longer than `max_wait`, it must not become a line
    /// that never ends: once the line has not been empty for as long, those who join it wait for a twentieth of `max_wait`
    /// only (tokio's timer counts whole milliseconds), and the newest goes first, as it has the most time left. Up to then the
    /// oldest does. Where capacity is what lacks, waiting serves no more requests, and each a little later.
    ///
    /// - **Order**: a request that may use more of the budget goes first, so higher classes do, and finds a place in a full
    ///   line at the cost of a lower one. Those that come meanwhile do not pass those who wait, unless they may use more
    ///   than those; the ones that cannot wait are refused. A dear one that is first makes those behind it wait, until there is
    ///   room for it, or its time is over.
    /// - **Deadlines**: a request is refused once its caller has given up, by its `grpc-timeout` or
    ///   [`wait_deadline`](Self::wait_deadline).
    /// - **Counted**: who waits is not in flight, and holds its request and a clone of the inner service, in one
    ///   allocation and some more. Its latency is measured from its admission on. [`Snapshot::waiting`](crate::Snapshot)
    ///   tells how many wait.
    /// - **Layers of one budget** share one line; each brings its own bounds. A request that an outer layer has counted
    ///   leaves the count while it waits at an inner one.
    /// - **In a dry run** nobody waits: who would have, counts as refused.
    /// - **With [`fair_by`](Self::fair_by)** a request that waits is in its tenant's share, and one whose tenant has its part
    ///   already does not wait.
    /// - **While somebody waits**, whatever makes room gives it to those who wait, under the line's lock: a request that ends,
    ///   and one that an inner layer refuses of what an outer one has counted.
    ///
    /// Nothing waits outside of a tokio runtime, or in one without a timer (`Builder::enable_time`): it is refused at once, and
    /// the message of a panic tells what is missing, once on each thread of it.
    ///
    /// # Panics
    ///
    /// If `max_waiting` is 0 or more than 2,147,483,647, or `max_wait` zero or more than an hour.
    /// [`try_wait`](Self::try_wait) returns an error instead.
    #[track_caller]
    pub fn wait(self, max_waiting: usize, max_wait: Duration) -> Self {
        expect_valid(self.try_wait(max_waiting, max_wait))
    }

    /// [`wait`](Self::wait) for values that come from configuration.
    ///
    /// # Errors
    ///
    /// If `max_waiting` is 0 or more than 2,147,483,647, or `max_wait` zero or more than an hour.
    #[track_caller]
    pub fn try_wait(self, max_waiting: usize, max_wait: Duration) -> Result<Self, InvalidSetting> {
        if !(1..=MAX_LIMIT).contains(&max_waiting) {
            let allowed = format!("from 1 to {MAX_LIMIT}");
            return Err(InvalidSetting::new("max waiting", max_waiting, allowed));
        }
        if max_wait.is_zero() || max_wait > LONGEST {
            let given = format_args!("{max_wait:?}").to_string();
            let allowed = format!("greater than 0 and at most {LONGEST:?}");
            return Err(InvalidSetting::new("max wait", given, allowed));
        }
        let bounds = Bounds {
            most: max_waiting as u32,
            longest: max_wait,
        };
        Ok(self.with(|settings| settings.wait_mut().bounds = Some(bounds)))
    }

    /// How long the caller of a request goes on waiting for its answer, if it tells. `grpc-timeout` is read in any case; of
    /// the two, the shorter counts. A panic in the closure counts as `None`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use loadshed::LoadShed;
    ///
    /// let shed = LoadShed::ratio(0.85)
    ///     .wait(64, Duration::from_millis(50))
    ///     .wait_deadline(|head| {
    ///         let left = head.headers().get("x-deadline-ms")?.to_str().ok()?;
    ///         left.parse().ok().map(Duration::from_millis)
    ///     });
    /// ```
    #[track_caller]
    pub fn wait_deadline(
        self,
        left: impl Fn(&Request<()>) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.wait_mut().deadline = Some(Arc::new(left)))
    }
}

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
    /// Queues a request that would be refused, for at most `max_wait`, while fewer than `max_waiting` requests are queued. By
    /// default no request is queued.
    ///
    /// ```
    /// use std::time::Duration;
    /// use loadshed::{Budget, LoadShed};
    ///
    /// let pool = Budget::fixed(200);
    /// let shed = LoadShed::ratio(0.85).budget(&pool).wait(64, Duration::from_millis(50));
    /// ```
    ///
    /// The queue is for bursts. In an overload that lasts longer than `max_wait` it must not stay full: once it has not been empty
    /// for that long, a request that joins waits for a twentieth of `max_wait` only (tokio's timer counts whole milliseconds), and the
    /// newest request is admitted first, as it has the most time left. Before that, the oldest is admitted first. Where
    /// capacity is missing, a queue serves no more requests, and each a little later.
    ///
    /// - **Order**: a request with a higher threshold is admitted first, so higher classes are. In a full queue it replaces a request
    ///   of a lower class. New requests do not overtake queued ones, unless they have a higher threshold; where they cannot
    ///   queue, they are refused. An expensive request at the head makes the requests behind it wait, until it fits or its time is over.
    /// - **Deadlines**: a request is refused once its caller has given up, by its `grpc-timeout` or
    ///   [`wait_deadline`](Self::wait_deadline).
    /// - **Counted**: a queued request is not in flight. It holds its request and a clone of the inner service, in some
    ///   allocations. Its latency is measured from its admission. [`Snapshot::waiting`](crate::Snapshot) is the length of the queue.
    /// - **Layers of one budget** share one queue. Each layer has its own bounds. A request that an outer layer has counted
    ///   leaves the count while it is queued at an inner layer, and that time is no latency. A handler that works beside its own
    ///   queued inner call is uncounted meanwhile: there, give the inner call a request without the extensions of the handler's
    ///   request.
    /// - **In a dry run** no request is queued: a request that would be queued counts as one that would be refused.
    /// - **With [`fair_by`](Self::fair_by)** a queued request counts in the share of its tenant. A request is not queued if its
    ///   tenant has used up its share.
    /// - **While requests are queued**, free capacity goes to them, under the lock of the queue. It comes from requests that end,
    ///   from requests that an outer layer has counted and an inner layer refuses, and from responses that
    ///   [stall](Self::stall_timeout).
    ///
    /// No request is queued outside of a tokio runtime, or in a runtime without a timer (`Builder::enable_time`). Such requests are
    /// refused at once, and the message of a panic says what is missing, once a thread.
    ///
    /// # Panics
    ///
    /// If `max_waiting` is 0 or more than 2,147,483,647, or `max_wait` zero or more than an hour.
    /// [`try_wait`](Self::try_wait) returns an error instead.
    #[track_caller]
    pub fn wait(self, max_waiting: usize, max_wait: Duration) -> Self {
        expect_valid(self.try_wait(max_waiting, max_wait))
    }

    /// Queues requests within bounds that come from configuration, as [`wait`](Self::wait) does.
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

    /// Sets how long the caller of a request still waits for the response, where the request says so.
    ///
    /// `grpc-timeout` is read in any case; the shorter time counts. A panic in the closure counts as `None`.
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

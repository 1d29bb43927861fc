use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use crossbeam_utils::CachePadded;
use tokio::time::Instant;

#[cfg(feature = "metrics")]
use crate::telemetry::budget_metrics::BudgetMetrics;

use crate::{
    admission::{
        count::count::Count,
        counters::Counters,
        measured_units::Sampled,
        sampler::{Meter, Reading, Sampler},
        word::Level,
    },
    control::{
        adaptive::adaptive::Adaptive,
        controller::{Controller, MAX_LIMIT, Sample},
        range::{checked_initial, checked_limits},
    },
    report::{LimitChange, Snapshot},
    retry_after::schedule::Schedule,
    support::invalid::{InvalidSetting, expect_valid},
    telemetry::{observable::Observable, observed::Observed},
    upload::noted::NotedUploads,
};

/// A concurrency limit, and the requests in flight under it.
///
/// A clone is the same budget. All layers and routes that use the same resource take the same budget: a pool of workers, of
/// connections, of memory.
///
/// A request takes 1 unit of the budget, or as many as its [cost](crate::LoadShed::cost). Limits and figures are in these units.
///
/// ```
/// use loadshed::{Budget, Threshold};
///
/// let pool = Budget::fixed(200).named("mail");
/// let permit = pool.try_acquire(Threshold::ratio(0.85))?;
/// assert_eq!((pool.in_flight(), pool.limit()), (1, 200));
/// drop(permit);
/// assert_eq!(pool.utilization(), 0.0);
/// # Ok::<(), loadshed::Shed>(())
/// ```
#[derive(Clone)]
pub struct Budget {
    /// Here, and not behind the `Arc`, as every request uses it.
    pub(crate) count: &'static Count,
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(super) count: &'static Count,
    pub(crate) counters: Counters,
    pub(crate) schedule: CachePadded<Schedule>,
    /// `None` where the limit is fixed.
    pub(super) sampler: Option<Sampler>,
    pub(super) noted_uploads: NotedUploads,
    name: OnceLock<Box<str>>,
    pub(crate) observed: Observed,
}

impl Budget {
    /// Creates a budget with a fixed limit, in units.
    ///
    /// # Panics
    ///
    /// If `limit` is 0 or more than 2,147,483,647. [`try_fixed`](Self::try_fixed) returns an error instead.
    #[track_caller]
    #[must_use]
    pub fn fixed(limit: usize) -> Self {
        expect_valid(Self::try_fixed(limit))
    }

    /// Creates a budget with a fixed limit, in units: [`fixed`](Self::fixed) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `limit` is 0 or more than 2,147,483,647.
    pub fn try_fixed(limit: usize) -> Result<Self, InvalidSetting> {
        Ok(Self::make(checked_limit(limit, 1, MAX_LIMIT)?, None))
    }

    /// Creates a budget that learns its limit, by [`Adaptive`] with its defaults.
    #[must_use]
    pub fn adaptive() -> Self {
        Self::new(Adaptive::default())
    }

    /// Creates a budget with a limit that `controller` moves.
    ///
    /// # Panics
    ///
    /// If the limits of the controller are not a range within 1 to 2,147,483,647, or its initial limit is not within them.
    /// [`try_new`](Self::try_new) returns an error instead.
    #[track_caller]
    #[must_use]
    pub fn new(controller: impl Controller) -> Self {
        expect_valid(Self::try_new(controller))
    }

    /// Creates a budget with a limit that `controller` moves: [`new`](Self::new) for limits that come from configuration.
    ///
    /// # Errors
    ///
    /// If the limits of the controller are not a range within 1 to 2,147,483,647, or its initial limit is not within them.
    pub fn try_new(controller: impl Controller) -> Result<Self, InvalidSetting> {
        let (min, max) = checked_limits(controller.limits())?;
        // It fits: at most MAX_LIMIT.
        let initial = checked_initial(controller.initial_limit(), min..=max)? as u32;
        Ok(Self::make(
            initial,
            Some(Sampler::new(Box::new(controller), min..=max)),
        ))
    }

    fn make(limit: u32, sampler: Option<Sampler>) -> Self {
        let count = Count::claim(limit);
        let inner = Inner {
            count,
            counters: Counters::new(count),
            schedule: Schedule::new().into(),
            sampler,
            noted_uploads: NotedUploads::default(),
            name: OnceLock::new(),
            observed: Observed::default(),
        };
        let budget = Self {
            count,
            inner: Arc::new(inner),
        };
        let weak: Weak<dyn Observable> = Arc::<Inner>::downgrade(&budget.inner);
        budget.inner.observed.begin(weak);
        budget
    }

    /// Names the budget, for logs and metrics.
    ///
    /// # Panics
    ///
    /// If the budget has a name already: clones are the same budget.
    #[track_caller]
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        if let Err(second) = self.inner.name.set(name.into().into()) {
            let first = self.name().unwrap_or_default();
            expect_valid(Err(InvalidSetting::named_twice("budget", first, &second)))
        }
        self
    }

    /// Returns the name, if there is one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.inner.name.get().map(|name| &**name)
    }

    /// Returns the limit, in units.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.count.limit() as usize
    }

    /// Returns the units in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.level().in_flight as usize
    }

    /// Returns units in flight ÷ limit: 0 when idle, 1 when full. It is more than 1 after the limit was lowered, and while requests
    /// that are never shed exceed the limit.
    #[must_use]
    pub fn utilization(&self) -> f64 {
        let level = self.level();
        f64::from(level.in_flight) / f64::from(level.limit)
    }

    /// Returns all figures. Limit and units in flight are of one moment. The counters are read right after.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.inner.snapshot()
    }

    /// Sets the limit, in units, while the budget is in use.
    ///
    /// A lower limit cancels no request: requests in flight run to their end, and no request is admitted until enough of them
    /// have ended. A higher limit takes effect at once. On a learned budget the limit holds until
    /// [`resume_learning`](Self::resume_learning).
    ///
    /// # Errors
    ///
    /// If `limit` is 0 or more than 2,147,483,647, or outside the limits of a learned budget's controller. The limit is then
    /// unchanged.
    pub fn set_limit(&self, limit: usize) -> Result<(), InvalidSetting> {
        let (min, max) = match &self.inner.sampler {
            Some(sampler) => sampler.limits().into_inner(),
            None => (1, MAX_LIMIT),
        };
        let checked = checked_limit(limit, min, max)?;
        if let Some(sampler) = self.sampler() {
            sampler.hold(limit);
        }
        let before = self.count.set_limit(checked).limit as usize;
        if before != limit {
            self.changed(LimitChange::set(Instant::now(), before, limit));
        }
        Ok(())
    }

    /// Gives a limit back that was set by hand: the controller of a learned budget goes on from that limit, and forgets what it
    /// learned before. Without effect where no limit was set, and on a fixed budget.
    ///
    /// ```
    /// use loadshed::Budget;
    ///
    /// let budget = Budget::adaptive();
    /// budget.set_limit(64)?;
    /// assert!(budget.snapshot().is_set_by_hand);
    /// budget.resume_learning();
    /// assert!(!budget.snapshot().is_set_by_hand);
    /// # Ok::<(), loadshed::InvalidSetting>(())
    /// ```
    pub fn resume_learning(&self) {
        if let Some(sampler) = self.sampler() {
            sampler.resume();
        }
    }

    /// Returns the latest changes of a learned limit, at most 32, oldest first, each with its reason and figures. Empty for a
    /// fixed budget.
    ///
    /// ```
    /// use loadshed::Budget;
    ///
    /// let budget = Budget::adaptive();
    /// budget.set_limit(64)?;
    /// let change = budget.changes()[0];
    /// assert_eq!((change.to, change.reason), (64, "set"));
    /// # Ok::<(), loadshed::InvalidSetting>(())
    /// ```
    #[must_use]
    pub fn changes(&self) -> Vec<LimitChange> {
        self.sampler().map(Sampler::changes).unwrap_or_default()
    }

    pub(crate) fn level(&self) -> Level {
        self.count.level()
    }

    /// Returns the level without the requests that a dry run would have refused.
    pub(crate) fn unmarked_level(&self) -> Level {
        self.inner.unmarked_level()
    }

    #[inline]
    pub(crate) fn sampler(&self) -> Option<&Sampler> {
        self.inner.sampler.as_ref()
    }

    pub(crate) fn sampled(&self) -> Arc<dyn Sampled> {
        self.inner.clone()
    }

    pub(crate) fn observed(&self) -> &Observed {
        &self.inner.observed
    }
}

fn checked_limit(limit: usize, min: usize, max: usize) -> Result<u32, InvalidSetting> {
    match u32::try_from(limit) {
        Ok(fits) if (min..=max).contains(&limit) => Ok(fits),
        _ => Err(InvalidSetting::new(
            "limit",
            limit,
            format!("from {min} to {max}"),
        )),
    }
}

#[cfg(all(test, not(loadshed_loom)))]
impl Budget {
    pub(crate) fn count(&self) -> &'static Count {
        self.count
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn observable(&self) -> Arc<dyn Observable> {
        self.inner.clone()
    }

    pub(crate) fn shares(&self) -> Option<&crate::admission::shares::shares::Shares> {
        self.count.shares()
    }
}

impl From<&Self> for Budget {
    fn from(budget: &Self) -> Self {
        budget.clone()
    }
}

impl Inner {
    fn unmarked_level(&self) -> Level {
        let level = self.count.level();
        let in_flight = level.in_flight.saturating_sub(self.count.marked());
        Level { in_flight, ..level }
    }

    fn snapshot(&self) -> Snapshot {
        let (level, counters) = (self.count.level(), &self.counters);
        Snapshot {
            limit: level.limit as usize,
            in_flight: level.in_flight as usize,
            marked: self.count.marked() as usize,
            peak_in_flight: counters.peak_in_flight(),
            admitted: counters.admitted(),
            refused: counters.refused(),
            would_refuse: counters.would_refuse.get(),
            exempt: counters.exempt.get(),
            waiting: self.count.queue.waiting() as usize,
            waited: counters.waited.get(),
            stalled: self.count.stalls.all(),
            stalled_responses: self.count.stalls.now(),
            is_set_by_hand: self
                .sampler
                .as_ref()
                .is_some_and(|it| it.manual().is_some()),
            learned: self.sampler.as_ref().and_then(Sampler::learned),
        }
    }
}

impl Sampled for Inner {
    fn sampler(&self) -> Option<&Sampler> {
        self.sampler.as_ref()
    }
}

impl Meter for Budget {
    fn reading(&self) -> Reading {
        let (level, counters) = (self.unmarked_level(), &self.inner.counters);
        let refused = counters.refused_units() + counters.would_refuse.units();
        Reading {
            limit: level.limit as usize,
            in_flight: level.in_flight as usize,
            admitted: counters.admitted(),
            admitted_units: counters.admitted_units(),
            refused_units: refused.saturating_sub(counters.draining.units()),
        }
    }

    /// Leaves a limit unchanged that was set by hand since the controller was shown `from`.
    fn move_limit(&self, from: usize, to: usize) -> bool {
        // Within MAX_LIMIT, as the controller's limits are.
        let before = self.count.move_limit(from as u32, to as u32);
        before.limit as usize == from
    }

    fn changed(&self, change: LimitChange) {
        if let Some(sampler) = self.sampler() {
            sampler.note(change);
        }
        self.inner.observed.changed(&*self.inner, &change);
    }

    fn measured(&self, samples: &[Sample]) {
        self.inner.observed.measured(samples);
    }
}

impl Observable for Inner {
    fn name(&self) -> Option<&str> {
        self.name.get().map(|name| &**name)
    }

    fn snapshot(&self) -> Snapshot {
        Self::snapshot(self)
    }

    fn last_change(&self) -> Option<LimitChange> {
        self.sampler.as_ref()?.changes().pop()
    }

    fn learns(&self) -> bool {
        self.sampler.is_some()
    }

    #[cfg(feature = "metrics")]
    fn metrics(&self) -> &BudgetMetrics {
        self.observed.metrics()
    }

    #[cfg(any(feature = "metrics", feature = "tracing"))]
    fn check_shedding(&self) {
        self.observed.check_shedding(self);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let name = self.name.get().map(|name| &**name);
        self.observed.retire(name, &self.snapshot());
        self.count.abandon();
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("name", &self.name())
            .field("limit", &self.limit())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

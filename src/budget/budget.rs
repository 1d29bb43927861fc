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
        count::{count::Count, word::Level},
        counters::Counters,
        sampler::{Meter, Reading, Sampler},
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
};

/// What one process can carry at once: a limit, and the requests in flight under it.
///
/// A clone is the same budget. Give it to as many layers and routes as use the same thing: a pool of workers, of
/// connections, of memory.
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
    /// Here, and not behind the `Arc`, as every request goes to it.
    pub(crate) count: &'static Count,
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    count: &'static Count,
    /// Requests that run although a dry run has found that they would have been refused. They are not in `count`; the
    /// layers further in know them by this one.
    pub(crate) shadow: &'static Count,
    pub(crate) counters: Counters,
    pub(crate) schedule: CachePadded<Schedule>,
    /// `None` where the limit is fixed.
    sampler: Option<Sampler>,
    name: OnceLock<Box<str>>,
    pub(crate) observed: Observed,
}

impl Budget {
    /// A budget of `limit` requests at once; of units, where they [cost](crate::LoadShed::cost) more than one each.
    ///
    /// # Panics
    ///
    /// If `limit` is 0 or more than 2,147,483,647. [`try_fixed`](Self::try_fixed) returns an error instead.
    #[track_caller]
    #[must_use]
    pub fn fixed(limit: usize) -> Self {
        expect_valid(Self::try_fixed(limit))
    }

    /// [`fixed`](Self::fixed) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `limit` is 0 or more than 2,147,483,647.
    pub fn try_fixed(limit: usize) -> Result<Self, InvalidSetting> {
        Ok(Self::make(checked_limit(limit, 1, MAX_LIMIT)?, None))
    }

    /// A budget that learns its limit. It needs no settings; [`Adaptive`] says how it learns and has some.
    #[must_use]
    pub fn adaptive() -> Self {
        Self::new(Adaptive::default())
    }

    /// A budget whose limit is moved by `controller`.
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

    /// [`new`](Self::new) for a controller whose limits come from configuration.
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
            shadow: Count::claim(limit),
            counters: Counters::new(count),
            schedule: Schedule::new().into(),
            sampler,
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

    /// Names the budget, for people and for metrics.
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

    /// The name, if it was given one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.inner.name.get().map(|name| &**name)
    }

    /// How many requests, or units, it carries at once.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.count.limit() as usize
    }

    /// How many of them are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.level().in_flight as usize
    }

    /// In flight ÷ limit: 0 when idle, 1 when full, more when the limit was lowered or for traffic that is never shed.
    #[must_use]
    pub fn utilization(&self) -> f64 {
        let level = self.level();
        f64::from(level.in_flight) / f64::from(level.limit)
    }

    /// All figures at once. Limit and in flight are of one moment; the counters are read right after.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.inner.snapshot()
    }

    /// Sets the limit while running.
    ///
    /// Lowering it cancels nothing: what is in flight runs to its end, and nothing new is admitted until enough has
    /// ended. Raising it takes effect at once. A learned budget goes on learning from there.
    ///
    /// # Errors
    ///
    /// If `limit` is 0 or more than 2,147,483,647, or outside the limits of a learned budget's controller. The old
    /// limit then stays.
    pub fn set_limit(&self, limit: usize) -> Result<(), InvalidSetting> {
        let (min, max) = match &self.inner.sampler {
            Some(sampler) => sampler.limits().into_inner(),
            None => (1, MAX_LIMIT),
        };
        let before = self.count.set_limit(checked_limit(limit, min, max)?);
        self.changed(LimitChange::set(
            Instant::now(),
            before.limit as usize,
            limit,
        ));
        Ok(())
    }

    /// The latest changes of a learned limit, at most 32, oldest first: why, and upon which figures. Empty where the limit
    /// is fixed.
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

    #[inline]
    pub(crate) fn sampler(&self) -> Option<&Sampler> {
        self.inner.sampler.as_ref()
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
    pub(crate) fn counts(&self) -> [&'static Count; 2] {
        [self.count, self.inner.shadow]
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
    fn snapshot(&self) -> Snapshot {
        let (level, counters) = (self.count.level(), &self.counters);
        Snapshot {
            limit: level.limit as usize,
            in_flight: level.in_flight as usize,
            peak_in_flight: counters.peak_in_flight(),
            admitted: counters.admitted(),
            refused: counters.refused(),
            would_refuse: counters.would_refuse.get(),
            exempt: counters.exempt.get(),
            waiting: self.count.queue.waiting() as usize,
            waited: counters.waited.get(),
        }
    }
}

impl Meter for Budget {
    fn reading(&self) -> Reading {
        let (level, counters) = (self.level(), &self.inner.counters);
        Reading {
            limit: level.limit as usize,
            in_flight: level.in_flight as usize,
            admitted: counters.admitted(),
            admitted_units: counters.admitted_units(),
            refused_units: counters.refused_units() + counters.would_refuse.units(),
        }
    }

    /// A limit that a person has set since the controller was shown `from` stays.
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
        Inner::snapshot(self)
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
        self.shadow.abandon();
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

//! What one process can carry at once, and who is in it now.

mod count;
mod held;
mod permit;
mod sampler;
mod snapshot;
mod tally;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use tokio::time::Instant;

use self::{
    count::{Count, Level},
    sampler::{Probe, Sampler},
    tally::Tally,
};
pub(crate) use self::held::{Place, show};
pub use self::{permit::Permit, snapshot::Snapshot};
use crate::{
    control::{Adaptive, Controller, MAX_LIMIT, Outcome, Sample},
    invalid::{InvalidSetting, expect_valid},
    retry_after::{Line, Progress, RetryAfter},
    shed::{Reason, Shed},
    threshold::{Criticality, Threshold},
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
pub struct Budget(Arc<Inner>);

struct Inner {
    count: &'static Count,
    tally: Tally,
    line: Line,
    /// `None` where the limit is fixed.
    sampler: Option<Sampler>,
    name: OnceLock<Box<str>>,
}

/// Whether a refusal is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Enforce,
    DryRun,
}

/// There was no room.
#[derive(Debug)]
pub(crate) struct Refused;

impl Budget {
    /// A budget of `limit` requests.
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
    /// If the controller's limits are not within 1 to 2,147,483,647, or its initial limit is not within them.
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
    /// If the controller's limits are not within 1 to 2,147,483,647, or its initial limit is not within them.
    pub fn try_new(controller: impl Controller) -> Result<Self, InvalidSetting> {
        let (min, max) = controller.limits().into_inner();
        if min < 1 || max < min || max > MAX_LIMIT {
            let allowed = format!("a range within 1 to {MAX_LIMIT}");
            let given = format_args!("{min} to {max}").to_string();
            return Err(InvalidSetting::new("controller's limits", given, allowed));
        }
        let initial = checked_limit(controller.initial_limit(), min, max)?;
        Ok(Self::make(
            initial,
            Some(Sampler::new(Box::new(controller))),
        ))
    }

    fn make(limit: u32, sampler: Option<Sampler>) -> Self {
        Self(Arc::new(Inner {
            count: Count::claim(limit),
            tally: Tally::default(),
            line: Line::new(),
            sampler,
            name: OnceLock::new(),
        }))
    }

    /// Names the budget, for people and for metrics.
    ///
    /// # Panics
    ///
    /// If it has a name already: clones are the same budget.
    #[track_caller]
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        let name = name.into();
        if let Err(second) = self.0.name.set(name.into()) {
            let first = self.name().unwrap_or_default();
            panic!("the budget is named {first:?} already, and was to be named {second:?}");
        }
        self
    }

    /// The name, if it was given one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.get().map(|name| &**name)
    }

    /// How many requests it carries at once.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.level().limit as usize
    }

    /// How many are in flight.
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
        let level = self.level();
        let tally = &self.0.tally;
        Snapshot {
            limit: level.limit as usize,
            in_flight: level.in_flight as usize,
            peak_in_flight: tally.peak_in_flight() as usize,
            admitted: tally.admitted(),
            refused: tally.refused.get(),
            would_refuse: tally.would_refuse.get(),
            exempt: tally.exempt.get(),
        }
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
        let (min, max) = match &self.0.sampler {
            Some(sampler) => sampler.limits().into_inner(),
            None => (1, MAX_LIMIT),
        };
        self.0.count.set_limit(checked_limit(limit, min, max)?);
        Ok(())
    }

    /// Takes a place for work that no layer sees: a message from a queue, an upgraded connection.
    ///
    /// The place is held until the permit is dropped. It is one of its own, also within a request that holds one.
    ///
    /// ```
    /// # use loadshed::{Budget, Threshold};
    /// # let budget = Budget::adaptive();
    /// # fn work() {}
    /// # fn retry_in(_: std::time::Duration) {}
    /// match budget.try_acquire(Threshold::ratio(0.85)) {
    ///     Ok(permit) => {
    ///         work();
    ///         drop(permit);
    ///     }
    ///     Err(shed) => retry_in(shed.retry_after()),
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// If there is no room under `threshold`.
    pub fn try_acquire(&self, threshold: Threshold) -> Result<Permit, Shed> {
        if threshold.is_exempt() {
            self.0.tally.exempt.add_one();
            return Ok(Permit::uncounted());
        }
        self.acquire(threshold, Outcome::Success).map_err(|Refused| {
            self.0.tally.refused.add_one();
            self.shed(RetryAfter::adaptive())
        })
    }

    /// Decides upon one request that passes a layer.
    #[inline]
    pub(crate) fn admit(&self, threshold: Threshold, mode: Mode) -> Result<Place, Refused> {
        if threshold.is_exempt() {
            self.0.tally.exempt.add_one();
            return Ok(Place::None);
        }
        let decide_again = |place: &mut Place| self.decide_again(place, threshold, mode);
        if let Some(decided) = held::find(self.0.count, decide_again).flatten() {
            return decided;
        }
        match self.acquire(threshold, Outcome::Cancelled) {
            Ok(permit) => Ok(Place::Counted(permit)),
            Err(Refused) => self
                .refuse(mode)
                .map(|()| Place::WouldBeRefused(self.clone())),
        }
    }

    /// Decides upon a request for which an outer layer of this budget has decided before. `None` if that leaves it to
    /// be decided as if it were new.
    fn decide_again(
        &self,
        place: &mut Place,
        threshold: Threshold,
        mode: Mode,
    ) -> Option<Result<Place, Refused>> {
        match place {
            Place::Counted(_) => {
                if self.0.count.keep(|limit| threshold.cap(limit)).is_ok() {
                    return Some(Ok(Place::None));
                }
                // Refused, so it leaves the count: the outer layer finds nothing to give back.
                let refused = self.refuse(mode);
                let left = match refused {
                    Ok(()) => Place::WouldBeRefused(self.clone()),
                    Err(Refused) => Place::None,
                };
                if let Place::Counted(permit) = std::mem::replace(place, left) {
                    permit.withdrawn();
                    self.0.tally.withdraw();
                }
                Some(refused.map(|()| Place::None))
            }
            // In the real run it would never have come here. A layer that enforces protects all the same.
            Place::WouldBeRefused(_) => (mode == Mode::DryRun).then_some(Ok(Place::None)),
            Place::None => None,
        }
    }

    #[inline]
    fn acquire(&self, threshold: Threshold, unfinished: Outcome) -> Result<Permit, Refused> {
        let inner = &*self.0;
        let Ok(level) = inner.count.acquire(|limit| threshold.cap(limit)) else {
            // 2³² are in flight, and this one is never to be refused: it runs uncounted.
            return threshold.is_never().then(Permit::uncounted).ok_or(Refused);
        };
        let earlier = inner.tally.admit(level.in_flight);
        let probe = match &inner.sampler {
            Some(sampler) if sampler.measures(earlier) => Some(self.probe(level, unfinished)),
            _ => None,
        };
        Ok(Permit::new(inner.count, probe))
    }

    fn probe(&self, level: Level, unfinished: Outcome) -> Probe {
        let mut sample = Sample::new(Instant::now());
        sample.in_flight = level.in_flight as usize;
        sample.limit = level.limit as usize;
        sample.outcome = unfinished;
        Probe::new(self.clone(), sample)
    }

    /// Counts a refusal; `Ok` if it is one of a dry run.
    fn refuse(&self, mode: Mode) -> Result<(), Refused> {
        match mode {
            Mode::Enforce => {
                self.0.tally.refused.add_one();
                Err(Refused)
            }
            Mode::DryRun => {
                self.0.tally.would_refuse.add_one();
                Ok(())
            }
        }
    }

    /// What one refused caller is told.
    pub(crate) fn shed(&self, retry_after: RetryAfter) -> Shed {
        let in_flight = self.level().in_flight;
        let completed = self.0.tally.admitted().saturating_sub(in_flight as usize);
        let progress = Progress {
            completed,
            in_flight,
        };
        let hint = retry_after.hint(&self.0.line, progress);
        Shed::new(Reason::Utilization, Criticality::default(), hint)
    }

    fn level(&self) -> Level {
        self.0.count.level()
    }

    fn is_of(&self, count: &'static Count) -> bool {
        std::ptr::eq(self.0.count, count)
    }

    fn sampler(&self) -> Option<&Sampler> {
        self.0.sampler.as_ref()
    }

    /// What a controller decided, within its limits.
    fn move_limit(&self, limit: usize) {
        // Within MAX_LIMIT, as the controller's limits are.
        self.0.count.set_limit(limit as u32);
    }
}

fn checked_limit(limit: usize, min: usize, max: usize) -> Result<u32, InvalidSetting> {
    match u32::try_from(limit) {
        Ok(fits) if (min..=max).contains(&limit) => Ok(fits),
        _ => Err(InvalidSetting::new(
            "limit",
            limit,
            format!("{min} to {max}"),
        )),
    }
}

impl From<&Budget> for Budget {
    fn from(budget: &Self) -> Self {
        budget.clone()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
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

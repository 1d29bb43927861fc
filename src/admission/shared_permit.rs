//! A permit that more than one part of the program knows.
//!
//! A request often passes several layers of one budget: a layer around the whole app that counts, and a layer at a route that
//! sheds. It is one request and takes one permit. So where a budget has more than one layer, the outermost layer that counts the
//! request puts a reference to its permit into the request's extensions, and the layers further in decide upon that permit. The
//! reference is weak: a copy of the extensions in an outgoing request, a cache or a log holds nothing. The permit is held by the
//! outermost layer's future and body, and by the clones of a [`RequestPermit`](crate::RequestPermit) that a handler takes along.

use std::{
    fmt, mem,
    sync::{
        Arc, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use super::{
    count::{
        cap::Cap,
        count::{Again, Count},
    },
    counted_units::CountedUnits,
    measured_units::SharedWeight,
    stalls::{Stalling, Stalls},
};
use crate::{
    support::sync::{Mutex, MutexGuard},
    threshold::threshold::Threshold,
};

/// The permit of one request, shared.
pub(crate) struct SharedPermit {
    count: &'static Count,
    /// Of the count: it may be another budget's by now.
    generation: u32,
    /// Whether it is shared only to find out whether an inner layer looks for it.
    is_probe: AtomicBool,
    /// The permit of another budget, further out.
    outer: OnceLock<PermitRef>,
    /// How often the body of the response was polled, and in the lowest bit whether it is pending.
    progress: AtomicU32,
    is_watched: AtomicBool,
    /// Whether the response shares its connection with others: see [`CountedUnits`].
    multiplexed: AtomicBool,
    /// How many parts of the program have taken the permit along.
    taken_along: AtomicU32,
    state: Mutex<State>,
}

struct State {
    standing: Standing,
    /// The lowest threshold under which the layers have admitted the request.
    threshold: Threshold,
    /// Whether the latest decision of an inner layer was a refusal.
    is_refused: bool,
    /// Whether the response has ended, or the caller has left.
    has_ended: bool,
    /// `None` unless the request is measured.
    weight: Option<Arc<SharedWeight>>,
}

impl State {
    fn stand(&mut self, standing: Standing) {
        let was_queued = mem::replace(&mut self.standing, standing).is_queued();
        let Some(weight) = &self.weight else {
            return;
        };
        weight.count(self.standing.unmarked());
        match (was_queued, self.standing.is_queued()) {
            (false, true) => weight.wait_begins(),
            (true, false) => weight.wait_ends(),
            _ => {}
        }
    }
}

/// Where the units of a request are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Standing {
    /// In the count.
    Held(CountedUnits),
    /// An inner layer has refused the request, which had these units.
    Refused(CountedUnits),
    /// The request is queued at an inner layer, which counts it again.
    Queued(CountedUnits),
    /// The response has stalled.
    Stalled(CountedUnits),
    /// It runs uncounted, as no more can be counted.
    Uncounted,
}

impl Standing {
    /// Returns the units that are in the count, and that no dry run would have refused.
    fn unmarked(self) -> u32 {
        match self {
            Self::Held(held) if !held.marked => held.units,
            _ => 0,
        }
    }

    fn is_queued(self) -> bool {
        matches!(self, Self::Queued(_))
    }
}

/// Set in `progress` while the body is pending: it waits for the server, and not for its reader.
const PENDING: u32 = 1;

impl SharedPermit {
    pub(crate) fn new(held: CountedUnits, threshold: Threshold, is_probe: bool) -> Self {
        if is_probe {
            held.count.begin_probe();
        }
        Self {
            count: held.count,
            generation: held.count.generation(),
            is_probe: AtomicBool::new(is_probe),
            outer: OnceLock::new(),
            progress: AtomicU32::new(0),
            is_watched: AtomicBool::new(false),
            multiplexed: AtomicBool::new(held.multiplexed),
            taken_along: AtomicU32::new(0),
            state: Mutex::new(State {
                standing: Standing::Held(held),
                threshold,
                is_refused: false,
                has_ended: false,
                weight: None,
            }),
        }
    }

    /// Ends the search for inner layers, once the response head is ready.
    pub(crate) fn end_probe(&self) {
        let is_own = || self.generation == self.count.generation();
        if self.is_probe.swap(false, Ordering::Relaxed) && is_own() {
            self.count.end_probe();
        }
    }

    /// Counts a stalled response no longer, unless the count is another budget's by now.
    fn end_stall(&self) {
        if self.generation == self.count.generation() {
            self.count.stalls.end();
        }
    }

    /// Notes the permit of another budget, further out, so that inner layers of that budget find it.
    pub(crate) fn set_outer(&self, outer: PermitRef) {
        // Set once: a permit is shared by the layer that has it.
        let _ = self.outer.set(outer);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the units that are in the count.
    pub(crate) fn held(&self) -> Option<CountedUnits> {
        match self.lock().standing {
            Standing::Held(held) => Some(held),
            _ => None,
        }
    }

    /// Takes the units out of the permit. They stay in the count.
    pub(crate) fn take_units(&self) -> Option<CountedUnits> {
        let mut state = self.lock();
        let Standing::Held(held) = state.standing else {
            return None;
        };
        state.stand(Standing::Uncounted);
        Some(held)
    }

    pub(crate) fn set_multiplexed(&self) {
        self.multiplexed.store(true, Ordering::Relaxed);
    }

    #[cold]
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Ordering::Relaxed)
    }

    /// Returns the units of the request, in the count or not. 0 if it runs uncounted.
    pub(crate) fn units(&self) -> u32 {
        match self.lock().standing {
            Standing::Held(held)
            | Standing::Refused(held)
            | Standing::Queued(held)
            | Standing::Stalled(held) => held.units,
            Standing::Uncounted => 0,
        }
    }

    pub(crate) fn admitted_threshold(&self) -> Option<Threshold> {
        let state = self.lock();
        (state.standing.unmarked() > 0).then_some(state.threshold)
    }

    /// Decides upon the units that are in the count. `decide` takes them and the threshold under which they were admitted, and
    /// returns both anew, and its decision. `None` if no units are in the count.
    ///
    /// `decide` runs with the permit locked: it changes counts, and calls no waker, controller or subscriber, and no sweep.
    pub(crate) fn decide<T>(
        &self,
        decide: impl FnOnce(CountedUnits, Threshold) -> (Standing, Threshold, T),
    ) -> Option<T> {
        let mut state = self.lock();
        let Standing::Held(held) = state.standing else {
            return None;
        };
        let (standing, threshold, decided) = decide(held, state.threshold);
        state.stand(standing);
        state.threshold = threshold;
        state.is_refused = matches!(standing, Standing::Refused(_));
        Some(decided)
    }

    /// Takes the units of a request that was admitted again, after an inner layer had refused or queued it. `None`: it runs
    /// uncounted. Returns the units if the permit holds some by now.
    pub(crate) fn admit_again(&self, units: Option<CountedUnits>) -> Option<CountedUnits> {
        let mut state = self.lock();
        state.is_refused = false;
        match state.standing {
            // Another part of the request was quicker.
            Standing::Held(_) => return units,
            Standing::Stalled(_) => self.end_stall(),
            _ => {}
        }
        state.stand(units.map_or(Standing::Uncounted, Standing::Held));
        None
    }

    /// Notes that an inner layer has admitted the request under `threshold`.
    pub(crate) fn lower(&self, threshold: Threshold) {
        let mut state = self.lock();
        state.threshold = state.threshold.lower(threshold);
    }

    /// Notes that the request which an inner layer has just refused is queued there.
    pub(crate) fn queue(&self) {
        let mut state = self.lock();
        if let Standing::Refused(held) = state.standing {
            state.stand(Standing::Queued(held));
        }
    }

    /// Notes that the request that was queued at an inner layer is refused in the end.
    pub(crate) fn refuse_queued(&self) {
        let mut state = self.lock();
        state.is_refused = true;
        if let Standing::Queued(held) = state.standing {
            state.stand(Standing::Refused(held));
        }
        self.count_detached(&mut state);
    }

    /// Notes that the refusal by an inner layer is its last word: the request is not queued.
    pub(crate) fn refuse(&self) {
        self.count_detached(&mut self.lock());
    }

    /// Notes that the response has ended, or the caller has left. Work for which a handler has taken the permit along goes on, and
    /// is counted again if an inner layer has refused the request: it is released with the last clone.
    ///
    /// The clone in the extensions of the request is gone with the request by now.
    #[cold]
    pub(crate) fn end_request(&self) {
        if self.is_taken_along() {
            let mut state = self.lock();
            state.has_ended = true;
            self.count_detached(&mut state);
        }
    }

    fn count_detached(&self, state: &mut State) {
        if state.has_ended && self.is_taken_along() {
            self.count_at_work(state);
        }
    }

    /// Notes that the inner service works on, or has responded with something else than the refusal of an inner layer. A request
    /// that this refusal took out of the count is counted again, whatever else is in flight: it is at work.
    pub(crate) fn works_on(&self) {
        self.count_at_work(&mut self.lock());
    }

    fn count_at_work(&self, state: &mut State) {
        if let Standing::Refused(held) = state.standing {
            let counted = self.count_again(held, |_| u32::MAX);
            state.stand(counted.unwrap_or(Standing::Uncounted));
            let units = state.standing.unmarked();
            if units > 0 {
                // The refusal has taken its admission back.
                let (slot, writers) = self.count.own();
                slot.admitted.add(units, writers);
            }
        }
    }

    /// Counts units again that had left the count. `None` if they do not fit.
    fn count_again(&self, held: CountedUnits, cap: impl Cap) -> Option<Standing> {
        // A dry run refuses nothing.
        let cap = |limit| if held.marked { u32::MAX } else { cap.of(limit) };
        match self.count.acquire_again(self.generation, held.units, cap) {
            Again::Counted => {
                if held.marked {
                    self.count.mark(held.units);
                }
                // They have left their tenant's share, and stay out of it.
                Some(Standing::Held(CountedUnits {
                    tenant: None,
                    ..held
                }))
            }
            Again::Full => None,
            Again::Gone => Some(Standing::Uncounted),
        }
    }

    /// Returns whether the refusal of an inner layer ends the request: it was the latest decision upon the request, which has
    /// responded with a refusal.
    pub(crate) fn ends_refused(&self) -> bool {
        let state = self.lock();
        let units = state.standing.unmarked();
        if state.is_refused && units > 0 && !self.is_taken_along() {
            // Counted as admitted again, as it did not respond at once.
            let (slot, writers) = self.count.own();
            slot.withdrawn.add(units, writers);
        }
        state.is_refused
    }

    /// Notes that a handler, or what it has spawned, holds the permit, too.
    pub(crate) fn take_along(&self) {
        self.taken_along.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn bring_back(&self) {
        // Release: a sweep that sees none left sees what was done under the permit.
        self.taken_along.fetch_sub(1, Ordering::Release);
    }

    /// Notes the weight of the request, which is measured.
    pub(crate) fn set_weight(&self, weight: Arc<SharedWeight>) {
        let mut state = self.lock();
        weight.count(state.standing.unmarked());
        if state.standing.is_queued() {
            weight.wait_begins();
        }
        state.weight = Some(weight);
    }

    pub(crate) fn weight(&self) -> Option<Arc<SharedWeight>> {
        self.lock().weight.clone()
    }
}

// Responses.
impl SharedPermit {
    pub(crate) fn stalls(&self) -> &Stalls {
        &self.count.stalls
    }

    /// Has the response seen by the sweep of stalled responses from now on.
    pub(crate) fn watch_for_stall(this: &Arc<Self>) {
        if this.is_watched.swap(true, Ordering::Relaxed) {
            return;
        }
        let stalls = &this.count.stalls;
        if stalls.watch(Arc::<Self>::downgrade(this), this.frames_taken()) {
            // From now on they have a timer for the sweeps.
            this.count.queue.wake_all();
            this.count.drain.wake();
        }
    }

    /// Notes a poll of the body: it was pending, or it gave a frame.
    pub(crate) fn polled(&self, is_pending: bool) {
        // No other thread writes: a body is polled by one thread at a time.
        let before = self.progress.load(Ordering::Relaxed);
        let next = match is_pending {
            true => before | PENDING,
            false => (before | PENDING).wrapping_add(1),
        };
        self.progress.store(next, Ordering::Relaxed);
    }

    /// Returns whether the response may go on: its body is about to be polled. One that has stalled needs a permit again, within
    /// the threshold under which the request was admitted.
    pub(crate) fn resume(this: &Arc<Self>) -> bool {
        Self::resume_within(this, None)
    }

    fn resume_within(this: &Arc<Self>, threshold: Option<Threshold>) -> bool {
        let mut state = this.lock();
        // With the lock: a sweep that finds that no frame was taken sees this, or has released the units already.
        this.polled(true);
        let Standing::Stalled(held) = state.standing else {
            return true;
        };
        let threshold = threshold.unwrap_or(state.threshold);
        let Some(standing) = this.count_again(held, threshold) else {
            return false;
        };
        state.stand(standing);
        this.end_stall();
        drop(state);
        Self::watch_for_stall(this);
        true
    }

    /// Has a stalled response go on, whatever else is in flight.
    pub(crate) fn resume_anyway(this: &Arc<Self>) {
        let _ = Self::resume_within(this, Some(Threshold::NEVER_SHED));
    }
}

impl Stalling for SharedPermit {
    fn is_taken_along(&self) -> bool {
        self.taken_along.load(Ordering::Acquire) > 0
    }

    /// Returns how often the body was polled, or `None` while it waits for the server.
    fn frames_taken(&self) -> Option<u32> {
        let progress = self.progress.load(Ordering::Relaxed);
        (progress & PENDING == 0).then_some(progress)
    }

    fn stall(&self, frames: Option<u32>) -> bool {
        let mut state = self.lock();
        // Again, with the lock: the body may have been polled since.
        if self.frames_taken() != frames || self.is_taken_along() {
            return false;
        }
        let Standing::Held(held) = state.standing else {
            return false;
        };
        state.stand(Standing::Stalled(held));
        // The next frame has it seen again.
        self.is_watched.store(false, Ordering::Relaxed);
        self.count.stalls.begin();
        // Without the lock: wakers may run any code.
        drop(state);
        held.release();
        true
    }
}

impl Drop for SharedPermit {
    fn drop(&mut self) {
        // First: once the count is empty, it may be another budget's.
        self.end_probe();
        let mut state = self.lock();
        let standing = state.standing;
        state.stand(Standing::Uncounted);
        drop(state);
        match standing {
            Standing::Held(held) => held.release(),
            Standing::Stalled(_) => self.end_stall(),
            _ => {}
        }
    }
}

impl fmt::Debug for SharedPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedPermit")
            .field(&self.lock().standing)
            .finish()
    }
}

/// Where the layers further in find the permit of a request, in its extensions. It holds no permit.
#[derive(Clone, Debug)]
pub(crate) struct PermitRef(Weak<SharedPermit>);

impl PermitRef {
    pub(crate) fn to(permit: &Arc<SharedPermit>) -> Self {
        Self(Arc::downgrade(permit))
    }

    /// Returns the permit of `count`, if the request has one.
    pub(crate) fn of(&self, count: &'static Count) -> Option<Arc<SharedPermit>> {
        let permit = self.0.upgrade()?;
        let is_same = std::ptr::eq(permit.count, count) && permit.generation == count.generation();
        if is_same {
            return Some(permit);
        }
        permit.outer.get()?.of(count)
    }
}

#[cfg(all(test, loadshed_loom))]
mod model;

//! The permits that the request running on this thread holds already.
//!
//! A request often passes several layers of one budget: a layer around the whole app that counts, and a layer at a route that
//! sheds. It is one request and takes one permit. A mark in the request's extensions would tell the inner layer, at the cost of
//! an allocation. But the inner layer runs *inside* the outer layer: within its `call`, or within a poll of its future. So the
//! outer layer shows its permit on a stack of this thread for as long as either runs. The inner layer looks there, and may take
//! the permit away when it refuses.
//!
//! Across a spawn or a `Buffer` the inner layer runs elsewhere, and counts the request again.

use std::cell::Cell;

use super::{claim::Claim, count::count::Count, shares::shares::Tenant};
use crate::threshold::threshold::Threshold;

/// The units of a request in a count, released on drop. Empty if the request is exempt, or if an outer layer holds the permit.
///
/// Small, as it moves with the request from the service to the future to the body.
#[derive(Debug, Default)]
pub(crate) struct CountPermit(Option<CountedUnits>);

/// The units that [`Count::acquire`] has counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountedUnits {
    pub(crate) count: &'static Count,
    /// The lowest threshold by which the request was decided upon. Its priority is computed only where it is needed.
    pub(crate) threshold: Threshold,
    pub(crate) units: u32,
    /// The tenant whose fair share they count against.
    pub(crate) tenant: Option<Tenant>,
}

impl CountPermit {
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    #[inline]
    pub(crate) fn is_of(&self, count: &'static Count) -> bool {
        self.0.is_some_and(|taken| taken.is_of(count))
    }

    /// Returns the units that the permit holds.
    pub(crate) fn units(&self) -> u32 {
        self.0.map_or(0, |taken| taken.units)
    }
}

impl CountedUnits {
    /// Returns the units of a claim.
    #[inline]
    pub(crate) fn of(count: &'static Count, claim: &Claim) -> Self {
        Self {
            count,
            units: claim.units,
            threshold: claim.as_threshold(),
            tenant: claim.tenant(),
        }
    }

    #[inline]
    pub(crate) fn is_of(self, count: &'static Count) -> bool {
        std::ptr::eq(self.count, count)
    }

    #[inline]
    fn give_back(self) {
        // The shares first: once the count is empty, it may be another budget's.
        self.leave_shares();
        self.count.release(self.units);
    }

    #[inline]
    pub(crate) fn leave_shares(self) {
        if let (Some(tenant), Some(shares)) = (self.tenant, self.count.shares()) {
            shares.leave(tenant, self.units);
        }
    }
}

impl From<CountedUnits> for CountPermit {
    #[inline]
    fn from(taken: CountedUnits) -> Self {
        Self(Some(taken))
    }
}

impl Drop for CountPermit {
    #[inline]
    fn drop(&mut self) {
        if let Some(taken) = self.0 {
            taken.give_back();
        }
    }
}

/// The most nested budgets. Layers further in count a request again.
const DEPTH: usize = 16;

// Plain cells, without a destructor: a growable stack would cost each request some nanoseconds more.
thread_local! {
    static SHOWN: Stack = const {
        Stack {
            depth: Cell::new(0),
            shown: [const { Shown::nothing() }; DEPTH],
        }
    };
}

struct Stack {
    depth: Cell<usize>,
    shown: [Shown; DEPTH],
}

/// The permit that a layer shows to the layers inside of it, and what they have changed.
pub(crate) struct Shown {
    permit: Cell<Option<CountedUnits>>,
    /// Whether an inner layer has replaced the permit.
    changed: Cell<bool>,
    /// The priority of the lowest threshold under which inner layers have admitted the request: `u32::MAX` is that of
    /// `NEVER_SHED`.
    pub(crate) priority: Cell<u32>,
}

impl Shown {
    const fn nothing() -> Self {
        Self {
            permit: Cell::new(None),
            changed: Cell::new(false),
            priority: Cell::new(u32::MAX),
        }
    }

    /// Replaces the permit, or takes it away.
    pub(crate) fn set(&self, permit: Option<CountedUnits>) {
        self.permit.set(permit);
        self.changed.set(true);
    }

    /// Returns the units, if they are of `count`.
    pub(crate) fn of(&self, count: &'static Count) -> Option<CountedUnits> {
        self.permit.get().filter(|taken| taken.is_of(count))
    }
}

/// While it lives, [`find`] sees the permit on this thread. Its drop writes back what inner layers have changed.
#[must_use]
pub(crate) struct Scope<'a>(Option<&'a mut CountPermit>);

/// Shows `permit` to the layers inside.
#[inline]
pub(crate) fn show(permit: &mut CountPermit) -> Scope<'_> {
    if permit.0.is_none() {
        return Scope(None);
    }
    SHOWN.with(|stack| {
        let depth = stack.depth.get();
        let Some(free) = stack.shown.get(depth) else {
            return Scope(None);
        };
        free.permit.set(permit.0);
        free.changed.set(false);
        free.priority.set(u32::MAX);
        stack.depth.set(depth + 1);
        Scope(Some(permit))
    })
}

impl Scope<'_> {
    /// Returns the lowest threshold under which inner layers have admitted the request, or `None` if an inner layer has refused
    /// it and taken its permit away.
    #[inline]
    pub(crate) fn left(&self) -> Option<Threshold> {
        let Some(permit) = &self.0 else {
            return Some(Threshold::NEVER_SHED);
        };
        SHOWN.with(|stack| {
            let shown = &stack.shown[stack.depth.get() - 1];
            let kept = shown
                .permit
                .get()
                .is_some_and(|left| permit.is_of(left.count));
            kept.then(|| Threshold::of_priority(shown.priority.get()))
        })
    }
}

impl Drop for Scope<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some(permit) = self.0.take() else { return };
        SHOWN.with(|stack| {
            // Scopes end in the reverse of the order in which they begin, in an unwinding too: the last is this one. The permit is
            // overwritten without a drop: an inner layer that takes a permit away releases it itself.
            let depth = stack.depth.get() - 1;
            stack.depth.set(depth);
            let shown = &stack.shown[depth];
            // Mostly it has not: then the permit that was written just before need not be read.
            if shown.changed.get() {
                permit.0 = shown.permit.get();
            }
        });
    }
}

/// Returns the first result of `decide` for the permits shown, innermost first. `decide` may replace a permit or take it away.
#[inline]
pub(crate) fn find<T>(decide: impl FnMut(&Shown) -> Option<T>) -> Option<T> {
    SHOWN.with(|stack| {
        let shown = stack.shown.get(..stack.depth.get())?;
        shown.iter().rev().find_map(decide)
    })
}

//! What the request that runs on this thread holds already.
//!
//! A request often passes several layers of one budget: one around the whole app that counts, one at a route that
//! sheds. It is one request and takes one place. A mark in the request's extensions would tell the inner layer, and
//! would cost an allocation. But the inner layer runs *inside* the outer one: within its `call`, or within a poll of
//! its future. So the outer one shows what it holds on this thread's stack of places for as long as either runs. The
//! inner one looks there, and may take the place away when it refuses.
//!
//! Across a spawn or a `Buffer` the inner layer runs elsewhere, and counts anew.

use std::cell::Cell;

use super::{claim::Claim, count::count::Count, shares::shares::Tenant};
use crate::threshold::threshold::Threshold;

/// One request's place in a count, given back on drop; or nothing, if it is exempt or an outer layer holds its place.
///
/// Small, as it moves with the request from the service to the future to the body.
#[derive(Debug, Default)]
pub(crate) struct CountPermit(Option<CountedUnits>);

/// What [`Count::acquire`] has counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountedUnits {
    pub(crate) count: &'static Count,
    /// The lowest by which it was decided upon. Its rank is not worked out before somebody asks for it.
    pub(crate) threshold: Threshold,
    pub(crate) units: u32,
    /// In whose share they are.
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

    /// What it holds of the budget, in units of cost.
    pub(crate) fn units(&self) -> u32 {
        self.0.map_or(0, |taken| taken.units)
    }
}

impl CountedUnits {
    /// What `claim` takes.
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
        // First: once the count is empty, it may be another budget's.
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

/// Nobody nests this many budgets. If somebody does, the layers further in count for themselves.
const DEPTH: usize = 16;

// Plain cells in place, without a destructor: a growable stack would cost each request some nanoseconds more.
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

/// What one layer shows to the layers inside of it, and what those have made of it.
pub(crate) struct Shown {
    permit: Cell<Option<CountedUnits>>,
    /// Whether it is another than the one that was shown.
    changed: Cell<bool>,
    /// The rank of the lowest threshold that they have let the request pass: `u32::MAX` is that of `NEVER_SHED`.
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

    /// Puts another place there, or takes it away.
    pub(crate) fn set(&self, permit: Option<CountedUnits>) {
        self.permit.set(permit);
        self.changed.set(true);
    }

    /// What it has of `count`.
    pub(crate) fn of(&self, count: &'static Count) -> Option<CountedUnits> {
        self.permit.get().filter(|taken| taken.is_of(count))
    }
}

/// While it lives, [`find`] sees the place on this thread. Its drop tells the place what is left of it.
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
    /// What the layers inside have left of the request: the lowest threshold that they have let it pass, or `None` if one
    /// of them has refused it and taken its place away.
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
            // Scopes end in the order in which they nest, in an unwinding too: the last one is ours. It is written
            // over the place without a drop: what an inner layer took away, it has given back itself.
            let depth = stack.depth.get() - 1;
            stack.depth.set(depth);
            let shown = &stack.shown[depth];
            // Mostly it has not: then what was written just now need not be read.
            if shown.changed.get() {
                permit.0 = shown.permit.get();
            }
        });
    }
}

/// The innermost place shown for which `decide` has an answer. It may take the place away, or put another there.
#[inline]
pub(crate) fn find<T>(decide: impl FnMut(&Shown) -> Option<T>) -> Option<T> {
    SHOWN.with(|stack| {
        let shown = stack.shown.get(..stack.depth.get())?;
        shown.iter().rev().find_map(decide)
    })
}

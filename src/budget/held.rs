//! What the request that runs on this thread holds already.
//!
//! A request often passes several layers of one budget: one around the whole app that counts, one at a route that
//! sheds. It is one request and takes one place. A mark in the request's extensions would tell the inner layer, and
//! would cost an allocation. But the inner layer runs *inside* the outer one: within its `call`, or within a poll of
//! its future. So the outer one lays what it holds onto this thread's stack of places for as long as either runs,
//! and takes it up again after. The inner one looks there, and may take the place away when it refuses.
//!
//! Across a spawn or a `Buffer` the inner layer runs elsewhere, and counts anew.

use std::{cell::RefCell, mem};

use super::{Budget, Count, Permit};
use crate::control::Outcome;

/// What a layer holds for one request.
#[derive(Debug, Default)]
pub(crate) enum Place {
    /// Nothing: exempt, or counted by an outer layer.
    #[default]
    None,
    /// A place in the count.
    Counted(Permit),
    /// Nothing, as a dry run found that the request would have been refused. It runs uncounted, and the layers
    /// inside that run dry as well leave it so.
    WouldBeRefused(Budget),
}

impl Place {
    /// Ends the measurement of a counted request. It stays counted.
    pub(crate) fn measured(&mut self, outcome: Outcome) {
        if let Self::Counted(permit) = self {
            permit.measured(outcome);
        }
    }

    fn is_of(&self, count: &'static Count) -> bool {
        match self {
            Self::None => false,
            Self::Counted(permit) => permit.is_of(count),
            Self::WouldBeRefused(budget) => budget.is_of(count),
        }
    }
}

thread_local! {
    static HELD: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

/// While it lives, `find` sees the place on this thread. Its drop brings back what is left of the place.
#[must_use]
pub(crate) struct Scope<'a>(Option<&'a mut Place>);

/// Shows `place` to the layers inside.
#[inline]
pub(crate) fn show(place: &mut Place) -> Scope<'_> {
    if matches!(place, Place::None) {
        return Scope(None);
    }
    // On a thread that is being torn down there is no stack any more: then the place stays where it is.
    let shown = HELD.try_with(|held| held.borrow_mut().push(mem::take(place)));
    Scope(shown.is_ok().then_some(place))
}

impl Drop for Scope<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(place) = self.0.take() {
            // Scopes end in the order in which they nest, in an unwinding too: the last one is ours.
            *place = HELD
                .try_with(|held| held.borrow_mut().pop())
                .ok()
                .flatten()
                .unwrap_or_default();
        }
    }
}

/// Runs `decide` on the innermost place held of `count`, if there is one.
#[inline]
pub(super) fn find<T>(
    count: &'static Count,
    decide: impl FnOnce(&mut Place) -> T,
) -> Option<T> {
    let found = HELD.try_with(|held| {
        let mut held = held.borrow_mut();
        let place = held.iter_mut().rev().find(|place| place.is_of(count))?;
        Some(decide(place))
    });
    found.ok().flatten()
}

//! The pool of shares.
//!
//! A permit finds the shares of its budget by the count, without a lock, and the count outlives the budget. So the pool never
//! frees shares, as that of counts: it holds no more than there ever were budgets with fair shares at one time.

use std::sync::{
    Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use super::shares::Shares;
use crate::support::numbers::Numbers;

/// Which shares of the pool a count has: 0 for none, otherwise their number plus 1.
///
/// # Memory ordering
///
/// A release in [`claim`](Self::claim) and an acquire in [`get`](Self::get): the shares that are found are made, and empty.
#[derive(Debug, Default)]
pub(crate) struct Claimed(AtomicU32);

/// Shares by number plus 1, in blocks of which each is twice as long as the one before.
static POOL: [OnceLock<Box<[OnceLock<Shares>]>>; 32] = [const { OnceLock::new() }; 32];

static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers::new());

impl Claimed {
    #[inline]
    pub(crate) fn get(&self) -> Option<&'static Shares> {
        let number = self.0.load(Ordering::Acquire);
        let block = number.checked_ilog2()?;
        let index = number - (1 << block);
        POOL[block as usize].get()?.get(index as usize)?.get()
    }

    /// Claims shares, if there are none.
    pub(crate) fn claim(&self) {
        let mut numbers = numbers();
        if self.get().is_some() {
            return;
        }
        // As many budgets at one time would need more memory than there is.
        let number = numbers.claim() as u32 + 1;
        let block = number.ilog2();
        let slots =
            POOL[block as usize].get_or_init(|| (0..1 << block).map(|_| OnceLock::new()).collect());
        slots[(number - (1 << block)) as usize].get_or_init(Shares::new);
        self.0.store(number, Ordering::Release);
    }

    /// Returns the shares to the pool. Only once the budget is dropped and nothing is in flight.
    pub(crate) fn give_back(&self) {
        if let Some(shares) = self.get() {
            shares.forget();
            let number = self.0.swap(0, Ordering::Relaxed);
            numbers().give_back(number as usize - 1);
        }
    }
}

fn numbers() -> MutexGuard<'static, Numbers> {
    NUMBERS.lock().unwrap_or_else(PoisonError::into_inner)
}

//! How many retries there may be: a share of the calls.
//!
//! Retries limited per call multiply: three tries each, by three services in a row, are 27. A share holds whatever
//! happens (SRE book, chapter 21, "Deciding to Retry": 10 %).
//!
//! This is a [`Budget`] of tower's. tower's own `TpsBudget` is not the default, as it gives at least one retry a second
//! or none to those who have called less than ten times in its window. To a hundred clients that call three times a
//! second each, one a second is 33 % extra. Here the first retries are a loan instead, which the calls that follow pay
//! back before they earn new ones.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use loadshed::InvalidSetting;
use tower::retry::budget::Budget;

/// Whoever has not called ten times yet may retry, too: a program that makes one call is not to fail at the first 429.
const LOAN: u32 = 10;

/// At most as much is saved, however long all was well: what 1,000 calls earn. It is what tower's budget would have at
/// 100 calls a second.
const SAVED: u32 = 100;

/// A retry, in the parts that calls earn.
const RETRY: u32 = 1_000_000;

/// Retries ≤ max([`LOAN`], share × calls), at any time.
///
/// # Memory ordering
///
/// `Relaxed`: all there is to know is in the one word, which changes in one step.
#[derive(Debug)]
pub(super) struct Share {
    earned_by_a_call: u32,
    account: AtomicU64,
}

/// Both in parts of a retry.
#[derive(Clone, Copy)]
struct Account {
    owed: u32,
    balance: u32,
}

impl Share {
    pub(super) fn try_new(share: f64) -> Result<Self, InvalidSetting> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(InvalidSetting::new(
                "retry budget",
                share,
                "greater than 0 and at most 1",
            ));
        }
        let start = Account {
            owed: LOAN * RETRY,
            balance: LOAN * RETRY,
        };
        Ok(Self {
            earned_by_a_call: (share * f64::from(RETRY)) as u32,
            account: AtomicU64::new(start.pack()),
        })
    }

    fn change(&self, change: impl Fn(Account) -> Option<Account>) -> bool {
        self.account
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |packed| {
                change(Account::unpack(packed)).map(Account::pack)
            })
            .is_ok()
    }
}

impl Budget for Share {
    fn deposit(&self) {
        self.change(|account| Some(account.earn(self.earned_by_a_call)));
    }

    fn withdraw(&self) -> bool {
        self.change(Account::spend)
    }
}

impl Account {
    fn earn(self, earned: u32) -> Self {
        let repaid = earned.min(self.owed);
        Self {
            owed: self.owed - repaid,
            balance: (self.balance + earned - repaid).min(SAVED * RETRY),
        }
    }

    fn spend(self) -> Option<Self> {
        let balance = self.balance.checked_sub(RETRY)?;
        Some(Self { balance, ..self })
    }

    fn pack(self) -> u64 {
        u64::from(self.owed) << 32 | u64::from(self.balance)
    }

    fn unpack(packed: u64) -> Self {
        Self {
            owed: (packed >> 32) as u32,
            balance: packed as u32,
        }
    }
}

/// Any budget, shared by the clones of a layer.
#[derive(Clone)]
pub(super) struct RetryBudget(Arc<dyn Budget + Send + Sync>);

impl RetryBudget {
    pub(super) fn new(budget: impl Budget + Send + Sync + 'static) -> Self {
        Self(Arc::new(budget))
    }

    pub(super) fn deposit(&self) {
        self.0.deposit();
    }

    pub(super) fn withdraw(&self) -> bool {
        self.0.withdraw()
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RetryBudget").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn withdrawn(budget: &Share, wanted: usize) -> usize {
        (0..wanted).filter(|_| budget.withdraw()).count()
    }

    #[test]
    fn the_first_ten_are_lent_and_paid_back_before_new_ones_are_earned() {
        let budget = Share::try_new(0.1).unwrap();
        assert_eq!(withdrawn(&budget, 100), 10);
        (0..100).for_each(|_| budget.deposit());
        assert_eq!(withdrawn(&budget, 100), 0);
        (0..100).for_each(|_| budget.deposit());
        assert_eq!(withdrawn(&budget, 100), 10);
    }

    #[test]
    fn no_more_than_a_hundred_are_saved() {
        let budget = Share::try_new(1.0).unwrap();
        (0..10_000).for_each(|_| budget.deposit());
        assert_eq!(withdrawn(&budget, 1_000), 100);
    }

    #[test]
    fn threads_that_race_for_the_last_retry_do_not_share_it() {
        let budget = Share::try_new(0.1).unwrap();
        let retries: usize = std::thread::scope(|scope| {
            let race = || {
                let step = |_| {
                    budget.deposit();
                    usize::from(budget.withdraw())
                };
                (0..10_000).map(step).sum::<usize>()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(race)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(retries, 4_000);
    }

    proptest! {
        #[test]
        fn retries_never_exceed_the_share(
            share in 0.001_f64..=1.0,
            steps in prop::collection::vec(any::<bool>(), 0..2_000),
        ) {
            let budget = Share::try_new(share).unwrap();
            let (mut calls, mut retries) = (0_u32, 0_u32);
            for call in steps {
                if call {
                    budget.deposit();
                    calls += 1;
                } else {
                    retries += u32::from(budget.withdraw());
                }
                let allowed = (share * f64::from(calls)).max(f64::from(LOAN));
                prop_assert!(f64::from(retries) <= allowed + 1e-9, "{retries} of {calls}");
            }
        }
    }
}

#[cfg(all(test, loadshed_loom))]
pub(crate) mod model;
#[cfg(all(test, not(loadshed_loom)))]
pub(crate) mod tests;

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, RandomState},
    num::NonZeroU32,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU32},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::level;
use crate::support::{
    clock::nanos,
    sync::{AtomicU64, Ordering},
};

/// The factors of a tenant's hash that give its cell in each row: the primes of xxHash, whose products are nearly independent.
const ROWS: [u32; 4] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f];
// A model runs through all interleavings, so it has few cells.
const CELL_BITS: u32 = if cfg!(all(test, loadshed_loom)) {
    1
} else {
    10
};
const CELLS: usize = 1 << CELL_BITS;

/// The time between two looks, each of which finds τ anew.
const PERIOD: Duration = Duration::from_millis(50);
/// The time constant of the average units in flight, in seconds. It is long enough that a single request of a small tenant
/// counts for little, and short enough that capacity borrowed while no other tenant wanted it is soon forgotten.
const MEMORY: f32 = 1.0;
/// The time constant of the units refused, in seconds. It is shorter: a tenant that arrives while all capacity is borrowed has
/// no units in flight yet, and is known by its refusals alone.
const MISSED_MEMORY: f32 = 0.25;

/// What each tenant of a budget uses, and the fair share.
///
/// # Memory ordering
///
/// `Relaxed`, except for the last cell that a request enters, which decides which of two requests was first. The count orders
/// a request's work before that of the request that takes over its permit. A request leaves its cells before the count, so
/// where the count is empty, the cells are.
#[derive(Debug)]
pub(crate) struct Shares {
    /// An array, so that no cell is looked for past its end.
    cells: Box<[Cell; ROWS.len() * CELLS]>,
    /// τ, in units, as the bits of an `f32`. Infinite while no request is refused.
    fair_share: AtomicU32,
    /// When to look again, in nanoseconds since [`BASE`].
    due: AtomicI64,
    history: Mutex<History>,
}

#[derive(Debug, Default)]
struct Cell {
    /// Units in flight, and units of requests that are being decided upon.
    held: AtomicU64,
    /// Units refused since the last look.
    refused: AtomicU32,
    /// Units held on average, as the bits of an `f32`.
    average: AtomicU32,
    /// Units refused a second, as the bits of an `f32`.
    missed: AtomicU32,
}

/// What a look remembers for the next.
#[derive(Debug, Default)]
struct History {
    looked: Option<Instant>,
    admitted: usize,
    in_flight: f32,
    /// Units admitted a second.
    rate: f32,
}

/// The figures of the whole budget at one moment.
pub(crate) struct Seen {
    /// Units in flight.
    pub(crate) in_flight: u32,
    /// Units admitted since the budget was made.
    pub(crate) admitted: usize,
}

/// A tenant's hash, in 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tenant(NonZeroU32);

/// A tenant, or none, in the permit of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedTenant([u8; 3]);

impl Tenant {
    /// Hashes a tenant with a secret of this process, so that no caller can aim at the cells of another tenant.
    pub(crate) fn of(tenant: &impl Hash) -> Self {
        static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self::from_hash(SECRET.hash_one(tenant))
    }

    /// Hashes a tenant with a seed, the same in each process.
    pub(crate) fn seeded(seed: u64, tenant: &impl Hash) -> Self {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        Self::from_hash(hasher.hash_one((seed, tenant)))
    }

    fn from_hash(hash: u64) -> Self {
        Self(NonZeroU32::new(hash as u32 >> 8).unwrap_or(NonZeroU32::MIN))
    }
}

impl PackedTenant {
    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self.0 == [0; 3]
    }
}

impl From<Option<Tenant>> for PackedTenant {
    #[inline]
    fn from(tenant: Option<Tenant>) -> Self {
        let [a, b, c, _] = tenant.map_or(0, |Tenant(hash)| hash.get()).to_le_bytes();
        Self([a, b, c])
    }
}

impl From<PackedTenant> for Option<Tenant> {
    #[inline]
    fn from(PackedTenant([a, b, c]): PackedTenant) -> Self {
        NonZeroU32::new(u32::from_le_bytes([a, b, c, 0])).map(Tenant)
    }
}

static BASE: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Shares {
    pub(crate) fn new() -> Self {
        let cells = (0..ROWS.len() * CELLS).map(|_| Cell::default());
        let cells: Box<[Cell]> = cells.collect();
        let shares = Self {
            cells: cells.try_into().expect("as many cells as there are"),
            fair_share: AtomicU32::new(0),
            due: AtomicI64::new(0),
            history: Mutex::default(),
        };
        shares.forget();
        shares
    }

    /// Forgets all, for another budget. Nothing is in flight.
    pub(crate) fn forget(&self) {
        for cell in self.cells.iter() {
            cell.refused.store(0, Ordering::Relaxed);
            cell.average.store(0, Ordering::Relaxed);
            cell.missed.store(0, Ordering::Relaxed);
        }
        store(&self.fair_share, f32::INFINITY);
        self.due.store(i64::MIN, Ordering::Relaxed);
        *self.history.lock().unwrap_or_else(PoisonError::into_inner) = History::default();
    }

    /// Returns the tenant's cells, one in each row.
    fn of(&self, Tenant(hash): Tenant) -> [&Cell; ROWS.len()] {
        let cell = |row: usize| hash.get().wrapping_mul(ROWS[row]) >> (u32::BITS - CELL_BITS);
        [0, 1, 2, 3].map(|row| &self.cells[row << CELL_BITS | cell(row) as usize])
    }

    /// Enters `more` units for this tenant: the units of a request that needs `units` and has entered fewer, or none. Returns how
    /// far along its admission band the request may go, from 0 to 1.
    pub(crate) fn enter(&self, tenant: Tenant, more: u32, units: u32) -> f32 {
        let more = u64::from(more);
        let cells = self.of(tenant);
        let [others @ .., last] = cells;
        for cell in others {
            cell.held.fetch_add(more, Ordering::Relaxed);
        }
        // Of two requests of a tenant, the second finds the first in this cell. So, by acquire and release, it finds the first in
        // the other cells, which it reads only now.
        let last = last.held.fetch_add(more, Ordering::AcqRel) + more;
        let others = others.map(|cell| cell.held.load(Ordering::Relaxed));
        let least = others.into_iter().fold(last, u64::min);
        let average = cells.map(|cell| load(&cell.average));
        let average = average.into_iter().fold(f32::INFINITY, f32::min);
        // Half of it, and without the request itself: a tenant that uses its share holds as much at times, by chance.
        let half_held = least as f32 / 2.0 - units as f32;
        share(average.max(half_held), load(&self.fair_share))
    }

    /// Takes the units of a request out of the tenant's cells.
    pub(crate) fn leave(&self, tenant: Tenant, units: u32) {
        for cell in self.of(tenant) {
            cell.held.fetch_sub(u64::from(units), Ordering::Relaxed);
        }
    }

    /// Notes that a request was refused. It has left its cells.
    pub(crate) fn refused(&self, tenant: Tenant, units: u32) {
        for cell in self.of(tenant) {
            cell.refused.fetch_add(units, Ordering::Relaxed);
        }
    }

    /// Finds τ anew, if a look is due. No other request waits for it.
    pub(crate) fn look_if_due(&self, now: Instant, seen: impl FnOnce() -> Seen) {
        let since = since_base(now);
        let is_due = || since >= self.due.load(Ordering::Relaxed);
        if !is_due() {
            return;
        }
        if let Ok(mut history) = self.history.try_lock()
            && is_due()
        {
            let next = since.saturating_add(nanos(PERIOD) as i64);
            self.due.store(next, Ordering::Relaxed);
            self.look(&mut history, now, &seen());
        }
    }

    #[cold]
    fn look(&self, history: &mut History, now: Instant, seen: &Seen) {
        let admitted = seen.admitted.saturating_sub(history.admitted) as f32;
        let looked = history.looked.replace(now);
        history.admitted = seen.admitted;
        let Some(looked) = looked else { return };
        // At least 1 ms: over a shorter time, a rate says nothing.
        let elapsed = now
            .saturating_duration_since(looked)
            .as_secs_f32()
            .max(1e-3);
        let gain = |memory: f32| 1.0 - (-elapsed / memory).exp();
        let gains = [MEMORY, MISSED_MEMORY].map(gain);
        follow(&mut history.in_flight, seen.in_flight as f32, gains[0]);
        follow(&mut history.rate, admitted / elapsed, gains[0]);
        for cell in self.cells.iter() {
            cell.look(elapsed, gains);
        }
        // By Little's law, a unit is in flight for this long, in seconds. So one unit refused a second would be as many units in
        // flight.
        let stay = history.in_flight / history.rate.max(1e-3);
        // Each row holds all tenants. The first will do.
        let row = &self.cells[..CELLS];
        let had = |cell: &Cell| load(&cell.average);
        let wanted = |cell: &Cell| had(cell) + load(&cell.missed) * stay;
        let carried = row.iter().map(had).sum();
        store(
            &self.fair_share,
            level::fair(carried, || row.iter().map(wanted)),
        );
    }
}

impl Cell {
    fn look(&self, elapsed: f32, [gain, missed_gain]: [f32; 2]) {
        let held = self.held.load(Ordering::Relaxed) as f32;
        let [mut average, mut missed] = [&self.average, &self.missed].map(load);
        // Nearly all cells are empty, and are not written.
        if held + average + missed == 0.0 && self.refused.load(Ordering::Relaxed) == 0 {
            return;
        }
        let refused = self.refused.swap(0, Ordering::Relaxed) as f32;
        follow(&mut average, held, gain);
        follow(&mut missed, refused / elapsed, missed_gain);
        store(&self.average, average);
        store(&self.missed, missed);
    }
}

/// Returns how far along its admission band a request may go, from 0 to 1, if its tenant uses `used` units.
fn share(used: f32, fair_share: f32) -> f32 {
    if used <= 0.0 {
        return 1.0;
    }
    (1.5 - used / fair_share).clamp(0.0, 1.0)
}

fn follow(average: &mut f32, now: f32, gain: f32) {
    *average += (now - *average) * gain;
    // Less than a hundredth of a unit is none. Otherwise a tenant that has left would count as a second tenant for long.
    if *average < 0.01 {
        *average = 0.0;
    }
}

fn load(bits: &AtomicU32) -> f32 {
    f32::from_bits(bits.load(Ordering::Relaxed))
}

fn store(bits: &AtomicU32, value: f32) {
    bits.store(value.to_bits(), Ordering::Relaxed);
}

/// Returns nanoseconds since [`BASE`]: negative before it, as each test has a clock of its own.
fn since_base(now: Instant) -> i64 {
    let since = |later: Instant, earlier| nanos(later.saturating_duration_since(earlier)) as i64;
    since(now, *BASE) - since(*BASE, now)
}

#[cfg(test)]
impl Shares {
    fn is_empty(&self) -> bool {
        let held = |cell: &Cell| cell.held.load(Ordering::Relaxed);
        self.cells.iter().map(held).all(|held| held == 0)
    }
}

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

/// By what a tenant's hash is multiplied to find its cell in each row: the primes of xxHash, whose products have little to
/// do with one another.
const ROWS: [u32; 4] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f];
// A model runs through all interleavings, and does with few cells.
const CELL_BITS: u32 = if cfg!(all(test, loadshed_loom)) {
    1
} else {
    10
};
const CELLS: usize = 1 << CELL_BITS;

/// How often τ is found anew.
const PERIOD: Duration = Duration::from_millis(50);
/// Over which time the average is taken: long enough that one request more or less of a small tenant does not count for
/// much, and short enough that what a tenant had while nobody else wanted it is soon forgotten.
const MEMORY: f32 = 1.0;
/// The same for what was refused: shorter, as those who come while all is lent out have nothing yet to be known by.
const MISSED_MEMORY: f32 = 0.25;

/// What all tenants of a budget have.
///
/// # Memory ordering
///
/// `Relaxed`, but for the last cell that a request enters, which decides who of two was first. What one request did before
/// the next one takes its place is ordered by the count; and as a request leaves its cells before the count, whoever finds
/// the count empty finds the cells empty.
#[derive(Debug)]
pub(crate) struct Shares {
    cells: Box<[Cell]>,
    /// τ, the bits of an `f32`. Infinite while nobody is refused.
    part: AtomicU32,
    /// When to look again, in nanoseconds since [`BASE`].
    due: AtomicI64,
    watch: Mutex<Watch>,
}

#[derive(Debug, Default)]
struct Cell {
    /// Units held, and those of requests that are being decided upon.
    held: AtomicU64,
    /// Units refused since the last look.
    refused: AtomicU32,
    /// Units held on average, the bits of an `f32`.
    average: AtomicU32,
    /// Units refused a second, likewise.
    missed: AtomicU32,
}

/// What is remembered between two looks.
#[derive(Debug, Default)]
struct Watch {
    looked: Option<Instant>,
    admitted: usize,
    in_flight: f32,
    /// Units admitted a second.
    rate: f32,
}

/// The whole budget, at one moment.
pub(crate) struct Seen {
    pub(crate) in_flight: u32,
    /// Units admitted since it was made.
    pub(crate) admitted: usize,
}

/// A tenant's hash. The uppermost bit is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tenant(NonZeroU32);

impl Tenant {
    /// By a hash that is another one in each process, so that nobody can aim at another one's cells.
    pub(crate) fn of(tenant: &impl Hash) -> Self {
        static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self::from_hash(SECRET.hash_one(tenant))
    }

    /// By the hash of this seed, which is the same in each process.
    pub(crate) fn seeded(seed: u64, tenant: &impl Hash) -> Self {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        Self::from_hash(hasher.hash_one((seed, tenant)))
    }

    fn from_hash(hash: u64) -> Self {
        Self(NonZeroU32::new(hash as u32 | 1 << 31).unwrap_or(NonZeroU32::MIN))
    }
}

static BASE: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Shares {
    pub(crate) fn new() -> Self {
        let cells = (0..ROWS.len() * CELLS).map(|_| Cell::default()).collect();
        let shares = Self {
            cells,
            part: AtomicU32::new(0),
            due: AtomicI64::new(0),
            watch: Mutex::default(),
        };
        shares.forget();
        shares
    }

    /// Begins anew. Nothing is held.
    pub(crate) fn forget(&self) {
        for cell in &self.cells {
            cell.refused.store(0, Ordering::Relaxed);
            cell.average.store(0, Ordering::Relaxed);
            cell.missed.store(0, Ordering::Relaxed);
        }
        store(&self.part, f32::INFINITY);
        self.due.store(i64::MIN, Ordering::Relaxed);
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Watch::default();
    }

    /// Its cells, one in each row.
    fn of(&self, Tenant(hash): Tenant) -> [&Cell; ROWS.len()] {
        let cell = |row: usize| hash.get().wrapping_mul(ROWS[row]) >> (u32::BITS - CELL_BITS);
        [0, 1, 2, 3].map(|row| &self.cells[row << CELL_BITS | cell(row) as usize])
    }

    /// Enters `more` units for this tenant, those of a request that needs `units`, or what is new of them. How far along
    /// its stretch it may go, from 0 to 1.
    pub(crate) fn enter(&self, tenant: Tenant, more: u32, units: u32) -> f32 {
        let more = u64::from(more);
        let cells = self.of(tenant);
        let [others @ .., last] = cells;
        for cell in others {
            cell.held.fetch_add(more, Ordering::Relaxed);
        }
        // Of two of one tenant, the second one here finds the first in this cell, and so, by acquire and release, in the
        // others, which it reads only now.
        let last = last.held.fetch_add(more, Ordering::AcqRel) + more;
        let others = others.map(|cell| cell.held.load(Ordering::Relaxed));
        let least = others.into_iter().fold(last, u64::min);
        let average = cells.map(|cell| load(&cell.average));
        let average = average.into_iter().fold(f32::INFINITY, f32::min);
        // At half its size, and without the request itself: so much at once is no more than chance has it.
        let at_once = least as f32 / 2.0 - units as f32;
        share(average.max(at_once), load(&self.part))
    }

    pub(crate) fn leave(&self, tenant: Tenant, units: u32) {
        for cell in self.of(tenant) {
            cell.held.fetch_sub(u64::from(units), Ordering::Relaxed);
        }
    }

    /// A request has left its cells as it was refused.
    pub(crate) fn refused(&self, tenant: Tenant, units: u32) {
        for cell in self.of(tenant) {
            cell.refused.fetch_add(units, Ordering::Relaxed);
        }
    }

    /// Finds τ anew, if it is time. One request in some does, and no other waits for it.
    pub(crate) fn look_if_due(&self, seen: impl FnOnce() -> Seen) {
        let now = Instant::now();
        let since = since_base(now);
        let is_due = || since >= self.due.load(Ordering::Relaxed);
        if !is_due() {
            return;
        }
        if let Ok(mut watch) = self.watch.try_lock() {
            if is_due() {
                let next = since.saturating_add(nanos(PERIOD) as i64);
                self.due.store(next, Ordering::Relaxed);
                self.look(&mut watch, now, &seen());
            }
        }
    }

    #[cold]
    fn look(&self, watch: &mut Watch, now: Instant, seen: &Seen) {
        let admitted = seen.admitted.saturating_sub(watch.admitted) as f32;
        let looked = watch.looked.replace(now);
        watch.admitted = seen.admitted;
        let Some(looked) = looked else { return };
        // Shorter, and a rate says nothing.
        let elapsed = now
            .saturating_duration_since(looked)
            .as_secs_f32()
            .max(1e-3);
        let gain = |memory: f32| 1.0 - (-elapsed / memory).exp();
        let gains = [MEMORY, MISSED_MEMORY].map(gain);
        follow(&mut watch.in_flight, seen.in_flight as f32, gains[0]);
        follow(&mut watch.rate, admitted / elapsed, gains[0]);
        for cell in &self.cells {
            cell.look(elapsed, gains);
        }
        // By Little's law, a unit stays for so long; so a unit refused a second would be so much in flight.
        let stay = watch.in_flight / watch.rate.max(1e-3);
        // Each row has all of them. The first will do.
        let row = &self.cells[..CELLS];
        let had = |cell: &Cell| load(&cell.average);
        let wanted = |cell: &Cell| had(cell) + load(&cell.missed) * stay;
        let carried = row.iter().map(had).sum();
        store(&self.part, level::fair(carried, || row.iter().map(wanted)));
    }
}

impl Cell {
    fn look(&self, elapsed: f32, [gain, missed_gain]: [f32; 2]) {
        let held = self.held.load(Ordering::Relaxed) as f32;
        let [mut average, mut missed] = [&self.average, &self.missed].map(load);
        // Nearly all cells are empty, and stay as they are.
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

/// How far along its stretch a request may go whose tenant uses so much, where τ is `part`.
fn share(used: f32, part: f32) -> f32 {
    if used <= 0.0 {
        return 1.0;
    }
    (1.5 - used / part).clamp(0.0, 1.0)
}

fn follow(average: &mut f32, now: f32, gain: f32) {
    *average += (now - *average) * gain;
    // Less than a hundredth of a place is nobody. Else who has left would count as one of several for long.
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

/// Before it is less than 0: each test has a clock of its own.
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

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use tokio::time::Instant;

use super::refusal::{Counts, Refusal};
use crate::{
    support::{
        clock::nanos,
        spread::{share, spread_apart},
    },
    threshold::criticality::Criticality,
};

/// The line of those who were told to come back.
///
/// # Memory ordering
///
/// `Relaxed`: every word stands for itself, and what two racing callers can spoil is one estimate, for one beat.
#[derive(Debug)]
pub(crate) struct Schedule {
    epoch: Instant,
    /// Of each class, lowest first: where the line ends that it and the higher ones stand in, in nanoseconds since
    /// `epoch`, as are all moments here.
    ends: [AtomicU64; Criticality::CriticalPlus as usize + 1],
    /// The units of those that found it full, and make it denser.
    beyond: AtomicU64,
    /// Nanoseconds from one unit of room to the next, or `UNKNOWN`.
    gap: AtomicU64,
    /// Nanoseconds by which it gets longer in a second, without what leaves it.
    growth: AtomicU64,
    /// When the rates were last measured, and what had happened by then.
    measured: AtomicU64,
    completed: AtomicUsize,
    arrived: AtomicUsize,
    capacity: Rate,
    /// Since when the capacity is measured.
    began: AtomicU64,
    fresh: Rate,
}

/// A second, as the bits of an `f64`. 0 is not known.
#[derive(Debug, Default)]
struct Rate(AtomicU64);

const SECOND: u64 = 1_000_000_000;

/// How often rates are measured: four times while the shortest hint over HTTP runs.
const BEAT: u64 = SECOND / 4;

/// After as long without a refusal, what has completed since tells how many came, not how many could have.
const LULL: u64 = SECOND;

/// Over how many seconds the capacity is measured: 50 completions a second then tell it to 7 %.
const STEADY: f64 = 4.0;

/// Over how many seconds fresh load is: half of what hints look ahead.
const MEMORY: f64 = 30.0;

/// Of the capacity, for all that arrive: a server that is full to the last place refuses some by chance alone.
const FULL: f64 = 0.95;

/// Of the capacity, for those who come back, however much is fresh. Promise 20's tenth.
const LEAST_ROOM: f64 = 0.1;

/// A guess that was up to four times too slow stands, as who was told by it comes back beside those who are told better.
const CLOSE: Range<f64> = 0.25..1.0;

/// No gap: nothing has been measured yet.
const UNKNOWN: u64 = 0;

/// One a minute, where nothing completes.
const LONGEST_GAP: f64 = 60e9;

impl Schedule {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            ends: Default::default(),
            beyond: AtomicU64::new(0),
            gap: AtomicU64::new(UNKNOWN),
            growth: AtomicU64::new(0),
            measured: AtomicU64::new(0),
            completed: AtomicUsize::new(0),
            arrived: AtomicUsize::new(0),
            capacity: Rate::default(),
            began: AtomicU64::new(0),
            fresh: Rate::default(),
        }
    }

    /// How long the one who is refused stands in it, in nanoseconds: at most `most`. The `nth` has a place of its own also
    /// where it is full.
    pub(crate) fn join(
        &self,
        refusal: Refusal<'_>,
        most: u64,
        nth: u64,
        counts: impl FnOnce() -> Counts,
    ) -> u64 {
        let since_epoch = refusal.now.get().saturating_duration_since(self.epoch);
        let now = nanos(since_epoch);
        let gap = self.gap(now, refusal.in_flight, most, counts);
        let gap = denser(gap, self.beyond(now), most);
        let class = refusal.class as usize;
        // It takes as many turns as it costs. Lower classes wait for it too.
        let length = gap.saturating_mul(u64::from(refusal.units));
        for lower in &self.ends[..class] {
            lengthen(lower, now, length, most);
        }
        match lengthen(&self.ends[class], now, length, most) {
            Some(wait) => {
                self.thin_out(wait, most);
                wait
            }
            None => {
                self.beyond.fetch_add(u64::from(refusal.units), Relaxed);
                // Anywhere behind those of higher classes.
                let higher = self.ends.get(class + 1).map_or(0, |end| end.load(Relaxed));
                let higher = higher.saturating_sub(now).min(most);
                higher + share(most - higher, spread_apart(nth))
            }
        }
    }

    /// How far to either side a `wait` in whole seconds may be from what it should be.
    ///
    /// Who waits whole seconds comes back at the same fraction of a second at which it was refused. So those refused
    /// within a tenth of a second, who fill a piece of the line, would all come back within tenths of seconds: they are mixed
    /// with all those that are refused within a second.
    pub(crate) fn blur(&self, wait: u64) -> u64 {
        // By a third of the wait at most, which keeps the flow even where the line begins: ln 2 × 3/2 of it, 1.04.
        (self.growth.load(Relaxed) / 2).min(wait / 3)
    }

    /// What made the line denser comes to its end as it gets shorter.
    fn thin_out(&self, wait: u64, most: u64) {
        let beyond = self.beyond.load(Relaxed);
        if beyond > 0 && wait < most - most / 8 {
            self.beyond.store(beyond - 1, Relaxed);
        }
    }

    /// How many more are in the line than there is room for.
    fn beyond(&self, now: u64) -> u64 {
        let beyond = self.beyond.load(Relaxed);
        if beyond > 0 && self.ends[0].load(Relaxed) <= now {
            // It was left long ago.
            self.beyond.store(0, Relaxed);
            return 0;
        }
        beyond
    }

    /// Nanoseconds from one who has room to the next.
    fn gap(&self, now: u64, in_flight: u32, most: u64, counts: impl FnOnce() -> Counts) -> u64 {
        let measured = self.measured.load(Relaxed);
        // One of those who find it due measures.
        let is_due = now.saturating_sub(measured) >= BEAT;
        if is_due
            && self
                .measured
                .compare_exchange(measured, now, Relaxed, Relaxed)
                .is_ok()
        {
            if let Some(by) = self.measure(measured, now, in_flight, counts()) {
                self.stretch(now, by, most);
            }
        }
        match self.gap.load(Relaxed) {
            UNKNOWN => guess(in_flight),
            gap => gap,
        }
    }

    /// By how much more or less time those in the line need than was guessed when they joined, if it was a bad guess.
    fn measure(&self, before: u64, now: u64, in_flight: u32, counts: Counts) -> Option<f64> {
        let elapsed = seconds(now - before);
        let since = |counter: &AtomicUsize, count: usize| {
            let before = counter.swap(count, Relaxed);
            count.saturating_sub(before) as f64
        };
        let completed = since(&self.completed, counts.completed) / elapsed;
        let arrived = since(&self.arrived, counts.arrived);

        let was_known = self.capacity.get() > 0.0;
        let capacity = self.capacity(completed, elapsed, now);
        let old = match self.gap.load(Relaxed) {
            UNKNOWN => guess(in_flight),
            gap => gap,
        };
        // Whose places have been reached since.
        let end = self.ends[0].load(Relaxed).min(now);
        let back = end.saturating_sub(before) as f64 / old as f64;
        let fresh = ((arrived - back) / elapsed).max(0.0);
        let fresh = self.fresh.blend(fresh, elapsed / MEMORY.min(seconds(now)));

        let capacity = match capacity > 0.0 {
            true => capacity,
            false => fresh.max(f64::from(in_flight.max(1))),
        };
        let room = (FULL * capacity - fresh).max(LEAST_ROOM * capacity);
        let gap = (1e9 / room).clamp(1.0, LONGEST_GAP) as u64;
        self.gap.store(gap, Relaxed);
        let refused = (arrived / elapsed - completed).max(0.0);
        self.growth.store((refused * gap as f64) as u64, Relaxed);
        let by = gap as f64 / old as f64;
        (!was_known && !CLOSE.contains(&by)).then_some(by)
    }

    /// What the server can do, as far as is known.
    fn capacity(&self, completed: f64, elapsed: f64, now: u64) -> f64 {
        let known = self.capacity.get();
        if elapsed > seconds(LULL) {
            if known == 0.0 {
                self.began.store(now, Relaxed);
                return known;
            }
            // It did as much without refusing any.
            return self.capacity.blend(completed.max(known), 1.0);
        }
        let measured_for = seconds(now.saturating_sub(self.began.load(Relaxed)));
        self.capacity
            .blend(completed, elapsed / STEADY.min(measured_for))
    }

    /// As many stand in the lines as before, `by` times as far apart: what they were told was a guess. Nobody was told more
    /// than `most`, so no line is made longer than that: one first completion may say that it is a hundred times as long.
    fn stretch(&self, now: u64, by: f64, most: u64) {
        let stretched = |end: u64| {
            let left = end.checked_sub(now)?;
            let stretched = (left as f64 * by) as u64;
            Some(now.saturating_add(stretched.min(most.max(left))))
        };
        for end in &self.ends {
            // Nobody stands in one that has ended.
            let _ = end.fetch_update(Relaxed, Relaxed, stretched);
        }
    }
}

impl Rate {
    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }

    /// Takes in a newer value, with this weight; all of it, if 1 or more.
    fn blend(&self, newer: f64, weight: f64) -> f64 {
        let old = self.get();
        let blended = old + (newer - old) * weight.min(1.0);
        self.0.store(blended.to_bits(), Relaxed);
        blended
    }
}

/// Adds one that takes `length` to the line that ends there. Returns how long it waits, or `None` if that is more than `most`.
fn lengthen(end: &AtomicU64, now: u64, length: u64, most: u64) -> Option<u64> {
    let longer = |end: u64| {
        let permit = end.max(now);
        (permit - now <= most).then(|| permit.saturating_add(length))
    };
    let before = end.fetch_update(Relaxed, Relaxed, longer).ok()?;
    Some(before.saturating_sub(now))
}

/// With so many more in it than there is room for.
fn denser(gap: u64, beyond: u64, most: u64) -> u64 {
    if beyond == 0 {
        return gap;
    }
    // Not in integers: a division of 128 bits takes as long as all the rest.
    let (gap, most) = (gap as f64, most as f64);
    (gap * most / (most + gap * beyond as f64)) as u64
}

/// Until more is known, one request is taken to last a second.
fn guess(in_flight: u32) -> u64 {
    (SECOND / u64::from(in_flight.max(1))).max(1)
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / SECOND as f64
}

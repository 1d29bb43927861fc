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

/// The schedule of refused requests that should return.
///
/// # Memory ordering
///
/// `Relaxed`: no word depends on another. Two racing callers can at most spoil an estimate, for one measuring interval.
#[derive(Debug)]
pub(crate) struct Schedule {
    epoch: Instant,
    /// The end of the schedule of each class, lowest class first. Requests of higher classes are in it too. All times are in
    /// nanoseconds since `epoch`.
    ends: [AtomicU64; Criticality::CriticalPlus as usize + 1],
    /// The units of requests that found the schedule full, and make it denser.
    beyond: AtomicU64,
    /// Nanoseconds from one unit of free capacity to the next, or `UNKNOWN`.
    gap: AtomicU64,
    /// Nanoseconds that refusals add to the schedule in a second. The time that passes is not deducted.
    growth: AtomicU64,
    /// The time of the last measurement. The two counts after it are of the same time.
    measured: AtomicU64,
    completed: AtomicUsize,
    arrived: AtomicUsize,
    capacity: Rate,
    /// The time since which the capacity is measured.
    began: AtomicU64,
    fresh: Rate,
}

/// A rate per second, as the bits of an `f64`. 0 means unknown.
#[derive(Debug, Default)]
struct Rate(AtomicU64);

const SECOND: u64 = 1_000_000_000;

/// The interval between measurements of the rates: a quarter of the shortest hint over HTTP.
const INTERVAL: u64 = SECOND / 4;

/// The longest time without a measurement in which completions tell the capacity. After a longer lull without refusals,
/// completions tell the number of arrivals.
const LULL: u64 = SECOND;

/// The number of seconds over which the capacity is measured. 50 completions a second then give it to within 7 %.
const STEADY: f64 = 4.0;

/// The number of seconds over which fresh load is measured: half of the default longest hint.
const MEMORY: f64 = 30.0;

/// The share of the capacity for all arrivals. A server at full utilization refuses some requests by chance alone.
const FULL: f64 = 0.95;

/// The least share of the capacity for returning requests, at any fresh load. It is the tenth of promise 20.
const LEAST_CAPACITY_SHARE: f64 = 0.1;

/// The measured gap ÷ the guessed gap for which the schedule is not rescaled. If the guess was up to four times too slow,
/// callers with a guessed hint return beside the callers with a measured hint.
const CLOSE: Range<f64> = 0.25..1.0;

/// The gap before the first measurement.
const UNKNOWN: u64 = 0;

/// The longest gap, in nanoseconds: a unit a minute, if no request completes.
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

    /// Adds a refused request to the schedule. Returns its wait in nanoseconds, at most `most`.
    ///
    /// If the schedule is full, `nth` selects the position.
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
        // The request takes a slot for each unit of its cost. Lower classes wait for it too.
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
                // Any position behind the requests of higher classes.
                let higher = self.ends.get(class + 1).map_or(0, |end| end.load(Relaxed));
                let higher = higher.saturating_sub(now).min(most);
                higher + share(most - higher, spread_apart(nth))
            }
        }
    }

    /// Returns how many nanoseconds a hint in whole seconds may differ from `wait`, to either side.
    ///
    /// A caller that waits whole seconds returns at the same fraction of a second as its refusal. Requests refused within a
    /// tenth of a second fill a section of the schedule, and would all return within tenths of seconds. So they are mixed with
    /// all requests that are refused within a second.
    pub(crate) fn blur(&self, wait: u64) -> u64 {
        // At most a third of the wait. So the flow stays even at the start of the schedule: ln 2 × 3/2 of it, 1.04.
        (self.growth.load(Relaxed) / 2).min(wait / 3)
    }

    /// Reduces `beyond` by a unit, if the schedule has become shorter than 7/8 of `most`.
    fn thin_out(&self, wait: u64, most: u64) {
        let beyond = self.beyond.load(Relaxed);
        if beyond > 0 && wait < most - most / 8 {
            self.beyond.store(beyond - 1, Relaxed);
        }
    }

    /// Returns the number of units in the schedule beyond its capacity.
    fn beyond(&self, now: u64) -> u64 {
        let beyond = self.beyond.load(Relaxed);
        if beyond > 0 && self.ends[0].load(Relaxed) <= now {
            // The schedule has ended.
            self.beyond.store(0, Relaxed);
            return 0;
        }
        beyond
    }

    /// Returns the nanoseconds from one unit of free capacity to the next. Measures the rates when they are due.
    fn gap(&self, now: u64, in_flight: u32, most: u64, counts: impl FnOnce() -> Counts) -> u64 {
        let measured = self.measured.load(Relaxed);
        // Of racing callers that find the measurement due, one measures.
        let is_due = now.saturating_sub(measured) >= INTERVAL;
        if is_due
            && self
                .measured
                .compare_exchange(measured, now, Relaxed, Relaxed)
                .is_ok()
            && let Some(by) = self.measure(measured, now, in_flight, counts())
        {
            self.rescale(now, by, most);
        }
        match self.gap.load(Relaxed) {
            UNKNOWN => guess(in_flight),
            gap => gap,
        }
    }

    /// Measures the rates. Returns the measured gap ÷ the guessed gap, if the guess was bad and requests joined by it.
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
        // The number of slots that have been reached since.
        let end = self.ends[0].load(Relaxed).min(now);
        let back = end.saturating_sub(before) as f64 / old as f64;
        let fresh = ((arrived - back) / elapsed).max(0.0);
        let fresh = self.fresh.blend(fresh, elapsed / MEMORY.min(seconds(now)));

        let capacity = match capacity > 0.0 {
            true => capacity,
            false => fresh.max(f64::from(in_flight.max(1))),
        };
        let free = (FULL * capacity - fresh).max(LEAST_CAPACITY_SHARE * capacity);
        let gap = (1e9 / free).clamp(1.0, LONGEST_GAP) as u64;
        self.gap.store(gap, Relaxed);
        let refused = (arrived / elapsed - completed).max(0.0);
        self.growth.store((refused * gap as f64) as u64, Relaxed);
        let by = gap as f64 / old as f64;
        (!was_known && !CLOSE.contains(&by)).then_some(by)
    }

    /// Updates the capacity of the server, and returns it: 0 if unknown.
    fn capacity(&self, completed: f64, elapsed: f64, now: u64) -> f64 {
        let known = self.capacity.get();
        if elapsed > seconds(LULL) {
            if known == 0.0 {
                self.began.store(now, Relaxed);
                return known;
            }
            // The server completed as many without a refusal.
            return self.capacity.blend(completed.max(known), 1.0);
        }
        let measured_for = seconds(now.saturating_sub(self.began.load(Relaxed)));
        self.capacity
            .blend(completed, elapsed / STEADY.min(measured_for))
    }

    /// Multiplies the gaps in all schedules by `by`, after a measurement has replaced the guess.
    ///
    /// The number of requests stays the same. No caller got a hint longer than `most`, so no schedule is made longer than
    /// that: a single first completion may suggest a hundred times the length.
    fn rescale(&self, now: u64, by: f64, most: u64) {
        let rescaled = |end: u64| {
            let left = end.checked_sub(now)?;
            let rescaled = (left as f64 * by) as u64;
            Some(now.saturating_add(rescaled.min(most.max(left))))
        };
        for end in &self.ends {
            // A schedule that has ended holds no requests.
            let _ = end.fetch_update(Relaxed, Relaxed, rescaled);
        }
    }
}

impl Rate {
    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }

    /// Blends a newer value into the rate with this weight, and returns the result. A weight of 1 or more replaces the rate.
    fn blend(&self, newer: f64, weight: f64) -> f64 {
        let old = self.get();
        let blended = old + (newer - old) * weight.min(1.0);
        self.0.store(blended.to_bits(), Relaxed);
        blended
    }
}

/// Adds a request of this `length` to the schedule with this `end`.
///
/// Returns the wait of the request, or `None` if the wait is longer than `most`.
fn lengthen(end: &AtomicU64, now: u64, length: u64, most: u64) -> Option<u64> {
    let longer = |end: u64| {
        let slot = end.max(now);
        (slot - now <= most).then(|| slot.saturating_add(length))
    };
    let before = end.fetch_update(Relaxed, Relaxed, longer).ok()?;
    Some(before.saturating_sub(now))
}

/// Returns the gap of a schedule with `beyond` units more than its capacity.
fn denser(gap: u64, beyond: u64, most: u64) -> u64 {
    if beyond == 0 {
        return gap;
    }
    // Floating point, as a 128-bit integer division takes as long as the rest of the function.
    let (gap, most) = (gap as f64, most as f64);
    (gap * most / (most + gap * beyond as f64)) as u64
}

/// Returns the gap before the first measurement: a request is assumed to take a second.
fn guess(in_flight: u32) -> u64 {
    (SECOND / u64::from(in_flight.max(1))).max(1)
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / SECOND as f64
}

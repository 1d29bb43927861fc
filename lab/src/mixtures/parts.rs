//! What mixtures are made of: servers by size, kinds, and criteria.

use std::time::Duration;

use crate::{
    criterion::Criterion,
    scenario::{
        kind::{Counted, Kind},
        load::Load,
        phase::Conditions,
        server::{Server, Times},
    },
    size::{Length, Size},
};

pub(super) const MILLI: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A client timeout that no scenario reaches.
pub(super) const NEVER: Duration = Duration::from_secs(1_000_000);

/// For a kind whose own server is idle.
pub(super) const UNREFUSED: Criterion = Criterion::RefusedLater(0.0);

/// For a kind whose own server is overloaded.
pub(super) const AS_ORACLE: Criterion = Criterion::Score {
    mean: 0.95,
    worst: 0.85,
};

/// For slow calls, which need no worker: the score of a phase says little of calls that take as long as the phase.
const UNTOUCHED: Criterion = Criterion::Refused(0.05);

/// The sizes and durations of mixtures on servers of one size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) size: Size,
    /// The server of a quick kind: 200, 800 or 3,200 calls a second.
    pub(super) quick: Server,
    /// The workers of a server that kinds share, or that one kind has for itself.
    pub(super) workers: usize,
    /// The duration of an undisturbed phase, in seconds.
    pub(super) brief: f64,
    /// The duration of the phase that matters, in seconds.
    pub(super) long: f64,
}

impl Scale {
    pub(super) fn of(size: Size, length: Length) -> Option<Self> {
        let (workers, millis, shared) = match size {
            Size::Tiny => (2, 10, 4),
            Size::Medium => (4, 5, 16),
            Size::Large => (16, 5, 64),
            Size::Slow => return None,
        };
        let (brief, long) = match (length, size) {
            (Length::Full, Size::Tiny | Size::Medium) => (20.0, 60.0),
            _ => (10.0, 30.0),
        };
        Some(Self {
            size,
            quick: Server::pool(workers, millis * MILLI, Times::Exponential),
            workers: shared,
            brief,
            long,
        })
    }

    /// Returns a pool of the workers that kinds share.
    pub(super) fn pool(&self, service: Duration) -> Server {
        Server::pool(self.workers, service, Times::Exponential)
    }

    /// Returns the quick kind.
    pub(super) fn quick(&self) -> Kind {
        Kind::new("quick", self.quick).at("/quick")
    }
}

/// Returns a kind of calls that take long by design, a load of which is in calls a second.
pub(super) fn slow(seconds: f64, times: Times) -> Kind {
    let server = Server::dependency(Duration::from_secs_f64(seconds), times);
    let mut kind = Kind::unqueued("slow", server).at("/slow").timeout(NEVER);
    kind.counted = Counted::Whenever;
    kind
}

/// Returns a kind whose responses begin after 5 ms, and whose bodies last so long on average.
pub(super) fn streams(seconds: f64) -> Kind {
    let server = Server::dependency(5 * MILLI, Times::Exponential);
    let mut kind = Kind::unqueued("slow", server).at("/stream").timeout(NEVER);
    kind.body = Duration::from_secs_f64(seconds);
    kind.counted = Counted::Whenever;
    kind
}

/// Returns conditions of a kind that is refused nothing at this load.
pub(super) fn idle(load: f64) -> Conditions {
    Conditions::at(load).must(UNREFUSED)
}

/// Returns conditions of a kind whose goodput at this load is that of the oracle.
pub(super) fn limited(load: f64) -> Conditions {
    Conditions::at(load).must(AS_ORACLE)
}

/// Returns conditions of a slow kind, of which `count` calls arrive within a second, and `then` each second.
pub(super) fn rush(count: f64, then: f64) -> Conditions {
    Conditions::under(Load::rush(count, then)).must(UNTOUCHED)
}

/// Returns conditions without calls.
pub(super) fn absent() -> Conditions {
    Conditions::default()
}

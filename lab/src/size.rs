//! The sizes of servers, and the lengths of phases.

use std::{fmt, time::Duration};

use crate::scenario::server::{Server, Times};

/// The size of a server. A limit that suits one size by luck does not suit the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Size {
    /// 4 workers with a service time of 80 ms: 50 calls a second.
    Tiny,
    /// 12 workers with a service time of 240 ms: 50 calls a second. The client timeout is about four service times.
    Slow,
    /// 64 workers with a service time of 64 ms: 1,000 calls a second.
    Medium,
    /// 500 workers with a service time of 50 ms: 10,000 calls a second.
    Large,
}

/// How long the long phases of a scenario last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Length {
    /// At most 60 s, and at most 10 s on a large server: for tests.
    Short,
    /// Up to an hour; 30 to 60 s on a large server, which serves ten times as many calls a second as a medium one.
    Full,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tiny => "tiny",
            Self::Slow => "slow",
            Self::Medium => "medium",
            Self::Large => "large",
        })
    }
}

impl Size {
    /// All sizes, small servers first.
    pub const ALL: [Self; 4] = [Self::Tiny, Self::Slow, Self::Medium, Self::Large];

    /// Returns the server of this size: a pool of workers.
    #[must_use]
    pub fn pool(self, times: Times) -> Server {
        let (workers, service) = match self {
            Self::Tiny => (4, 80),
            Self::Slow => (12, 240),
            Self::Medium => (64, 64),
            Self::Large => (500, 50),
        };
        Server::pool(workers, Duration::from_millis(service), times)
    }
}

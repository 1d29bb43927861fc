//! The description of callers.

use std::time::Duration;

/// The behaviour of callers. Calls are a Poisson process, whether or not the server responds (an open loop).
#[derive(Clone, Copy, Debug)]
pub struct Callers {
    /// The client timeout. After it the caller drops the request, while the server goes on with the work.
    pub timeout: Duration,
    /// Whether requests are gRPC calls that state the client timeout, as `grpc-timeout`. By default not.
    pub states_timeout: bool,
    /// The share of callers with a shorter timeout, and that timeout. By default none.
    pub short_timeout: Option<(f64, Duration)>,
    /// The number of retries of a refused caller. By default 0.
    pub retries: u32,
    /// The delay before each retry.
    pub retry_delay: RetryDelay,
}

/// The tenants among the callers, and the cost of their calls. The cost of a call is what the call takes of the budget; it
/// does not change the service time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClientMix {
    /// The number of tenants.
    pub tenants: u32,
    /// The share of the calls that the first tenant sends. The other tenants send equal shares of the rest.
    pub first: f64,
    /// The share of the calls that is large. All other calls cost one unit.
    pub large: f64,
    /// The cost of a large call, in units.
    pub units: u32,
}

/// The delay between a refusal and the caller's retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDelay {
    /// 50 to 150 ms at random, whatever the hint says.
    Short,
    /// 1, 2, 4 s and so on, as curl does without a hint.
    Doubling,
    /// The retry hint in whole seconds, as `Retry-After` over HTTP.
    HintSeconds,
    /// The retry hint in milliseconds, as over gRPC.
    HintMilliseconds,
}

impl RetryDelay {
    /// Returns whether the retry hint sets the delay.
    pub(crate) fn follows_hint(self) -> bool {
        match self {
            Self::Short | Self::Doubling => false,
            Self::HintSeconds | Self::HintMilliseconds => true,
        }
    }
}

impl Default for Callers {
    /// Creates callers with a timeout of 1 s and without retries.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(1),
            states_timeout: false,
            short_timeout: None,
            retries: 0,
            retry_delay: RetryDelay::Short,
        }
    }
}

impl Default for ClientMix {
    /// Creates a mix of one tenant whose calls cost one unit each.
    fn default() -> Self {
        Self {
            tenants: 1,
            first: 1.0,
            large: 0.0,
            units: 1,
        }
    }
}

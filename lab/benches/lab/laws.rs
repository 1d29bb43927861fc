//! The laws that are compared.

use std::time::Duration;

use loadshed::{Adaptive, LatencyTarget};
use loadshed_lab::{Aimd, Gradient2, Law, Vegas, controls};

/// Half of what a caller waits, as a user would set it for all of these servers.
const TARGET: Duration = Duration::from_millis(500);

/// The crate's own first, then the published ones, then those that must fail.
pub(crate) fn all() -> Vec<Law> {
    let mut laws = vec![
        Law::of("adaptive", Adaptive::default(), Adaptive::initial),
        // Its timeout is of no account: nobody waits for as long here, and who leaves counts as a drop.
        Law::of("aimd", Aimd::default(), Aimd::initial),
        Law::of("vegas", Vegas::default(), Vegas::initial),
        Law::of("gradient2", Gradient2::default(), Gradient2::initial),
        Law::of(
            "latency target",
            LatencyTarget::new(TARGET),
            LatencyTarget::initial,
        ),
    ];
    laws.extend(controls());
    laws
}

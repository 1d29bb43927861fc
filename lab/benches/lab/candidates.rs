//! The candidates that are compared.

use std::time::Duration;

use loadshed::{Adaptive, LatencyTarget};
use loadshed_lab::{Aimd, Candidate, Gradient2, Vegas, controls};

/// Half of what a caller waits, as a user would set it for all of these servers.
const TARGET: Duration = Duration::from_millis(500);

/// The crate's own first, then the published ones, then those that must fail.
pub(crate) fn all() -> Vec<Candidate> {
    let mut candidates = vec![
        Candidate::of_controller("adaptive", Adaptive::default(), Adaptive::initial),
        // Its timeout is of no account: nobody waits for as long here, and who leaves counts as a drop.
        Candidate::of_controller("aimd", Aimd::default(), Aimd::initial),
        Candidate::of_controller("vegas", Vegas::default(), Vegas::initial),
        Candidate::of_controller("gradient2", Gradient2::default(), Gradient2::initial),
        Candidate::of_controller(
            "latency target",
            LatencyTarget::new(TARGET),
            LatencyTarget::initial,
        ),
    ];
    candidates.extend(controls());
    candidates
}

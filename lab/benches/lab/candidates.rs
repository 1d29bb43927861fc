//! The candidates of the bench.

use std::time::Duration;

use loadshed::{Adaptive, LatencyTarget};
use loadshed_lab::{Aimd, Candidate, Gradient2, Vegas, controls};

/// The latency target for all servers: half of the client timeout of 1 s.
const TARGET: Duration = Duration::from_millis(500);

/// Returns the controllers of `loadshed`, the published algorithms, and the negative controls.
pub(crate) fn all() -> Vec<Candidate> {
    let mut candidates = vec![
        Candidate::of_controller("adaptive", Adaptive::default(), Adaptive::initial),
        // Its timeout of 5 s has no effect: callers time out earlier, and that counts as a drop.
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

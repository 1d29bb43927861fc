//! An upper bound of the goodput, where the best fixed limit takes too long to find.

use crate::{report::Report, scenario::scenario::Scenario};

impl Report {
    /// Returns an upper bound of the number of calls of one name that are served in time in this phase, chance aside: the
    /// servable calls, or as many as the workers have time for if the service time of a call is unknown before it completes.
    /// Kinds that share workers have equal shares of what they ask for.
    ///
    /// Where times vary, some callers have a short timeout or the load has bursts, the best possible result is well below
    /// the bound. [`Oracle`](crate::Oracle) finds the best result of a fixed limit.
    #[must_use]
    pub fn bound(&self, scenario: &Scenario, name: usize, phase: usize) -> f64 {
        let names = scenario.kind_names();
        let of_name = &self.of_kind(name)[phase];
        let servable = of_name.servable as f64;
        // Kinds of one name are alike, so the bottleneck of the first stands for those of all.
        let is_first = |kind: &crate::scenario::kind::Kind| kind.name == names[name];
        let first = scenario.kinds.iter().position(is_first).unwrap_or(0);
        if !scenario.is_queued(first) {
            return servable;
        }
        let owner = scenario.owner(first);
        let shares = |nth: &usize| {
            let mut kinds = scenario.kinds.iter().enumerate();
            kinds.any(|(kind, of)| of.name == names[*nth] && scenario.owner(kind) == owner)
        };
        let sharing = (0..names.len()).filter(shares);
        let work: f64 = sharing.map(|nth| self.of_kind(nth)[phase].work).sum();
        if work == 0.0 {
            return servable;
        }
        let conditions = &scenario.phases[phase];
        let timeout = scenario.kinds[first].callers.timeout;
        let busy = conditions.kind(owner).load.busy(timeout);
        let seconds = conditions.length.as_secs_f64() * busy;
        let workers = scenario.workers(first, conditions) * scenario.instances;
        // The calls that reach a worker are a random sample of the calls that arrive, servable or not.
        servable.min(workers as f64 * seconds * 1e9 * servable / work)
    }
}

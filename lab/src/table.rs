//! Rows as lines of a Markdown table, with their pass criteria.

use crate::{criterion::Criterion, row::Row};

impl Row {
    /// Returns the header of the [table](Self::markdown).
    #[must_use]
    pub fn header() -> &'static str {
        "| size | scenario | phase | kind | candidate | score | worst (seed) | criterion | p99, ms | ÷ oracle | refused | after 3 s | 90 % in, s \
         | limit | ± | CRITICAL |\n|---|---|---|---|---|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    }

    /// Returns the row as a line of a Markdown table. ✗ marks a criterion that is missed.
    #[must_use]
    pub fn markdown(&self) -> String {
        let (worst, seed) = self.worst();
        let criterion = Criterion::of(self);
        let mark = if criterion.is_met(self) { "" } else { " ✗" };
        let recovery = self
            .recovery()
            .map_or("never".into(), |after| after.as_secs().to_string());
        let critical = self
            .critical()
            .map_or(String::new(), |share| format!("{share:.4}"));
        format!(
            "| {} | {} | {} | {} | {} | {:.3} | {worst:.3} ({seed}) | {criterion}{mark} | {:.0} | {:.2} | {:.3} | {:.3} | {recovery} | {:.0} | {:.2} | {critical} |",
            self.size,
            self.name(),
            self.phase,
            self.kind,
            self.candidate,
            self.score(),
            self.mean(|metrics| metrics.p99.as_secs_f64() * 1e3),
            self.mean(|metrics| metrics.p99_ratio),
            self.refused(),
            self.mean(|metrics| metrics.refused_after_3s),
            self.mean(|metrics| metrics.limit),
            self.mean(|metrics| metrics.limit_deviation),
        )
    }
}

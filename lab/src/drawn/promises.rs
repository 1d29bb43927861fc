//! The promises on drawn faults: they are about all phases together, as no drawn row is tuned for.

use crate::row::Row;

/// The least mean score of all phases.
const MEAN: f64 = 0.975;
/// The largest share of phases whose score is below [`LOW`].
const SHARE_OF_LOW: f64 = 0.1;
const LOW: f64 = 0.9;
/// A phase with a lower score is stuck.
const STUCK: f64 = 0.5;
/// The share of calls refused after three seconds, and the score, from which on calls are refused in vain.
const IN_VAIN: (f64, f64) = (0.001, 0.99);

/// Returns the promises that these rows of [`drawn_faults`](super::scenario::drawn_faults) break, each as a sentence with figures.
/// They are: a mean score of at least .975, at most a tenth of the phases below .9, no phase below .5, and no calls refused in
/// vain.
#[must_use]
pub fn broken_promises(rows: &[&Row]) -> Vec<String> {
    let count = rows.len().max(1) as f64;
    let below = |least: f64| rows.iter().filter(|row| row.score() < least).count();
    let mean = rows.iter().map(|row| row.score()).sum::<f64>() / count;
    let (low, stuck) = (below(LOW) as f64 / count, below(STUCK));
    let in_vain = rows.iter().filter(|row| is_refused_in_vain(row)).count();
    let promises = [
        (
            mean >= MEAN,
            format!("the mean is {mean:.3} in place of {MEAN}"),
        ),
        (
            low <= SHARE_OF_LOW,
            format!("{:.0} % of the phases are below {LOW}", low * 100.0),
        ),
        (stuck == 0, format!("{stuck} phases are below {STUCK}")),
        (
            in_vain == 0,
            format!("{in_vain} phases refuse calls in vain"),
        ),
    ];
    let broken = promises.into_iter().filter(|(is_held, _)| !is_held);
    broken.map(|(_, what)| what).collect()
}

/// Returns whether a row of drawn faults refuses calls that the oracle serves. In the phase `disturbed`, in which even the oracle
/// may refuse, only a kind that needs no worker counts.
#[must_use]
pub fn is_refused_in_vain(row: &Row) -> bool {
    let (refused, score) = IN_VAIN;
    let is_idle = row.phase != "disturbed" || row.kind == "quick";
    is_idle && row.mean(|metrics| metrics.refused_after_3s) > refused && row.score() < score
}

#[cfg(test)]
mod tests {
    use loadshed::Budget;

    use super::*;
    use crate::{candidate::Candidate, drawn::scenario::drawn_faults, evaluator::Evaluator};

    #[test]
    fn a_limit_of_one_breaks_all_promises_and_a_perfect_row_none() {
        let scenarios: Vec<_> = (4..6).map(drawn_faults).collect();
        let least = Candidate::new("always min", || Budget::fixed(1));
        let evaluator = Evaluator::default().seeds(1..2).against_bound();
        let rows = evaluator.evaluate("drawn", &scenarios, &[least]);
        assert_eq!(broken_promises(&rows.iter().collect::<Vec<_>>()).len(), 4);
        let mut perfect = rows[0].clone();
        perfect.metrics[0].score = 1.0;
        assert_eq!(broken_promises(&[&perfect]), [""; 0]);
    }

    #[test]
    fn the_same_number_draws_the_same_scenario_and_all_faults_are_drawn() {
        let names: Vec<_> = (0..300).map(|number| drawn_faults(number).name).collect();
        assert_eq!(drawn_faults(7).name, names[7]);
        for part in [
            "pool",
            "processor",
            "fixed",
            "exponential",
            "lognormal(2.0)",
            "pareto(1.5)",
            "bimodal",
            "a day",
            "bursts",
            "instances added",
            "instances removed",
            "no fault",
            "pauses",
            "a noisy neighbour",
            "a cache",
            "half of the calls",
            "% errors",
            "slower",
            "of the workers",
            "polls",
            "silent uploads",
            "404s",
            "503s",
            "the same",
        ] {
            assert!(names.iter().any(|name| name.contains(part)), "{part}");
        }
    }
}

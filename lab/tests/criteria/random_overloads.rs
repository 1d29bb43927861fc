//! Overloads drawn at random: none stays stuck once its fault has ended.

use loadshed_lab::{Evaluator, drawn_scenario};

use super::adaptive;

/// Numbers of scenarios in which an earlier version of the controller stayed without goodput. Either callers with a short timeout
/// leave much work behind, or a shared processor has begun so many calls that it completes none in time.
const STUCK_ONCE: [u64; 15] = [
    68, 178, 187, 209, 214, 234, 241, 272, 1_013, 1_066, 1_075, 1_078, 1_100, 1_146, 1_224,
];

#[test]
fn no_random_overload_outlasts_its_fault() {
    let scenarios: Vec<_> = (1..=16).chain(STUCK_ONCE).map(drawn_scenario).collect();
    let evaluator = Evaluator::default().seeds(1..2).against_bound();
    let rows = evaluator.evaluate("drawn", &scenarios, &[adaptive()]);
    let last: Vec<_> = rows.iter().filter(|row| row.phase == "last").collect();
    assert_eq!(last.len(), scenarios.len());
    let stuck: Vec<_> = last.iter().filter(|row| row.score() < 0.5).collect();
    assert!(stuck.is_empty(), "{stuck:#?}");
    let mean = last.iter().map(|row| row.score()).sum::<f64>() / last.len() as f64;
    assert!(mean > 0.95, "{mean}");
}

//! Tests the default controller against the pass criteria, in virtual time: the short version of
//! `cargo bench -p loadshed-lab --bench lab`.
//!
//! The test of a size fails for a row that misses its criterion and is not listed in [`misses`], and for a listed row that
//! meets its criterion. A failure prints lines to paste into that list.

mod classes_and_tenants;
#[allow(dead_code, reason = "the tests do not call its main")]
#[path = "../../examples/controller.rs"]
mod controller;
mod misses;
mod mixture_misses;
mod mixtures;
mod promises;
mod random_overloads;
mod retry_storm;

use std::{fmt::Write, sync::OnceLock};

use loadshed::Adaptive;
use loadshed_lab::{
    Candidate, Criterion, Evaluator, Length, Row, Scenario, Size, controls, scenarios,
};

use self::misses::{MISSES, Miss};

pub(crate) fn adaptive() -> Candidate {
    Candidate::of_controller("adaptive", Adaptive::default(), Adaptive::initial)
}

/// Returns the scenarios whose names begin with one of these names.
pub(crate) fn some(size: Size, length: Length, names: &[&str]) -> Vec<Scenario> {
    let mut all = scenarios(size, length);
    all.retain(|scenario| names.iter().any(|name| scenario.name.starts_with(name)));
    all
}

/// Returns the rows of the default controller at this size, run once for all tests. Large sizes run fewer scenarios and seeds.
pub(crate) fn rows(size: Size) -> &'static [Row] {
    static ROWS: [OnceLock<Vec<Row>>; 4] = [const { OnceLock::new() }; 4];
    const AT_LARGE: [&str; 6] = [
        "healthy 0.8",
        "step 3",
        "sustained 1.25",
        "capacity drop at 1.25",
        "slow dependency, hard",
        "thrash, steep 1.25",
    ];
    ROWS[size as usize].get_or_init(|| {
        let mut scenarios = scenarios(size, Length::Short);
        let seeds = match size {
            Size::Tiny | Size::Slow => 5,
            Size::Medium => {
                // The fleet takes as long as eight scenarios, and the load of 10 × as long as ten. `promises` runs the latter
                // with fixed times.
                scenarios.retain(|scenario| {
                    scenario.instances == 1 && !scenario.name.starts_with("slow in overload 10 ×")
                });
                1
            }
            _ => {
                scenarios = some(size, Length::Short, &AT_LARGE);
                1
            }
        };
        let evaluator = Evaluator::default().seeds(1..1 + seeds);
        evaluator.evaluate(&size.to_string(), &scenarios, &[adaptive()])
    })
}

/// Returns a message for each row that violates its criterion or its entry in the list of misses.
fn violations(rows: &[Row]) -> Vec<String> {
    let known = |row: &Row| MISSES.iter().find(|miss| miss.is(row));
    let violation = |row: &Row| {
        let criterion = Criterion::of(row);
        match known(row) {
            None if criterion.is_met(row) => None,
            None => Some(format!("missed, {criterion}: {row}\n{}", Miss::paste(row))),
            Some(_) if criterion.is_met(row) => {
                Some(format!("no longer missed, remove its entry: {row}"))
            }
            Some(miss) if criterion.reached(row) < miss.reaches => {
                let reaches = miss.reaches;
                Some(format!(
                    "below the known {reaches}: {row}\n{}",
                    Miss::paste(row)
                ))
            }
            Some(miss) => {
                println!("known to miss {criterion}, {}: {row}", miss.why);
                None
            }
        }
    };
    rows.iter().filter_map(violation).collect()
}

fn assert_criteria(size: Size) {
    let rows = rows(size);
    let mut violations = violations(rows);
    let gone = |miss: &&Miss| miss.size == size.to_string() && !rows.iter().any(|row| miss.is(row));
    violations.extend(
        MISSES
            .iter()
            .filter(gone)
            .map(|miss| format!("no row for the entry {miss:?}")),
    );
    let mut text = String::new();
    for violation in &violations {
        let _ = writeln!(text, "{violation}");
    }
    assert!(
        violations.is_empty(),
        "{} of {} rows at {size}:\n{text}",
        violations.len(),
        rows.len()
    );
}

#[test]
fn the_criteria_are_met_by_four_workers() {
    assert_criteria(Size::Tiny);
}

#[test]
fn the_criteria_are_met_by_twelve_slow_workers() {
    assert_criteria(Size::Slow);
}

#[test]
fn the_criteria_are_met_by_64_workers() {
    assert_criteria(Size::Medium);
}

#[test]
fn the_criteria_are_met_by_500_workers() {
    assert_criteria(Size::Large);
}

/// A control that passes shows that the scenarios are too weak.
#[test]
fn the_controls_fail_clearly() {
    const AT_MEDIUM: [&str; 3] = [
        "healthy 0.8 ×, fixed",
        "step 3 ×, fixed",
        "slow dependency, soft, fixed",
    ];
    let evaluator = Evaluator::default().seeds(1..2);
    let mut rows = evaluator.evaluate("tiny", &scenarios(Size::Tiny, Length::Short), &controls());
    let at_medium = some(Size::Medium, Length::Short, &AT_MEDIUM);
    rows.extend(evaluator.evaluate("medium", &at_medium, &controls()));
    for candidate in controls() {
        let its_rows: Vec<_> = rows
            .iter()
            .filter(|row| row.candidate == candidate.name())
            .collect();
        let is_far_below = |row: &&&Row| {
            let criterion = Criterion::of(row);
            criterion.reached(row) < criterion.required() - 0.2
        };
        let missed = its_rows.iter().filter(is_far_below).count();
        let all = its_rows.len();
        assert!(
            10 * missed > all,
            "{} is far below {missed} of {all} criteria",
            candidate.name()
        );
    }
}

#[test]
fn the_example_tells_a_controller_from_none() {
    let rows = controller::rows();
    let [custom, default, none] = &rows[3..6] else {
        panic!("three candidates in the second of three phases")
    };
    assert!(
        custom.score() > 0.5 && default.score() > 0.5,
        "{custom}\n{default}"
    );
    assert!(none.score() < 0.2, "{none}");
}

/// Each control fails for its own reason.
#[test]
fn the_controls_fail_where_they_should() {
    let fails = |candidate: &str, size: Size, name: &str, phase: &str, below: f64| {
        let mut candidates = controls();
        candidates.retain(|control| control.name() == candidate);
        let scenarios = some(size, Length::Short, &[name]);
        let rows =
            Evaluator::default()
                .seeds(1..2)
                .evaluate(&size.to_string(), &scenarios, &candidates);
        let row = rows
            .iter()
            .find(|row| row.phase == phase)
            .expect("the phase has a row");
        assert!(row.score() < below, "{row}");
    };
    // A limit of 24 suits few workers, and wastes most of 64.
    fails("never moves", Size::Medium, "step 3 ×, fixed", "over", 0.5);
    fails(
        "always min",
        Size::Tiny,
        "healthy 0.8 ×, fixed",
        "healthy",
        0.5,
    );
    fails("always max", Size::Tiny, "step 3 ×, fixed", "over", 0.5);
    // Its first samples are of an overload, which becomes the baseline.
    fails(
        "latency ratio",
        Size::Medium,
        "cold start, fixed",
        "first 10 s",
        0.8,
    );
}

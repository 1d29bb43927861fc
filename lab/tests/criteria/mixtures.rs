//! Mixtures of several kinds of work, spikes and drawn faults: the short version of
//! `cargo bench -p loadshed-lab --bench lab -- mixtures`, with `spikes` and with `faults=300`.

use std::fmt::Write;

use loadshed_lab::{
    Candidate, Criterion, Evaluator, Length, Row, Scenario, Size, controls, drawn_faults,
    mixture_cases, mixtures, spikes,
};

use super::{adaptive, mixture_misses::MISSES};

/// Scenarios that take little time, and are unlike each other.
const SHORT: [&str; 15] = [
    "B1:",
    "B2",
    "B3: 20 exports",
    "B6",
    "E1",
    "E3",
    "E5",
    "E10",
    "slow by design, few later, 0.1 ×",
    "held by the client for a minute, later",
    "shared bottleneck (pool), 2 kinds 1 × apart",
    "own bottleneck, 2 kinds",
    "masking, 404s at 2",
    "hostile outcomes, 429s",
    "spike, pool, fixed",
];

fn short() -> Vec<Scenario> {
    let mut all = mixture_cases();
    all.extend(mixtures(Size::Tiny, Length::Short));
    all.extend(spikes(Size::Tiny));
    all.retain(|scenario| SHORT.iter().any(|name| scenario.name.starts_with(name)));
    all
}

fn rows(scenarios: &[Scenario], candidates: &[Candidate]) -> Vec<Row> {
    let evaluator = Evaluator::default().seeds(1..3);
    evaluator.evaluate("short", scenarios, candidates)
}

/// A row that falls short is in the list of misses, and reaches what it reached there. A row of the list falls short.
#[test]
fn the_mixtures_that_fall_short_are_known() {
    let mut violations = String::new();
    let rows = rows(&short(), &[adaptive()]);
    let known = |row: &Row| MISSES.iter().find(|miss| miss.is(row));
    for row in &rows {
        let criterion = Criterion::of(row);
        let reached = criterion.reached(row);
        let _ = match (known(row), criterion.is_met(row)) {
            (None, false) => writeln!(violations, "{}", paste(row, reached)),
            (Some(miss), true) => writeln!(violations, "no longer missed, remove: {miss:?}"),
            (Some(miss), false) if reached < miss.reaches => {
                writeln!(
                    violations,
                    "below {}: {}",
                    miss.reaches,
                    paste(row, reached)
                )
            }
            _ => Ok(()),
        };
    }
    for miss in MISSES
        .iter()
        .filter(|miss| !rows.iter().any(|row| miss.is(row)))
    {
        let _ = writeln!(violations, "no row for {miss:?}");
    }
    assert!(violations.is_empty(), "\n{violations}");
}

/// Formats a row as an entry of the list of misses. What it reached is rounded down, so that the same run reaches it.
fn paste(row: &Row, reached: f64) -> String {
    let reaches = (reached * 1e3).floor() / 1e3;
    let (scenario, phase, kind) = (row.name(), &row.phase, &row.kind);
    format!(
        "    Miss {{ scenario: {scenario:?}, phase: {phase:?}, kind: {kind:?}, reaches: {reaches:.3} }},"
    )
}

/// A control that passes shows that the mixtures are too weak.
#[test]
fn each_control_falls_far_short_of_some_mixtures() {
    let mut scenarios = short();
    let names = [
        "B1:",
        "B3",
        "E5",
        "hostile",
        "own bottleneck",
        "spike, pool, fixed, callers wait 0.1",
    ];
    scenarios.retain(|scenario| names.iter().any(|name| scenario.name.starts_with(name)));
    let rows = rows(&scenarios, &controls());
    for control in controls() {
        let far_short: Vec<_> = rows
            .iter()
            .filter(|row| row.candidate == control.name())
            .filter(|row| Criterion::of(row).reached(row) < Criterion::of(row).required() - 0.2)
            .collect();
        println!("{}: {}", control.name(), far_short.len());
        assert!(far_short.len() >= 3, "{}: {far_short:#?}", control.name());
    }
}

#[test]
fn each_control_falls_short_of_the_promises_on_drawn_faults() {
    let scenarios: Vec<_> = (3..6).map(drawn_faults).collect();
    let evaluator = Evaluator::default().seeds(1..2).against_bound();
    let rows = evaluator.evaluate("drawn", &scenarios, &controls());
    for control in controls() {
        let of = |row: &&Row| row.candidate == control.name();
        let scores: Vec<_> = rows.iter().filter(of).map(Row::score).collect();
        let stuck = scores.iter().filter(|&&score| score < 0.5).count();
        println!("{}: {stuck} of {}", control.name(), scores.len());
        assert!(stuck > 0, "{}: {scores:.2?}", control.name());
    }
}

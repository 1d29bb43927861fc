//! The goals, and whether this run meets them.

use crate::{Baselines, figures, measure::Figures, ours, row::Row};

const TOWER: &str = "tower `ConcurrencyLimit` + `LoadShed`";

/// Ratios are of one thread, with a service that is reused, where the name does not say otherwise.
pub(crate) fn rows(baselines: &Baselines, all: &[(&Row, &Figures)]) -> Vec<Vec<String>> {
    let row = |name| figures(all, name);
    let [one, two] = [0, 1].map(|threads| move |name| row(name).reused()[threads].median);
    let cloned = |name, threads: usize| row(name).cloned().map(|cells| cells[threads].median);
    let cloned = |name| Some(cloned(name, 1)? / cloned(name, 0)?);
    // Flat means within what the rounds of one row differ by.
    const FLAT: f64 = 1.2;
    let asked = [
        "loadshed, none of 100 routes",
        "loadshed, classify",
        "loadshed, key",
    ];
    let asked = asked.into_iter().map(&one).fold(0.0, f64::max);
    let goals = [
        (
            "admit, fixed ÷ (bare + raw)",
            Some(one(ours::FIXED) / baselines.bare_and_raw),
            1.4,
        ),
        (
            "admit, fixed ÷ tower's `ConcurrencyLimit` + `LoadShed`",
            Some(one(ours::FIXED) / one(TOWER)),
            1.0,
        ),
        (
            "the same on 2 threads",
            Some(two(ours::FIXED) / two(TOWER)),
            1.0,
        ),
        (
            "admit, the slowest of 100 routes, classes and keys ÷ fixed",
            Some(asked / one(ours::FIXED)),
            1.05,
        ),
        (
            "admit, fixed, 2 threads ÷ 1",
            Some(two(ours::FIXED) / one(ours::FIXED)),
            FLAT,
        ),
        (
            "the same, cloned for each request",
            cloned(ours::FIXED),
            FLAT,
        ),
        (
            "admit, every request measured, 2 threads ÷ 1",
            Some(two(ours::MEASURED) / one(ours::MEASURED)),
            FLAT,
        ),
        (
            "the same, cloned for each request",
            cloned(ours::MEASURED),
            FLAT,
        ),
        (
            "admit, every request measured − fixed, ns",
            Some(one(ours::MEASURED) - one(ours::FIXED)),
            100.0,
        ),
        (
            "admit, fixed, allocations",
            Some(row(ours::FIXED).allocations as f64),
            0.0,
        ),
        (
            "refuse, adaptive hint ÷ 429 with all that ours carries, undecided",
            Some(one(ours::REFUSE) / one(ours::LOADED_429)),
            1.25,
        ),
        (
            "refuse, gRPC ÷ HTTP, adaptive hint",
            Some(one(ours::REFUSE_GRPC) / one(ours::REFUSE)),
            2.0,
        ),
    ];
    let row = |(name, is, most): (&str, Option<f64>, f64)| {
        let is = is.unwrap_or(f64::NAN);
        let met = if is <= most { "yes" } else { "**no**" };
        vec![
            name.to_owned(),
            format!("{is:.2}"),
            format!("≤ {most}"),
            met.to_owned(),
        ]
    };
    goals.map(row).into()
}

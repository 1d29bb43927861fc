//! The goals, and whether this run meets them.

use crate::{
    Baselines, figures,
    measure::Figures,
    ours,
    row::{Row, Table},
};

pub(crate) fn rows(baselines: &Baselines, all: &[(&Row, &Figures)]) -> Vec<Vec<String>> {
    let fixed = figures(all, ours::FIXED);
    let one = |name| figures(all, name).reused()[0].median;
    let two = fixed.reused()[1].median / one(ours::FIXED);
    let over_bare = |nanos: f64| nanos - baselines.bare[0];
    let fixed_peer = |name: &str| name.starts_with("tower `") || name.contains("+ `Semaphore`");
    let adaptive_peer = |name: &str| {
        let crates = ["tower-acc", "tower-resilience", "little-loadshedder"];
        crates.iter().any(|peer| name.starts_with(peer))
    };
    let responding_peer = |name: &str| fixed_peer(name) && name.ends_with("429");
    let adaptive_peer = fastest(all, Table::Admit, adaptive_peer)[0];
    let responding_peer = fastest(all, Table::Refuse, responding_peer)[0];
    let fixed_peer = fastest(all, Table::Admit, fixed_peer);
    let goals = [
        (
            "admit, fixed ÷ (bare + raw)",
            one(ours::FIXED) / baselines.bare_and_raw,
            1.25,
        ),
        (
            "admit, fixed, over bare in raw, 1 thread",
            baselines.over(fixed, 0),
            2.0,
        ),
        (
            "admit, fixed, over bare in raw, 2 threads",
            baselines.over(fixed, 1),
            3.0,
        ),
        ("admit, fixed, 2 threads ÷ 1", two, 1.5),
        ("admit, fixed, allocations", fixed.allocations as f64, 0.0),
        (
            "admit, fixed ÷ the fastest peer with a fixed limit",
            one(ours::FIXED) / fixed_peer[0],
            1.0,
        ),
        (
            "the same on 2 threads",
            fixed.reused()[1].median / fixed_peer[1],
            1.0,
        ),
        (
            "admit, adaptive − fixed, ns",
            one(ours::ADAPTIVE) - one(ours::FIXED),
            25.0,
        ),
        (
            "admit, every request measured − fixed, ns",
            one(ours::MEASURED) - one(ours::FIXED),
            25.0,
        ),
        (
            "admit, every request measured, over bare ÷ that of the fastest adaptive peer",
            over_bare(one(ours::MEASURED)) / over_bare(adaptive_peer),
            0.33,
        ),
        ("refuse, adaptive hint, ns", one(ours::REFUSE), 95.0),
        (
            "refuse, adaptive hint ÷ the fastest peer that makes a response",
            one(ours::REFUSE) / responding_peer,
            1.0,
        ),
    ];
    let row = |(name, is, most): (&str, f64, f64)| {
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

/// Returns the smallest median among these rows, on one thread and on two.
fn fastest(all: &[(&Row, &Figures)], table: Table, is: impl Fn(&str) -> bool) -> [f64; 2] {
    let rows = all
        .iter()
        .filter(|(row, _)| row.table == table && is(row.name));
    rows.fold([f64::INFINITY; 2], |fastest, (_, figures)| {
        let [one, two] = figures.reused();
        [fastest[0].min(one.median), fastest[1].min(two.median)]
    })
}

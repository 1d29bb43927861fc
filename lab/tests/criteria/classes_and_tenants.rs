//! How an overloaded server's capacity is divided: the short version of `cargo bench -p loadshed-lab --bench lab -- shares`.

use std::{ops::Range, time::Duration};

use loadshed::{Adaptive, Budget};
use loadshed_lab::{
    Lab, LayerOptions, PhaseReport, Server, Size, TenantLoad, TenantShares, Times, UPLOADS, flood,
    uploads,
};

type MakeBudget = fn() -> Budget;

const SEEDS: Range<u64> = 1..6;

/// Returns a budget for 64 workers. At a ratio of 0.85 it admits 17 calls more than there are workers.
fn fixed() -> Budget {
    Budget::fixed(96)
}

fn medium() -> Server {
    Size::Medium.pool(Times::Exponential)
}

/// The criterion is Netflix's: 99.4 % of the critical requests are served while nearly all others are shed (Enhancing Netflix
/// Reliability with Service-Level Prioritized Load Shedding, 2024).
#[test]
fn p10_a_flood_of_the_lowest_class_does_not_harm_a_higher_class() {
    let scenario = flood(medium(), 60.0);
    // Four times the workers.
    let with_ceiling = || Budget::new(Adaptive::default().max(256));
    // The least share served: in the first 10 s as the mean of the seeds, and then and in all on each seed.
    for (budget, least_first, least_then, least_in_all) in [
        (fixed as MakeBudget, 0.994, 0.994, 0.994),
        (with_ceiling, 0.98, 0.994, 0.993),
        (Budget::adaptive, 0.985, 0.99, 0.99),
    ] {
        let (mut served_first, mut served) = (0.0, 0.0);
        for seed in SEEDS {
            let report = Lab::seed(seed).run(&scenario, budget);
            let [alone, first, then] = &report.phases[..] else {
                panic!("three phases")
            };
            let calls = |of: fn(&PhaseReport) -> usize| (of(first) + of(then)) as f64;
            let lost = calls(|phase| phase.critical_lost) / calls(|phase| phase.critical.0);
            assert!(1.0 - lost >= least_in_all, "{lost} on seed {seed}");
            let later = then.critical_served();
            assert!(later >= least_then, "{later} on seed {seed}");
            served_first += first.critical_served() / SEEDS.count() as f64;
            served += (1.0 - lost) / SEEDS.count() as f64;
            let [p99_alone, p99] = [alone, then].map(|phase| phase.critical_latency(0.99));
            assert!(p99 <= 2 * p99_alone, "{p99:?}, and {p99_alone:?} alone");
            assert!(then.goodput() >= 0.95 * medium().capacity());
        }
        assert!(served_first >= least_first, "{served_first}");
        assert!(served >= 0.994, "{served}");
    }
}

fn tenant_load(by: impl FnOnce(&mut LayerOptions)) -> TenantLoad {
    let mut tenants = TenantLoad::new(medium());
    tenants.layer_options = LayerOptions::default();
    by(&mut tenants.layer_options);
    tenants
}

#[test]
fn one_tenant_that_sends_half_of_all_takes_nothing_from_the_others() {
    for budget in [fixed as MakeBudget, Budget::adaptive] {
        let run = |load, share| -> TenantShares {
            let tenants = TenantLoad {
                load,
                ..tenant_load(|by| by.fair_by = share)
            };
            tenants.run(1, budget)
        };
        for (load, others) in [(1.2, 0.97), (1.9, 0.9), (3.0, 0.6)] {
            let (without, with) = (run(load, false), run(load, true));
            assert!(with.jain >= 0.99, "{with:?}");
            assert!(
                with.others >= others && with.others > without.others + 0.1,
                "{with:?}"
            );
            assert!(with.first <= with.first_fair + 0.07, "{with:?}");
            assert!(
                with.goodput >= without.goodput - 0.02,
                "{with:?}, {without:?}"
            );
        }
    }
}

#[test]
fn with_a_key_more_tasks_of_several_calls_complete_at_the_same_goodput() {
    for budget in [fixed as MakeBudget, Budget::adaptive] {
        let run = |key| {
            let mut tenants = tenant_load(|by| by.key = key);
            (
                tenants.client_mix.tenants,
                tenants.client_mix.first,
                tenants.load,
            ) = (200, 0.005, 1.5);
            tenants.length = Duration::from_secs(30);
            SEEDS.map(|seed| tenants.run(seed, budget)).collect()
        };
        let [by_chance, by_key]: [Vec<_>; 2] = [false, true].map(run);
        let mean = |of: fn(&TenantShares) -> f64, all: &[TenantShares]| {
            all.iter().map(of).sum::<f64>() / all.len() as f64
        };
        // Two of three calls are served: of the tasks, 0.2 by chance, and two of three at best.
        let tasks = |all: &[TenantShares]| mean(|shares| shares.tasks, all);
        assert!((0.15..0.25).contains(&tasks(&by_chance)), "{by_chance:?}");
        assert!(tasks(&by_key) > 0.38, "{by_key:?}");
        let goodput = |all: &[TenantShares]| mean(|shares| shares.goodput, all);
        assert!(
            goodput(&by_key) >= goodput(&by_chance) - 0.02,
            "{by_key:?}, {by_chance:?}"
        );
    }
}

#[test]
fn uploads_stay_within_memory_by_cost_but_not_by_count() {
    let peak = |large, cost, budget: &dyn Fn() -> Budget| {
        let mut layer_options = LayerOptions::default();
        layer_options.cost = cost;
        Lab::seed(1)
            .layer_options(layer_options)
            .run(&uploads(large), budget)
            .phases[0]
            .peak_units
    };
    for (large, least_by_count) in [(0.05, 600), (0.3, 1_800)] {
        assert_eq!(peak(large, true, &|| Budget::fixed(400)), 340);
        // A learned budget does not know the memory; its maximum keeps it within.
        let learned = || Budget::new(Adaptive::default().max(400));
        let peak_learned = peak(large, true, &learned);
        assert!((200..=340).contains(&peak_learned), "{peak_learned}");
        assert!(peak(large, false, &|| Budget::fixed(UPLOADS)) > least_by_count);
    }
}

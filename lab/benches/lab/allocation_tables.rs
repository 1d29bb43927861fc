//! Tables of how an overloaded server's capacity is divided: by class, tenant, key and cost.

use std::{ops::Range, time::Duration};

use loadshed::{Adaptive, Budget};
use loadshed_lab::{
    Lab, LayerOptions, Server, Size, TenantLoad, TenantShares, Times, UPLOADS, flood, uploads,
};

type MakeBudget = fn(usize) -> Budget;

/// The budgets by name, given the number of workers. At a ratio of 0.85 the first admits as many calls as there are workers, and
/// the second queues 13 to 44 more.
const BUDGETS: [(&str, MakeBudget); 4] = [
    ("fixed, no queue", |workers| {
        Budget::fixed((workers as f64 / 0.85).round() as usize)
    }),
    ("fixed, with a queue", |workers| {
        Budget::fixed(workers * 5 / 4 + 16)
    }),
    ("learned", |_| Budget::adaptive()),
    ("learned, at most 4 × the workers", |workers| {
        Budget::new(Adaptive::default().max(4 * workers))
    }),
];

/// Prints tables with the worst value of the seeds for each metric. The shares served by class have the mean before the worst
/// value.
pub(crate) fn print(sizes: &[Size], seeds: Range<u64>) {
    println!("SHEDDABLE calls at 12 × the capacity, and CRITICAL calls at 0.5 ×\n");
    println!(
        "| size | budget | served, first 10 s | then | p99 alone, ms | first 10 s | then | goodput, then |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|");
    each(sizes, |on| by_class(on, seeds.clone()));

    println!("\n100 tenants, of which the first sends half of the calls\n");
    println!(
        "| size | budget | load | by | Jain's index of the others | goodput of the first | its fair share | others served | worst of the others | goodput |"
    );
    println!("|---|---|--:|---|--:|--:|--:|--:|--:|--:|");
    each(sizes, |on| {
        for load in [1.2, 1.9, 3.0] {
            for share in [false, true] {
                by_tenant(on, load, share, seeds.clone());
            }
        }
    });

    println!("\n1,000 tenants with equal shares of the calls, at 1.5 × the capacity\n");
    println!(
        "| size | budget | by | served nearly always or never | tasks of four calls that complete | goodput |"
    );
    println!("|---|---|---|--:|--:|--:|");
    each(sizes, |on| by_key(on, seeds.clone()));

    println!(
        "\nUploads of 2 kB and 40 MB, about 400 at once, at a ratio of 0.85: a budget of 133 uploads (count) or of 400 MB (cost)\n"
    );
    println!("| large | by | peak, MB | small served | large served |");
    println!("|--:|---|--:|--:|--:|");
    for large in [0.05, 0.3] {
        by_cost(large, seeds.clone());
    }
}

/// A row of a table: a server and its budget.
struct On {
    size: Size,
    server: Server,
    name: &'static str,
    budget: MakeBudget,
}

impl On {
    fn budget(&self) -> Budget {
        (self.budget)(self.server.workers)
    }
}

fn each(sizes: &[Size], row: impl Fn(&On)) {
    for &size in sizes {
        for (name, budget) in BUDGETS {
            let server = size.pool(Times::Exponential);
            row(&On {
                size,
                server,
                name,
                budget,
            });
        }
    }
}

fn seconds(size: Size) -> Duration {
    // Long enough for some 30,000 to 200,000 calls at the capacity.
    Duration::from_secs(match size {
        Size::Tiny | Size::Slow => 600,
        Size::Medium => 120,
        _ => 20,
    })
}

fn by_class(on: &On, seeds: Range<u64>) {
    let On {
        size, server, name, ..
    } = *on;
    let scenario = flood(server, seconds(size).as_secs_f64() / 2.0);
    let runs = seeds.map(|seed| Lab::seed(seed).run(&scenario, || on.budget()));
    let runs: Vec<_> = runs.collect();
    let served = |nth: usize| {
        let served = runs.iter().map(|run| run.phases[nth].critical_served());
        let mean = 100.0 * served.clone().sum::<f64>() / runs.len() as f64;
        format!("{mean:.2} ({:.2}) %", 100.0 * served.fold(1.0, f64::min))
    };
    let p99 = |nth: usize| {
        let p99 = runs
            .iter()
            .map(|run| run.phases[nth].critical_latency(0.99));
        p99.max().unwrap_or_default().as_millis()
    };
    let goodput = runs
        .iter()
        .map(|run| run.phases[2].goodput() / server.capacity());
    println!(
        "| {size} | {name} | {} | {} | {} | {} | {} | {:.3} |",
        served(1),
        served(2),
        p99(0),
        p99(1),
        p99(2),
        goodput.fold(9.0, f64::min),
    );
}

fn by_tenant(on: &On, load: f64, share: bool, seeds: Range<u64>) {
    let On {
        size, server, name, ..
    } = *on;
    let mut tenants = TenantLoad::new(server);
    (tenants.load, tenants.length, tenants.layer_options.fair_by) = (load, seconds(size), share);
    let shares: Vec<_> = seeds
        .map(|seed| tenants.run(seed, || on.budget()))
        .collect();
    let least = |of: fn(&TenantShares) -> f64| shares.iter().map(of).fold(9.0, f64::min);
    let by = if share { "fair_by" } else { "none" };
    println!(
        "| {size} | {name} | {load} | {by} | {:.4} | {:.3} | {:.3} | {:.1} % | {:.1} % | {:.3} |",
        least(|shares| shares.jain),
        shares.iter().map(|shares| shares.first).fold(0.0, f64::max),
        shares[0].first_fair,
        100.0 * least(|shares| shares.others),
        100.0 * least(|shares| shares.worst),
        least(|shares| shares.goodput),
    );
}

fn by_key(on: &On, seeds: Range<u64>) {
    let On {
        size, server, name, ..
    } = *on;
    for key in [false, true] {
        let mut tenants = TenantLoad::new(server);
        (tenants.client_mix.tenants, tenants.client_mix.first) = (1_000, 0.001);
        (tenants.load, tenants.length) = (1.5, seconds(size));
        tenants.layer_options = LayerOptions::default();
        tenants.layer_options.key = key;
        let shares = seeds.clone().map(|seed| tenants.run(seed, || on.budget()));
        let shares: Vec<_> = shares.collect();
        let least = |of: fn(&TenantShares) -> f64| shares.iter().map(of).fold(9.0, f64::min);
        let by = if key { "key" } else { "none" };
        println!(
            "| {size} | {name} | {by} | {:.0} % | {:.0} % | {:.3} |",
            100.0 * least(|shares| shares.clear),
            100.0 * least(|shares| shares.tasks),
            least(|shares| shares.goodput)
        );
    }
}

fn by_cost(large: f64, seeds: Range<u64>) {
    for (name, cost, limit) in [("count", false, UPLOADS), ("cost", true, 400)] {
        let mut layer_options = LayerOptions::default();
        layer_options.cost = cost;
        let run = |seed| {
            let report = Lab::seed(seed)
                .layer_options(layer_options)
                .run(&uploads(large), || Budget::fixed(limit));
            report
                .phases
                .into_iter()
                .next()
                .expect("there is one phase")
        };
        let runs: Vec<_> = seeds.clone().map(run).collect();
        let peak = runs
            .iter()
            .map(|run| run.peak_units)
            .max()
            .unwrap_or_default();
        let sum =
            |of: fn(&loadshed_lab::PhaseReport) -> usize| runs.iter().map(of).sum::<usize>() as f64;
        let small = sum(|run| run.good - run.large.1) / sum(|run| run.offered - run.large.0);
        let large_served = sum(|run| run.large.1) / sum(|run| run.large.0);
        println!(
            "| {:.0} % | {name} | {peak} | {:.1} % | {:.1} % |",
            100.0 * large,
            100.0 * small,
            100.0 * large_served
        );
    }
}

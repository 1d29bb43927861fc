//! The rows of this crate: the basic costs, and what each feature adds.

use std::{
    hint::black_box,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::Request;
use loadshed::{Budget, Criticality, LoadShed, RetryAfter, Threshold};
use tower::Layer;

use crate::{
    loaded_429::Loaded429,
    measure_all::MeasureAll,
    request::Bare,
    row::{Row, admit, alone, by_path, refuse, refuse_grpc},
    waits,
    yardsticks::{Always429, CacheLine, Raw, Sketch},
};

pub(crate) const BARE: &str = "bare service";
pub(crate) const RAW: &str = "raw atomics alone";
pub(crate) const BARE_AND_RAW: &str = "bare + raw atomics";
pub(crate) const FIXED: &str = "**loadshed, fixed**";
pub(crate) const ADAPTIVE: &str = "**loadshed, adaptive**";
pub(crate) const MEASURED: &str = "loadshed, learned, every request measured";
pub(crate) const REFUSE: &str = "**loadshed, adaptive hint**";
pub(crate) const REFUSE_GRPC: &str = "loadshed, gRPC, adaptive hint";
pub(crate) const LOADED_429: &str = "429 with all that ours carries";

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = yardsticks();
    rows.extend(budgets());
    rows.extend(features());
    rows.extend(waits::rows());
    #[cfg(feature = "metrics")]
    rows.push(published());
    #[cfg(feature = "tracing")]
    rows.push(while_shedding());
    rows.extend(refusals());
    rows
}

// Peers read std's clock.
#[expect(clippy::disallowed_methods)]
fn yardsticks() -> Vec<Row> {
    let count: &CacheLine = Box::leak(Box::default());
    let inner = Bare;
    vec![
        admit(BARE, Bare::<0>),
        alone(RAW, move || {
            move || {
                black_box(count.fetch_add(1, Ordering::Relaxed));
                black_box(count.fetch_sub(1, Ordering::Relaxed));
                true
            }
        }),
        alone("clock read alone", || {
            || {
                black_box(tokio::time::Instant::now());
                true
            }
        }),
        alone("std's clock read alone", || {
            || {
                black_box(std::time::Instant::now());
                true
            }
        }),
        admit(BARE_AND_RAW, Raw { inner, count }),
        admit(
            "sketch: `Arc`, compare-and-swap, guard",
            Sketch {
                inner: Bare,
                count: Arc::default(),
            },
        ),
    ]
}

fn fixed() -> LoadShed {
    LoadShed::ratio(0.85).budget(Budget::fixed(200))
}

fn budgets() -> Vec<Row> {
    let pool = Budget::fixed(200);
    let inner = LoadShed::ratio(0.85).budget(&pool).layer(Bare::<5>);
    let measured = LoadShed::ratio(0.85).budget(Budget::new(MeasureAll(200)));
    vec![
        admit(FIXED, fixed().layer(Bare::<3>)),
        admit(ADAPTIVE, LoadShed::ratio(0.85).layer(Bare::<4>)),
        admit(MEASURED, measured.layer(Bare::<6>)),
        admit(
            "loadshed, two layers of one budget",
            LoadShed::observe().budget(&pool).layer(inner),
        ),
    ]
}

/// One row per feature, each with its own variant of `Bare`.
fn features() -> Vec<Row> {
    // The routes differ in the middle, after a parameter.
    let route = |nth| format!("/v1/accounts/{{account}}/orders/table-{nth}/{{*rest}}");
    let table = fixed().only((0..100).map(route));
    // Each with a budget of its own: layers of one budget may be nested, and find one another's permits.
    let classify = || {
        fixed().classify(|head| match head.headers().get("x-batch") {
            Some(_) => Criticality::Sheddable,
            None => Criticality::Critical,
        })
    };
    let threshold = fixed().threshold(|_| Threshold::ratio(0.7));
    let path = |head: &Request<()>| head.uri().path().len();
    vec![
        by_path("bare service, by a path", Bare::<10>),
        by_path("loadshed, by a path", fixed().layer(Bare::<11>)),
        by_path("loadshed, one of 100 routes", table.layer(Bare::<12>)),
        admit("loadshed, none of 100 routes", table.layer(Bare::<13>)),
        admit("loadshed, classify", classify().layer(Bare::<14>)),
        admit(
            "loadshed, classify, class exposed",
            classify().expose_class(true).layer(Bare::<15>),
        ),
        admit("loadshed, threshold", threshold.layer(Bare::<16>)),
        admit("loadshed, dry run", fixed().dry_run(true).layer(Bare::<17>)),
        admit("loadshed, cost", fixed().cost(path).layer(Bare::<22>)),
        admit("loadshed, key", fixed().key(path).layer(Bare::<23>)),
        admit("loadshed, fair_by", fixed().fair_by(path).layer(Bare::<24>)),
        admit(
            "loadshed, wait, none queued",
            fixed()
                .wait(64, Duration::from_millis(50))
                .layer(Bare::<25>),
        ),
        admit("loadshed, named", fixed().named("fixed").layer(Bare::<26>)),
    ]
}

/// Publishes after every 1,000 requests, to the Prometheus exporter: at 100,000 requests a second, 100 scrapes a second.
#[cfg(feature = "metrics")]
fn published() -> Row {
    let prometheus = metrics_exporter_prometheus::PrometheusBuilder::new();
    // Leaked: the recorder lives as long as the process.
    Box::leak(Box::new(prometheus.install_recorder().unwrap()));
    let service = fixed().layer(Bare::<20>);
    alone("loadshed, fixed, published every 1,000", move || {
        let mut service = service.clone();
        let mut served = 0_usize;
        move || {
            served += 1;
            if served.is_multiple_of(1_000) {
                loadshed::telemetry::publish();
            }
            crate::request::serve(&mut service)
        }
    })
}

/// The budget is shedding during the whole run: now and then, a request with a lower threshold is refused.
#[cfg(feature = "tracing")]
fn while_shedding() -> Row {
    let budget = Budget::fixed(200);
    let service = LoadShed::ratio(0.85).budget(&budget).layer(Bare::<21>);
    hold(&budget);
    alone("loadshed, fixed, while shedding", move || {
        assert!(budget.try_acquire(Threshold::ratio(0.005)).is_err());
        let mut service = service.clone();
        move || crate::request::serve(&mut service)
    })
}

fn refusals() -> Vec<Row> {
    let full = || {
        let budget = Budget::fixed(1);
        hold(&budget);
        LoadShed::ratio(0.85).budget(budget)
    };
    let fixed = RetryAfter::fixed(Duration::from_secs(5));
    vec![
        refuse("429 without a header", Always429 { retry_after: false }),
        refuse(
            "429 with a computed header",
            Always429 { retry_after: true },
        ),
        refuse(LOADED_429, Loaded429),
        refuse(
            "loadshed, fixed hint",
            full().retry_after(fixed).layer(Bare::<30>),
        ),
        refuse(REFUSE, full().layer(Bare::<31>)),
        refuse_grpc(
            "loadshed, gRPC, fixed hint",
            full().retry_after(fixed).layer(Bare::<32>),
        ),
        refuse_grpc(REFUSE_GRPC, full().layer(Bare::<33>)),
    ]
}

/// Takes the only permit, for as long as the process runs.
fn hold(budget: &Budget) {
    let held = budget.try_acquire(Threshold::NEVER_SHED).unwrap();
    Box::leak(Box::new(held));
}

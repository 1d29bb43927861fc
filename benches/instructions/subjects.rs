//! The rows whose instructions are counted. Each row has its own variant of `Bare`.

use std::{error::Error, process::ExitCode, time::Duration};

use http::Request;
use loadshed::{Budget, Criticality, LoadShed, RetryAfter, Threshold};
use tokio::runtime::Builder;
use tower::{Layer, Service, limit::ConcurrencyLimit, load_shed::LoadShed as TowerLoadShed};

use crate::{
    callgrind::counted,
    grpc::serve_grpc,
    loaded_429::Loaded429,
    measure_all::MeasureAll,
    request::{Bare, Body, Served, serve},
};

type Subject = (&'static str, fn());

const SUBJECTS: &[Subject] = &[
    ("bare service", || run_all(true, Bare::<0>)),
    ("admit, fixed", || run_all(true, fixed().layer(Bare::<1>))),
    ("admit, fixed, cloned", || {
        run_cloned(fixed().layer(Bare::<2>));
    }),
    ("admit, learned, every request measured", || {
        let budget = Budget::new(MeasureAll(200));
        run_all(true, LoadShed::ratio(0.85).budget(budget).layer(Bare::<3>));
    }),
    ("admit, two layers of one budget", || {
        let pool = Budget::fixed(200);
        let inner = LoadShed::ratio(0.85).budget(&pool).layer(Bare::<4>);
        run_all(true, LoadShed::observe().budget(&pool).layer(inner));
    }),
    ("admit, none of 100 routes", || {
        let route = |nth| format!("/v1/orders/table-{nth}/{{*rest}}");
        let table = fixed().only((0..100).map(route));
        run_all(true, table.layer(Bare::<5>));
    }),
    ("admit, classify", || {
        let classify = fixed().classify(|_| Criticality::Critical);
        run_all(true, classify.layer(Bare::<6>));
    }),
    ("admit, cost", || {
        let cost = fixed().cost(|head| head.uri().path().len());
        run_all(true, cost.layer(Bare::<9>));
    }),
    ("admit, fair_by", || {
        let shares = fixed().fair_by(|head| head.uri().path().len());
        run_all(true, shares.layer(Bare::<10>));
    }),
    ("admit, key", || {
        let key = fixed().key(|head| head.uri().path().len());
        run_all(true, key.layer(Bare::<13>));
    }),
    ("admit, threshold", || {
        let threshold = fixed().threshold(|_| Threshold::ratio(0.7));
        run_all(true, threshold.layer(Bare::<14>));
    }),
    ("admit, wait, none queued", || {
        let queue = fixed().wait(64, Duration::from_millis(50));
        run_all(true, queue.layer(Bare::<15>));
    }),
    ("refuse", || {
        let hint = RetryAfter::adaptive().seed(1);
        run_all(false, full(Budget::fixed(1), hint).layer(Bare::<7>));
    }),
    ("refuse, fixed hint", || {
        let hint = RetryAfter::fixed(Duration::from_secs(5));
        run_all(false, full(Budget::fixed(1), hint).layer(Bare::<11>));
    }),
    ("refuse, learned", || {
        let (budget, hint) = (Budget::new(MeasureAll(1)), RetryAfter::adaptive().seed(1));
        run_all(false, full(budget, hint).layer(Bare::<12>));
    }),
    ("refuse, 429 with all that ours carries, undecided", || {
        run_all(false, Loaded429);
    }),
    ("bare service, gRPC", || run_grpc(true, Bare::<16>)),
    ("refuse, gRPC", || {
        let hint = RetryAfter::adaptive().seed(1);
        run_grpc(false, full(Budget::fixed(1), hint).layer(Bare::<17>));
    }),
    ("refuse, gRPC, fixed hint", || {
        let hint = RetryAfter::fixed(Duration::from_secs(5));
        run_grpc(false, full(Budget::fixed(1), hint).layer(Bare::<18>));
    }),
    ("tower `ConcurrencyLimit` + `LoadShed`", || {
        let limit = ConcurrencyLimit::new(Bare::<8>, 200);
        run_all(true, TowerLoadShed::new(limit));
    }),
];

pub(crate) fn names() -> Vec<&'static str> {
    SUBJECTS.iter().map(|(name, _)| *name).collect()
}

/// # Errors
///
/// If no row has this name.
pub(crate) fn run(name: &str) -> Result<ExitCode, Box<dyn Error>> {
    let subject = SUBJECTS.iter().find(|subject| subject.0 == name);
    let (_, run) = subject.ok_or("no such row")?;
    // Every read of a paused clock takes the same number of instructions.
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let _clock = runtime.enter();
    run();
    Ok(ExitCode::SUCCESS)
}

fn fixed() -> LoadShed {
    LoadShed::ratio(0.85).budget(Budget::fixed(200))
}

/// Returns a layer whose budget of one permit is full for as long as this program runs.
fn full(budget: Budget, hint: RetryAfter) -> LoadShed {
    let held = budget.try_acquire(Threshold::NEVER_SHED).unwrap();
    Box::leak(Box::new(held));
    LoadShed::ratio(0.85).budget(budget).retry_after(hint)
}

fn run_all<S>(served: bool, mut service: S)
where
    S: Service<Request<Body>, Response: Served>,
{
    let mut request = || assert_eq!(serve(&mut service), served);
    (0..100).for_each(|_| request());
    counted(&mut request);
}

fn run_grpc<S>(served: bool, mut service: S)
where
    S: Service<Request<Body>, Response: Served>,
{
    let mut request = || assert_eq!(serve_grpc(&mut service), served);
    (0..100).for_each(|_| request());
    counted(&mut request);
}

fn run_cloned<S>(service: S)
where
    S: Service<Request<Body>, Response: Served> + Clone,
{
    let mut request = || assert!(serve(&mut service.clone()));
    (0..100).for_each(|_| request());
    counted(&mut request);
}

//! The sections: what grows in each, and its rows.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use http::{Request, Uri};
use loadshed::{Budget, LoadShed};
use tower::{Layer, Service, limit::ConcurrencyLimit, load_shed::LoadShed as TowerLoadShed};

use crate::{
    in_flight::InFlight,
    later::Later,
    measure_all::MeasureAll,
    request::{Bare, Body, Served, serve, serve_one},
    series::{Plan, Section, Series},
};

/// More than the requests that are ever in flight.
pub(crate) const LIMIT: usize = 1_000_000;

pub(crate) fn all(plan: &Plan) -> Vec<Section> {
    vec![
        in_flight(plan),
        routes(plan),
        budgets(plan),
        tenants(plan),
        threads(),
    ]
}

pub(crate) fn fixed() -> LoadShed {
    LoadShed::ratio(0.85).budget(Budget::fixed(LIMIT))
}

/// A learned budget that measures every request.
pub(crate) fn learned() -> LoadShed {
    LoadShed::ratio(0.85).budget(Budget::new(MeasureAll(LIMIT)))
}

fn in_flight(plan: &Plan) -> Section {
    fn in_flight<S>(name: &'static str, service: impl Fn() -> S + 'static) -> Series
    where
        S: Service<Request<Body>, Future: Send> + Send + 'static,
    {
        Series::of(name, move |length| {
            let mut requests = InFlight::new(service(), length);
            move || requests.next()
        })
    }
    Section {
        name: "in-flight",
        title: "requests in flight",
        sizes: plan.sizes(100_000),
        series: vec![
            in_flight("bare service", || Later::<0>),
            in_flight("loadshed, fixed", || fixed().layer(Later::<1>)),
            in_flight("loadshed, learned, every request measured", || {
                learned().layer(Later::<2>)
            }),
            in_flight("tower `ConcurrencyLimit` + `LoadShed`", || {
                TowerLoadShed::new(ConcurrencyLimit::new(Later::<3>, LIMIT))
            }),
        ],
    }
}

fn routes(plan: &Plan) -> Section {
    fn by_path<S>(
        name: &'static str,
        path: &'static str,
        service: impl Fn(usize) -> S + 'static,
    ) -> Series
    where
        S: Service<Request<Body>, Response: Served> + Send + 'static,
    {
        Series::of(name, move |routes| {
            let (mut service, uri) = (service(routes), Uri::from_static(path));
            move || {
                let mut request = Request::new(Body::new());
                *request.uri_mut() = uri.clone();
                serve_one(&mut service, request)
            }
        })
    }
    let table = move |routes| fixed().only((0..routes).map(route));
    let (one, none) = (
        "/v1/accounts/4711/orders/table-0/items",
        "/v1/accounts/4711/invoices/table-0/items",
    );
    Section {
        name: "routes",
        title: "routes in the table",
        sizes: plan.sizes(10_000),
        series: vec![
            by_path("bare service", one, |_| Bare::<10>),
            by_path("loadshed without a table", one, |_| {
                fixed().layer(Bare::<11>)
            }),
            by_path("loadshed, in the table", one, move |routes| {
                table(routes).layer(Bare::<12>)
            }),
            by_path("loadshed, not in it", none, move |routes| {
                table(routes).layer(Bare::<13>)
            }),
            Series::of("matchit's lookup alone", move |routes| {
                let mut router = matchit::Router::new();
                let mut insert = |nth| router.insert(route(nth), nth).expect("no conflict");
                (0..routes).for_each(&mut insert);
                move || black_box(router.at(black_box(one)).is_ok())
            }),
        ],
    }
}

/// Routes differ in the middle, after a parameter. The first route is in every table.
pub(crate) fn route(nth: usize) -> String {
    format!("/v1/accounts/{{account}}/orders/table-{nth}/{{*rest}}")
}

/// Requests go to the budgets in turn, so that with many budgets each is cold in the cache.
fn budgets(plan: &Plan) -> Section {
    fn turns<S>(name: &'static str, service: impl Fn() -> S + 'static) -> Series
    where
        S: Service<Request<Body>, Response: Served> + Send + 'static,
    {
        Series::of(name, move |budgets| {
            let mut services: Vec<_> = (0..budgets).map(|_| service()).collect();
            let mut turn = 0;
            move || {
                turn = (turn + 1) % services.len();
                serve(&mut services[turn])
            }
        })
    }
    Section {
        name: "budgets",
        title: "budgets",
        sizes: plan.sizes(1_000),
        series: vec![
            turns("bare service", || Bare::<20>),
            turns("loadshed, fixed", || fixed().layer(Bare::<21>)),
            turns("loadshed, adaptive", || {
                LoadShed::ratio(0.85).layer(Bare::<22>)
            }),
            turns("tower `ConcurrencyLimit` + `LoadShed`", || {
                TowerLoadShed::new(ConcurrencyLimit::new(Bare::<23>, LIMIT))
            }),
        ],
    }
}

/// Requests are of the tenants in turn.
fn tenants(plan: &Plan) -> Section {
    Section {
        name: "tenants",
        title: "tenants, fair shares",
        sizes: plan.sizes(1_000_000),
        series: vec![Series::of("loadshed, fair_by", |tenants| {
            let turn = AtomicUsize::new(0);
            let tenant = move |_: &Request<()>| turn.fetch_add(1, Ordering::Relaxed) % tenants;
            let mut service = fixed().fair_by(tenant).layer(Bare::<40>);
            move || serve(&mut service)
        })],
    }
}

fn threads() -> Section {
    fn shared<S>(name: &'static str, service: S) -> Series
    where
        S: Service<Request<Body>, Response: Served> + Clone + Send + 'static,
    {
        Series::on_threads(name, move || {
            let mut service = service.clone();
            move || serve(&mut service)
        })
    }
    let count = Arc::new(AtomicUsize::new(0));
    let available = thread::available_parallelism().map_or(1, usize::from);
    Section {
        name: "threads",
        title: "threads, one budget",
        sizes: (1..=available).collect(),
        series: vec![
            shared("bare service", Bare::<30>),
            Series::on_threads("raw atomics alone", move || {
                let count = Arc::clone(&count);
                move || {
                    black_box(count.fetch_add(1, Ordering::Relaxed));
                    black_box(count.fetch_sub(1, Ordering::Relaxed));
                    true
                }
            }),
            shared("loadshed, fixed", fixed().layer(Bare::<31>)),
            shared(
                "loadshed, learned, every request measured",
                learned().layer(Bare::<32>),
            ),
            Series::on_threads("loadshed, fixed, a budget for each", || {
                let mut service = fixed().layer(Bare::<33>);
                move || serve(&mut service)
            }),
            shared(
                "tower `ConcurrencyLimit` + `LoadShed`",
                TowerLoadShed::new(ConcurrencyLimit::new(Bare::<34>, LIMIT)),
            ),
        ],
    }
}

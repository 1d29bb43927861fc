//! The memory of a request in flight, of a budget and of a table of routes.

use std::{sync::Arc, time::Duration};

use http::Request;
use little_loadshedder::LoadShed as Little;
use loadshed::{Budget, LoadShed, Measure};
use tower::{Layer, Service, limit::ConcurrencyLimit, load_shed::LoadShed as TowerLoadShed};
use tower_acc as acc;
use tower_resilience_adaptive::{self as resilience, AdaptiveService};

use crate::{
    in_flight::InFlight,
    later::Later,
    report::Report,
    request::{Bare, Body},
    sections::{LIMIT, fixed, learned, route},
    series::Plan,
};

/// The row of the table of routes. With the feature `metrics`, a route has counters from its first request on.
const ROUTES: &str = "routes, none used";

pub(crate) fn report(plan: &Plan, report: &mut Report, csv: &mut String) {
    let most = plan.most.min(100_000);
    let bare = RequestMemory::of("bare service", Later::<40>);
    let vegas = acc::Vegas::default();
    let resilient = Arc::new(resilience::Aimd::builder().build().expect("valid"));
    let rows = [
        RequestMemory::of("loadshed, fixed", fixed().layer(Later::<41>)),
        RequestMemory::of("loadshed, learned, measured", learned().layer(Later::<42>)),
        RequestMemory::of(
            "loadshed, learned, measured to the end of the body",
            learned().measure(Measure::Body).layer(Later::<43>),
        ),
        RequestMemory::of(
            "tower `ConcurrencyLimit` + `LoadShed`",
            TowerLoadShed::new(ConcurrencyLimit::new(Later::<44>, LIMIT)),
        ),
        RequestMemory::of(
            "tower-acc Vegas",
            TowerLoadShed::new(acc::ConcurrencyLimit::new(Later::<45>, vegas)),
        ),
        RequestMemory::of(
            "tower-resilience AIMD",
            TowerLoadShed::new(AdaptiveService::new(Later::<46>, resilient)),
        ),
        RequestMemory::of(
            "little-loadshedder",
            Little::new(Later::<47>, 0.25, Duration::from_millis(50)),
        ),
    ];
    report.paragraph(
        "Bytes. *Kept in flight*: the future in a box, and all other allocations for the request until its response.",
    );
    let mut table = vec![bare.row(&bare)];
    table.extend(rows.iter().map(|row| row.row(&bare)));
    report.table(&["bytes", "future", "kept in flight", "over bare"], &table);

    let rows_in_flight = [
        ("bare service", of_many(Later::<50>, most)),
        ("loadshed, fixed", of_many(fixed().layer(Later::<51>), most)),
        (
            "loadshed, learned, measured",
            of_many(learned().layer(Later::<52>), most),
        ),
    ];
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let row = |(name, bytes): &(&str, u64)| vec![(*name).to_owned(), mib(*bytes)];
    let head = format!("MiB with {most} in flight");
    report.table(&["", &head], &rows_in_flight.each_ref().map(row));

    // They take the memory that the dropped budgets of other rows and sections have left.
    let mut alive: Vec<_> = (0..5_000).map(|_| Budget::fixed(200)).collect();
    alive.extend((0..10).map(|_| shared()));
    alive.reserve(300);
    let mut of_budget =
        |make: fn() -> Budget| kept(|| alive.extend((0..100).map(|_| make()))) / 100;
    let budgets = [
        ("fixed", of_budget(|| Budget::fixed(200))),
        ("adaptive", of_budget(Budget::adaptive)),
        ("fixed, with fair shares", of_budget(shared)),
        ("kept of 2,000 dropped, each alive alone", of_dropped(1)),
        (
            "kept of 2,000 dropped, all alive at once",
            of_dropped(2_000),
        ),
    ];
    let tables = [100, plan.most.min(10_000)].map(|routes| (routes, of_table(routes)));
    let row = |(name, bytes): &(&str, u64)| vec![(*name).to_owned(), bytes.to_string()];
    let mut table: Vec<_> = budgets.iter().map(row).collect();
    let row =
        |(routes, bytes): &(usize, u64)| vec![format!("{routes} {ROUTES}"), bytes.to_string()];
    table.extend(tables.iter().map(row));
    report.table(&["bytes of a budget, or of a table of routes", ""], &table);

    // The bytes that a layer adds to the body of any inner service.
    let body = size_of::<loadshed::ResponseBody<Body>>() - size_of::<Body>();
    report.paragraph(format_args!(
        "A response body is {body} bytes larger than the inner one's."
    ));

    let mut line = |row: &str, size: usize, bytes: u64| {
        csv.push_str(&format!("memory,\"{row}\",{size},{bytes}\n"));
    };
    for kept in rows.iter().chain([&bare]) {
        line(kept.name, 1, kept.bytes);
    }
    rows_in_flight
        .iter()
        .for_each(|(name, bytes)| line(name, most, *bytes));
    budgets
        .iter()
        .for_each(|(name, bytes)| line(name, 0, *bytes));
    tables
        .iter()
        .for_each(|(routes, bytes)| line(ROUTES, *routes, *bytes));
}

struct RequestMemory {
    name: &'static str,
    future: usize,
    bytes: u64,
}

impl RequestMemory {
    fn of<S: Service<Request<Body>>>(name: &'static str, service: S) -> Self {
        let mut requests = InFlight::new(service, 0);
        // The first request may allocate memory that later requests reuse.
        requests.next();
        Self {
            name,
            future: size_of::<S::Future>(),
            bytes: kept(|| requests.push()),
        }
    }

    fn row(&self, bare: &Self) -> Vec<String> {
        vec![
            self.name.to_owned(),
            self.future.to_string(),
            self.bytes.to_string(),
            format!("{:+}", self.bytes as i64 - bare.bytes as i64),
        ]
    }
}

fn of_many<S: Service<Request<Body>>>(service: S, length: usize) -> u64 {
    let mut requests = None;
    kept(|| requests = Some(InFlight::new(service, length)))
}

/// A budget with fair shares: a layer with `fair_by` creates them, and they stay.
fn shared() -> Budget {
    let budget = Budget::fixed(200);
    let shares = LoadShed::ratio(0.85).budget(&budget).fair_by(|_| 1);
    drop(shares.layer(Bare::<60>));
    budget
}

/// Bytes that are kept of 2,000 budgets that were dropped, so many of which were alive at once.
fn of_dropped(alive: usize) -> u64 {
    let make = || Budget::fixed(200);
    kept(|| {
        for _ in 0..2_000 / alive {
            drop((0..alive).map(|_| make()).collect::<Vec<_>>());
        }
    })
}

/// Bytes that the routes add to a layer.
fn of_table(routes: usize) -> u64 {
    let with_table = of_one(|| fixed().only((0..routes).map(route)).layer(Bare::<61>));
    with_table - of_one(|| fixed().layer(Bare::<61>))
}

fn of_one<T>(make: impl Fn() -> T) -> u64 {
    // The first call may allocate memory that later calls reuse.
    drop(make());
    let mut kept_one = None;
    kept(|| kept_one = Some(make()))
}

/// Bytes that are allocated and not freed.
fn kept(work: impl FnOnce()) -> u64 {
    let bytes = allocation_counter::measure(work).bytes_current;
    bytes
        .try_into()
        .expect("the call frees no more than it allocates")
}

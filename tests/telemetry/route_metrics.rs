//! Metrics by route and class.

use std::{thread, time::Duration};

use futures_util::FutureExt;
use http::Method;
use loadshed::{Budget, Criticality, LoadShed};
use metrics_util::debugging::DebuggingRecorder;
use tower::{Layer, Service};

use crate::{
    Values, WHY,
    support::{alone, answer, get, holding, is_refused},
    values,
};

const SHEDDABLE: &str = "class=SHEDDABLE";

/// Returns the published values of routes that are not 0.
fn routes(budget: &str) -> Values {
    let mut values = values(&DebuggingRecorder::new(), budget);
    values.retain(|name, count| name.starts_with("loadshed_route_") && *count > 0.0);
    values
}

fn route(decision: &str, route: &str, rest: &[&str]) -> String {
    [
        &[
            &*format!("loadshed_route_{decision}_total"),
            &*format!("route={route}"),
        ],
        rest,
    ]
    .concat()
    .join(" ")
}

#[test]
fn each_decision_is_counted_by_pattern_and_class_and_never_by_path() {
    let _alone = alone();
    let budget = Budget::fixed(4).named("routes");
    let shed = LoadShed::ratio(0.5)
        .budget(&budget)
        .only(["POST /mail/{id}", "/export/{*path}"])
        .at("/export/{*path}", 0.25)
        .except(["/mail/{id}"])
        .exempt(["/healthz"])
        .classify(|head| match head.headers().contains_key("x-vip") {
            true => Criticality::CriticalPlus,
            false => Criticality::Sheddable,
        });
    let mut service = shed.layer(holding());
    let mut arrives = |method: Method, path: &str, vip: bool| {
        let mut request = get(path);
        *request.method_mut() = method;
        if vip {
            request.headers_mut().insert("x-vip", "1".parse().unwrap());
        }
        answer(&mut service, request)
    };
    let _held = [
        arrives(Method::GET, "/lists/7", false),
        arrives(Method::POST, "/mail/1", false),
    ];
    for nth in 0..5 {
        assert!(is_refused(&arrives(
            Method::POST,
            &format!("/mail/{nth}"),
            false
        )));
        drop(arrives(Method::POST, &format!("/mail/{nth}"), true));
        drop(arrives(Method::GET, &format!("/mail/{nth}"), false));
        assert!(is_refused(&arrives(
            Method::GET,
            &format!("/export/{nth}/a"),
            true
        )));
        drop(arrives(Method::GET, "/healthz", true));
    }
    let expected = [
        (route("admitted", "other", &[SHEDDABLE]), 1.0),
        (route("admitted", "POST /mail/{id}", &[SHEDDABLE]), 1.0),
        (
            route("admitted", "POST /mail/{id}", &["class=CRITICAL_PLUS"]),
            5.0,
        ),
        (route("admitted", "/mail/{id}", &[SHEDDABLE]), 5.0),
        (route("refused", "POST /mail/{id}", &[SHEDDABLE, WHY]), 5.0),
        (
            route("refused", "/export/{*path}", &["class=CRITICAL_PLUS", WHY]),
            5.0,
        ),
        (route("exempt", "/healthz", &[]), 5.0),
    ];
    assert_eq!(routes("routes"), Values::from(expected));
    // A route without refusals has its counter at 0.
    let all = values(&DebuggingRecorder::new(), "routes");
    assert_eq!(all[&route("refused", "/mail/{id}", &[SHEDDABLE, WHY])], 0.0);
}

#[test]
fn the_route_of_a_layer_without_a_table_is_its_name_and_without_a_name_it_has_none() {
    let _alone = alone();
    let budget = Budget::fixed(9).named("names");
    let plain = LoadShed::observe().budget(&budget);
    let named = plain.clone().named("/mail");
    let serve = |shed: &LoadShed| drop(answer(&mut shed.layer(holding()), get("/secret")));
    serve(&plain);
    assert_eq!(routes("names"), Values::new());

    // Created again, as for each connection, and dropped before the publication.
    for _ in 0..3 {
        serve(&plain.clone().named("/mail"));
    }
    let mail = route("admitted", "/mail", &[SHEDDABLE]);
    assert_eq!(routes("names"), Values::from([(mail.clone(), 3.0)]));

    // Settings changed after use: in place, as this is the only handle.
    serve(&named);
    let renamed = plain.clone().named("/lists");
    serve(&renamed);
    let other = renamed.only(["/secret"]);
    serve(&other);
    let expected = [
        (mail, 4.0),
        (route("admitted", "/lists", &[SHEDDABLE]), 1.0),
        (route("admitted", "/secret", &[SHEDDABLE]), 1.0),
    ];
    assert_eq!(routes("names"), Values::from(expected.clone()));
    drop((plain, other, budget));
    assert_eq!(routes("names"), Values::from(expected));
}

#[tokio::test(start_paused = true)]
async fn a_queued_request_dropped_at_its_admission_is_admitted_in_the_metrics_of_route_and_budget()
{
    let _alone = alone();
    let budget = Budget::fixed(1).named("dropped");
    let shed = LoadShed::ratio(1.0).budget(&budget).named("/slow");
    let shed = shed.wait(1, Duration::from_secs(1));
    let mut service = shed.layer(holding());
    let held = answer(&mut service, get("/"));
    let mut waiting = Box::pin(service.call(get("/")));
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(held);
    drop(waiting);
    assert_eq!((budget.in_flight(), budget.snapshot().admitted), (0, 2));
    let admitted = route("admitted", "/slow", &[SHEDDABLE]);
    assert_eq!(routes("dropped"), Values::from([(admitted, 2.0)]));
}

/// Two layers of one budget: the inner layer gets the requests that the outer layer would have admitted.
#[test]
fn p22_a_dry_run_writes_the_same_metrics_for_each_route() {
    let _alone = alone();
    let [real, dry] = [false, true].map(|dry_run| {
        let name = format!("same routes {dry_run}");
        let budget = Budget::fixed(8).named(name.clone());
        let layer = |ratio| LoadShed::ratio(ratio).budget(&budget).dry_run(dry_run);
        let inner = layer(0.5).named("inner").exempt(["/healthz"]);
        let outer = layer(0.75).only(["/{*path}"]).except(["/login"]);
        let mut service = outer.layer(inner.layer(holding()));
        let mut paths = ["/login", "/healthz", "/mail"].into_iter().cycle();
        let mut arrives = || answer(&mut service, get(paths.next().unwrap()));
        let _running: Vec<_> = (0..40).map(|_| arrives()).collect();
        routes(&name)
    });
    let as_real = dry.into_iter();
    let as_real = as_real.map(|(name, count)| (name.replace("would_refuse", "refused"), count));
    assert_eq!(as_real.collect::<Values>(), real);
    assert!(
        real.keys()
            .any(|name| name.contains("refused_total route=inner"))
    );
    assert!(
        real.keys()
            .any(|name| name.contains("exempt_total route=/healthz"))
    );
}

#[test]
fn decisions_of_many_threads_are_all_counted_without_an_allocation() {
    const THREADS: usize = 8;
    const REQUESTS: usize = 2_000;
    let _alone = alone();
    let budget = Budget::fixed(2).named("threads");
    let shed = LoadShed::ratio(1.0).budget(&budget).only(["/mail/{id}"]);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut service = shed.layer(holding());
                for _ in 0..REQUESTS {
                    drop(answer(&mut service, get("/mail/7")));
                }
            });
        }
    });
    let counts = routes("threads");
    assert_eq!(counts.values().sum::<f64>(), (THREADS * REQUESTS) as f64);
    assert!(counts.keys().all(|name| name.contains("route=/mail/{id}")));

    let allocations = |shed: &LoadShed| {
        let mut service = shed.layer(holding());
        let (first, second) = (get("/mail/7"), get("/mail/7"));
        drop(answer(&mut service, first));
        allocation_counter::measure(|| drop(answer(&mut service, second))).count_total
    };
    // Of a budget of its own: permits of a budget with two layers are shared, which allocates.
    let plain = LoadShed::ratio(1.0).budget(Budget::fixed(2));
    assert_eq!(allocations(&shed), allocations(&plain));
}

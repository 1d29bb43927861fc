//! Which requests may be shed, told by their routes.

#[path = "support/allocations.rs"]
mod allocations;
mod support;

use axum::{Router, routing::get as on_get};
use http::{Method, Request, StatusCode};
use http_body_util::Empty;
use loadshed::{Budget, LoadShed, Permit, Threshold};
use tower::{Layer, ServiceExt};

use allocations::allocations;
use support::{all, answer, get, holding, is_refused, panic_on_purpose, quiet};

/// What becomes of one request, with nothing free but what is never shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Shed,
    Counted,
    Exempt,
}
use Fate::{Counted, Exempt, Shed};

/// The fate of a request, with `used` of 100 in flight.
fn fate(shed: &LoadShed, used: usize, method: &Method, path: &str) -> Fate {
    let budget = Budget::fixed(100);
    let held: Vec<_> = (0..used)
        .map(|_| budget.try_acquire(Threshold::NEVER_SHED).unwrap())
        .collect();
    let mut service = shed.clone().budget(&budget).layer(holding());
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Empty::new());
    let response = answer(&mut service, request.unwrap());
    drop(held);
    if is_refused(&response) {
        return Shed;
    }
    match budget.snapshot() {
        figures if figures.exempt == 1 => Exempt,
        figures => {
            assert_eq!(figures.in_flight, 1);
            Counted
        }
    }
}

fn fates<const N: usize>(shed: &LoadShed, used: usize, paths: [&str; N]) -> [Fate; N] {
    paths.map(|route| {
        let (method, path) = route.split_once(' ').unwrap_or(("GET", route));
        fate(shed, used, &method.parse().unwrap(), path)
    })
}

#[test]
fn only_what_is_named_is_shed_at_its_own_ratio_and_exempt_is_not_counted() {
    // As DESIGN has it.
    let shed = LoadShed::ratio(0.85)
        .only(["/mail/receive", "/export/{*path}"])
        .at("/export/{*path}", 0.50)
        .exempt(["/healthz", "/metrics"]);
    let paths = [
        "/mail/receive",
        "/export/a/b",
        "/mail/list",
        "/healthz",
        "/mail/receive/",
        "/export/",
    ];
    let [receive, export, list, health, slash, bare] = [0, 1, 2, 3, 4, 5];
    let idle = fates(&shed, 49, paths);
    assert_eq!(idle, [Counted, Counted, Counted, Exempt, Counted, Counted]);
    let half = fates(&shed, 50, paths);
    assert_eq!((half[export], half[receive]), (Shed, Counted));
    let busy = fates(&shed, 85, paths);
    assert_eq!(
        (busy[receive], busy[export], busy[health]),
        (Shed, Shed, Exempt)
    );
    // Neither is a route that was named, to axum or to us.
    assert_eq!(
        (busy[list], busy[slash], busy[bare]),
        (Counted, Counted, Counted)
    );
    assert_eq!(fates(&shed, 1_000, paths)[list], Counted);
}

#[test]
fn p09_exempt_routes_are_not_counted_and_those_opted_out_are_and_neither_is_refused() {
    let budget = Budget::fixed(1);
    let _held = budget.try_acquire(all()).unwrap();
    let mut service = LoadShed::ratio(0.5)
        .budget(&budget)
        .exempt(["/healthz"])
        .except(["/login"])
        .layer(holding());
    let running: Vec<_> = (0..50)
        .map(|_| answer(&mut service, get("/healthz")))
        .collect();
    assert!(!running.iter().any(is_refused));
    assert_eq!((budget.in_flight(), budget.snapshot().exempt), (1, 50));
    let running: Vec<_> = (0..50)
        .map(|_| answer(&mut service, get("/login")))
        .collect();
    assert!(!running.iter().any(is_refused));
    assert_eq!((budget.in_flight(), budget.snapshot().admitted), (51, 51));
    assert!(is_refused(&answer(&mut service, get("/"))));
    drop(running);
    assert_eq!(budget.in_flight(), 1);
}

#[test]
fn a_method_is_named_or_all_are_and_get_answers_head() {
    let shed = LoadShed::ratio(0.5).only(["POST /mail", "GET /list"]);
    let routes = [
        "POST /mail",
        "GET /mail",
        "GET /list",
        "HEAD /list",
        "POST /list",
    ];
    assert_eq!(
        fates(&shed, 50, routes),
        [Shed, Counted, Shed, Shed, Counted]
    );
    let shed = LoadShed::ratio(0.5)
        .except(["GET /", "/a"])
        .at("HEAD /", 0.2)
        .at("PUT /a", 0.3);
    let routes = ["GET /", "HEAD /", "POST /", "GET /a", "PUT /a"];
    assert_eq!(
        fates(&shed, 20, routes),
        [Counted, Shed, Counted, Counted, Counted]
    );
    assert_eq!(
        fates(&shed, 50, routes),
        [Counted, Shed, Shed, Counted, Shed]
    );
}

#[test]
fn the_order_is_exempt_then_at_then_except_and_only_then_threshold_then_classify_then_the_ratio() {
    use loadshed::Criticality::CriticalPlus;
    let shed = LoadShed::ratio(0.4)
        .exempt(["/internal/{*rest}"])
        .at("/internal/export", 0.1)
        .at("/batch/{id}", 0.2)
        .except(["/batch/7", "/login"])
        .threshold(|_| Threshold::ratio(0.3))
        .classify(|_| CriticalPlus);
    let routes = ["/internal/export", "/batch/7", "/login", "/"];
    assert_eq!(
        fates(&shed, 10, routes),
        [Exempt, Counted, Counted, Counted]
    );
    assert_eq!(fates(&shed, 20, routes), [Exempt, Shed, Counted, Counted]);
    assert_eq!(fates(&shed, 30, routes), [Exempt, Shed, Counted, Shed]);

    let shed = LoadShed::ratio(0.4)
        .only(["/a/{*rest}"])
        .except(["/a/login"]);
    let classified = shed.clone().classify(|_| CriticalPlus);
    let routes = ["/a/b", "/a/login", "/b"];
    assert_eq!(fates(&shed, 40, routes), [Shed, Counted, Counted]);
    assert_eq!(fates(&classified, 99, routes), [Counted, Counted, Counted]);
    assert_eq!(fates(&classified, 100, routes), [Shed, Counted, Counted]);
}

#[test]
fn at_opts_in_under_a_layer_that_sheds_nothing_else() {
    let shed = LoadShed::observe().at("/export", 0.5);
    assert_eq!(fates(&shed, 200, ["/export", "/"]), [Shed, Counted]);
    let none: [&str; 0] = [];
    assert_eq!(
        fates(&LoadShed::ratio(0.5).only(none), 200, ["/"]),
        [Counted]
    );
}

#[test]
fn the_ratio_of_a_route_stays_when_that_of_the_layer_moves() {
    let budget = Budget::fixed(10);
    let shed = LoadShed::ratio(0.9).budget(&budget).at("/export", 0.5);
    let mut service = shed.layer(holding());
    shed.handle().set_ratio(0.2).unwrap();
    let held = [(); 2].map(|()| budget.try_acquire(all()).unwrap());
    assert!(is_refused(&answer(&mut service, get("/"))));
    assert!(!is_refused(&answer(&mut service, get("/export"))));
    drop(held);
}

#[test]
fn a_route_that_is_decided_upon_asks_no_closure_for_a_threshold() {
    quiet();
    let shed = LoadShed::ratio(0.5)
        .at("/export", 0.2)
        .threshold(|_| panic_on_purpose());
    assert_eq!(fates(&shed, 20, ["/export"]), [Shed]);
    assert_eq!(fates(&shed, 200, ["/"]), [Counted]);
}

/// A server whose handlers tell what reached them.
fn routes() -> Router {
    Router::new()
        .route("/mail/{id}", on_get(async || "mail"))
        .route("/list", on_get(async || "list"))
}

/// Of a request such as `"/list"` or `"POST /list"`.
async fn status(app: &Router, route: &str) -> StatusCode {
    let (method, path) = route.split_once(' ').unwrap_or(("GET", route));
    let request = Request::builder().method(method).uri(path);
    let request = request.body(axum::body::Body::empty()).unwrap();
    app.clone().oneshot(request).await.unwrap().status()
}

/// Over a budget with no room left for what may be shed.
fn full(shed: LoadShed) -> (LoadShed, Permit) {
    let budget = Budget::fixed(1);
    let held = budget.try_acquire(all()).unwrap();
    (shed.budget(&budget), held)
}

#[tokio::test]
async fn a_layer_around_nested_routers_sees_whole_paths_and_one_inside_the_rest() {
    let (shed, _held) = full(LoadShed::ratio(1.0).only(["/api/mail/{id}", "/list"]));
    let outside = Router::new().nest("/api", routes()).layer(shed.clone());
    assert_eq!(
        status(&outside, "/api/mail/7").await,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(status(&outside, "/api/list").await, StatusCode::OK);

    let inside = Router::new().nest("/api", routes().layer(shed));
    let by_template = match cfg!(feature = "axum") {
        true => StatusCode::TOO_MANY_REQUESTS,
        false => StatusCode::OK,
    };
    assert_eq!(status(&inside, "/api/mail/7").await, by_template);
    assert_eq!(
        status(&inside, "/api/list").await,
        StatusCode::TOO_MANY_REQUESTS
    );

    // Around one route of it.
    let (shed, _held) = full(LoadShed::ratio(1.0).only(["/mail/{id}"]));
    let mail = on_get(async || "mail").route_layer(shed);
    let app = Router::new().nest("/api", Router::new().route("/mail/{id}", mail));
    assert_eq!(
        status(&app, "/api/mail/7").await,
        StatusCode::TOO_MANY_REQUESTS
    );
}

#[test]
fn a_call_by_grpc_is_a_route_as_any() {
    let shed = LoadShed::ratio(0.5)
        .only(["/mail.Mail/Receive"])
        .exempt(["/grpc.health.v1.Health/{method}"]);
    let routes = [
        "POST /mail.Mail/Receive",
        "POST /mail.Mail/List",
        "POST /grpc.health.v1.Health/Check",
    ];
    assert_eq!(fates(&shed, 50, routes), [Shed, Counted, Exempt]);
}

#[test]
fn what_has_no_path_is_not_named() {
    let shed = LoadShed::ratio(0.5).only(["/{*rest}", "/"]);
    assert_eq!(
        fates(
            &shed,
            50,
            ["/", "/a?/b", "OPTIONS *", "CONNECT a:1", "http://a/b"]
        ),
        [Shed, Shed, Counted, Counted, Shed]
    );
}

#[test]
fn a_setting_made_after_belongs_to_the_new_layer_alone() {
    let one = LoadShed::ratio(0.5).only(["/a"]);
    let other = one.clone().only(["/b"]);
    assert_eq!(fates(&one, 50, ["/a", "/b"]), [Shed, Counted]);
    assert_eq!(fates(&other, 50, ["/a", "/b"]), [Shed, Shed]);
}

#[test]
fn an_admitted_request_costs_no_allocation_however_its_route_is_named() {
    let shed = LoadShed::ratio(0.85)
        .budget(Budget::fixed(10))
        .only(["/users/{id}", "/users/me", "/{a}/{b}/{c}/{d}/{e}"])
        .at("/export/{*path}", 0.5)
        .exempt(["/healthz"]);
    for path in [
        "/users/me",
        "/users/7",
        "/v/w/x/y/z",
        "/export/a/b",
        "/healthz",
        "/none",
    ] {
        assert_eq!(allocations(&shed, get(path)), 0, "{path}");
    }
}

#[test]
fn p22_a_dry_run_with_routes_and_classes_decides_as_the_real_run_does() {
    let run = |dry_run| {
        let budget = Budget::fixed(5);
        let mut service = LoadShed::ratio(0.4)
            .budget(&budget)
            .only(["/a", "/b/{x}"])
            .at("/c", 0.2)
            .exempt(["/d"])
            .classify(|head| match head.uri().path() {
                "/b/1" => loadshed::Criticality::Critical,
                _ => loadshed::Criticality::Sheddable,
            })
            .dry_run(dry_run)
            .layer(holding());
        let mut running = std::collections::VecDeque::new();
        let paths = [
            "/a", "/b/1", "/c", "/d", "/b/2", "/none", "/b/1", "/a", "/c",
        ];
        // Those that come and go are told apart by their number, so that both runs let the same ones go.
        (0..500_usize)
            .map(|nth| {
                let before = budget.snapshot();
                let response = answer(&mut service, get(paths[nth * 7 % 9]));
                assert!(!(dry_run && is_refused(&response)));
                let after = budget.snapshot();
                running.push_back((!is_refused(&response)).then_some(response));
                if nth % 5 != 0 && running.len() > 3 {
                    running.pop_front();
                }
                if running.len() > 6 {
                    running.pop_front();
                }
                let refused =
                    after.refused + after.would_refuse - before.refused - before.would_refuse;
                let unmarked = after.in_flight - after.marked;
                (refused, after.admitted, after.exempt, unmarked)
            })
            .collect::<Vec<_>>()
    };
    let real = run(false);
    assert!(
        real.iter().filter(|seen| seen.0 == 1).count() > 50,
        "some are refused"
    );
    assert!(
        real.iter().any(|seen| seen.3 > 2),
        "some run beside each other"
    );
    assert_eq!(real, run(true));
}

/// By the templates of axum's routes.
#[cfg(feature = "axum")]
mod templates {
    use axum::{Extension, extract::MatchedPath};

    use super::*;

    /// Which of the requests are shed.
    async fn shed<const N: usize>(app: &Router, routes: [&str; N]) -> [bool; N] {
        let mut shed = [false; N];
        for (is_shed, route) in shed.iter_mut().zip(routes) {
            *is_shed = status(app, route).await == StatusCode::TOO_MANY_REQUESTS;
        }
        shed
    }

    /// Which of the requests a layer sheds that is inside of `/api`.
    async fn shed_inside<const N: usize>(table: LoadShed, routes: [&str; N]) -> [bool; N] {
        let (layer, _held) = full(table);
        let app = Router::new().nest("/api", super::routes().layer(layer));
        shed(&app, routes).await
    }

    #[tokio::test]
    async fn a_route_goes_by_its_template_wherever_in_nested_routers_the_layer_is() {
        let (layer, _held) = full(LoadShed::ratio(1.0).only(["/{user}/mail/{id}"]));
        let layer = || layer.clone();
        let app = Router::new;
        let nest = |inner| Router::new().nest("/{user}", inner);
        let mail = |path, handler| Router::new().route(path, handler);
        let handler = || on_get(async || "mail");
        let deep = || mail("/{id}", handler());
        let apps = [
            nest(routes()).layer(layer()),
            nest(routes()).route_layer(layer()),
            nest(routes().layer(layer())),
            nest(routes().route_layer(layer())),
            nest(mail("/mail/{id}", handler().layer(layer()))),
            nest(app().nest("/mail", deep()).layer(layer())),
            nest(app().nest("/mail", deep().layer(layer()))),
            app().nest_service("/{user}", routes().layer(layer())),
            // Here axum tells no template, and the path is whole.
            app().nest_service("/{user}", routes()).layer(layer()),
        ];
        for (nth, app) in apps.iter().enumerate() {
            let shed = shed(app, ["/7/mail/5", "/7/list"]).await;
            assert_eq!(shed, [true, false], "{nth}");
        }
    }

    #[tokio::test]
    async fn a_fallback_has_no_template_and_goes_by_its_path() {
        let (layer, _held) = full(LoadShed::ratio(1.0).only(["/api/{*rest}", "/none"]));
        let inner = || routes().fallback(async || "none");
        let around = Router::new().nest("/api", inner()).layer(layer.clone());
        let inside = Router::new().nest("/api", inner().layer(layer));
        let routes = ["/api/none", "/api/other"];
        assert_eq!(shed(&around, routes).await, [true, true]);
        assert_eq!(shed(&inside, routes).await, [true, false]);
    }

    #[tokio::test]
    async fn a_template_is_the_text_of_a_pattern_or_says_nothing() {
        for pattern in ["/api/mail/{other}", "/api/{*rest}", "/api/mail/{id}/"] {
            let table = LoadShed::ratio(1.0).only([pattern]);
            assert_eq!(shed_inside(table, ["/api/mail/5"]).await, [false]);
        }
    }

    #[tokio::test]
    async fn a_template_fits_closer_than_the_end_of_a_path_and_the_order_of_meanings_stays() {
        let routes = ["/api/mail/5", "/api/list"];
        let table = LoadShed::ratio(1.0).only(["/api/mail/{id}"]);
        let all_else = table.clone().except(["/{*rest}"]);
        assert_eq!(shed_inside(all_else, routes).await, [true, false]);
        let exempt = table.only(["/list"]).exempt(["/{*rest}"]);
        assert_eq!(shed_inside(exempt, routes).await, [false, false]);
    }

    #[tokio::test]
    async fn a_template_changes_nothing_where_the_path_is_whole() {
        let table = LoadShed::ratio(1.0).only(["/mail/{id}"]);
        let (layer, _held) = full(table.except(["/mail/me"]));
        let app = routes().layer(layer);
        assert_eq!(shed(&app, ["/mail/5", "/mail/me"]).await, [true, false]);
    }

    #[tokio::test]
    async fn a_template_has_the_methods_that_are_named_with_it() {
        let table = LoadShed::ratio(1.0).only(["POST /api/mail/{id}", "GET /api/list"]);
        let routes = ["POST /api/mail/5", "/api/mail/5"];
        assert_eq!(shed_inside(table.clone(), routes).await, [true, false]);
        let routes = ["/api/list", "HEAD /api/list", "POST /api/list"];
        assert_eq!(shed_inside(table, routes).await, [true, true, false]);
    }

    #[tokio::test]
    async fn a_template_costs_no_allocation() {
        let tell = on_get(async |template: MatchedPath| Extension(template));
        let app = Router::new().route("/api/mail/{id}", tell);
        let request = Request::get("/api/mail/5").body(axum::body::Body::empty());
        let mut answer = app.oneshot(request.unwrap()).await.unwrap();
        let template: MatchedPath = answer.extensions_mut().remove().unwrap();
        for pattern in ["/api/mail/{id}", "/mail/{id}", "/none"] {
            let shed = LoadShed::ratio(0.85).budget(Budget::fixed(10));
            let mut request = get("/mail/5");
            request.extensions_mut().insert(template.clone());
            assert_eq!(allocations(&shed.only([pattern]), request), 0);
        }
    }
}

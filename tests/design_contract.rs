//! The code that users write, as the design has it: it compiles, and its values are allowed.

use std::{error::Error, time::Duration};

use axum::{
    Router,
    routing::{get, post},
};
use http::{Method, Request, Response, StatusCode};
use loadshed::{
    Adaptive, Budget, Criticality, LatencyTarget, LoadShed, RetryAfter, Shed, Snapshot, Threshold,
    content_length,
};

async fn index() -> &'static str {
    "index"
}

async fn receive() -> &'static str {
    "receive"
}

async fn list() -> &'static str {
    "list"
}

async fn work() {}

fn serve(_: Router) {}

fn retry_later(_: Duration) {}

fn tenant(head: &Request<()>) -> Option<String> {
    let name = head.headers().get("x-tenant")?;
    name.to_str().ok().map(str::to_owned)
}

#[tokio::test]
#[allow(
    clippy::redundant_closure,
    unused_must_use,
    unused_variables,
    reason = "as it stands in the design"
)]
async fn the_code_of_the_design_compiles_and_its_values_are_allowed() -> Result<(), Box<dyn Error>>
{
    // One line. The budget is learned; every route under the layer may be shed.
    let app = Router::new()
        .route("/", get(index))
        .layer(LoadShed::ratio(0.85));

    serve(app);

    // A pool of 200. Only /mail/receive opted in; the whole app is counted, so 15 % stays free for the rest.
    let pool = Budget::fixed(200);
    let app = Router::new()
        .route(
            "/mail/receive",
            post(receive).route_layer(LoadShed::ratio(0.85).budget(&pool)),
        )
        .route("/mail/list", get(list))
        .layer(LoadShed::observe().budget(&pool)); // counts, never sheds

    serve(app);

    // The same in one place, tuned per endpoint (tonic has one layer for the whole server).
    let shed = LoadShed::ratio(0.85)
        .only(["/mail/receive", "/export/{*path}"]) // opt in; the other routes are counted, never shed
        .at("/export/{*path}", 0.50) // refused first, once all traffic of the budget passes half
        .exempt(["/healthz", "/metrics"]); // neither counted nor shed

    // Or opt out, or by class, or by anything in the head of the request.
    let shed = LoadShed::ratio(0.85).except(["/login"]);
    let shed = LoadShed::ratio(0.85).classify(|head| match head.headers().get("x-batch") {
        Some(_) => Criticality::Sheddable,
        None => Criticality::Critical,
    });
    let shed = LoadShed::ratio(0.85).threshold(|head| {
        if head.method() == Method::GET {
            Threshold::NEVER_SHED
        } else {
            Threshold::ratio(0.7)
        }
    });

    // Costs, tenants, a short bounded wait.
    let shed = LoadShed::ratio(0.85)
        .cost(|head| 1 + content_length(head) / (1 << 20)) // a 40 MB upload takes 41 units of the budget
        .fair_by(|head| tenant(head)) // any `impl Hash`; under pressure, fair shares
        .wait(64, Duration::from_millis(50)); // off unless asked for

    // The permit's life.
    let shed = LoadShed::ratio(0.85)
        .watch_uploads(axum::body::Body::new) // tells the client's time from the server's
        .min_upload_rate(240, Duration::from_secs(5)); // bytes a second after a grace; off by default

    // What the caller gets.
    let shed = LoadShed::ratio(0.85)
        .retry_after(RetryAfter::adaptive()) // the default: how long the excess load takes to be served, spread out
        .on_shed(|shed: &Shed| {
            Response::builder()
                .status(503)
                .body("come back later".into())
                .unwrap()
        });
    let shed = LoadShed::ratio(0.85).retry_after(RetryAfter::fixed(Duration::from_secs(5)));
    let shed = LoadShed::ratio(0.85).status(StatusCode::SERVICE_UNAVAILABLE);
    let shed = LoadShed::ratio(0.85).dry_run(true); // same decisions, same metrics, nothing refused

    // While it runs.
    let handle = shed.handle();
    handle.set_ratio(0.7)?;
    handle.set_dry_run(false);
    pool.set_limit(150)?;

    // Budgets.
    let budget = Budget::fixed(200).named("mail");
    let budget = Budget::adaptive(); // no settings
    let budget = Budget::new(Adaptive::default().initial(64).min(4).max(2_000));
    let budget = Budget::new(LatencyTarget::new(Duration::from_millis(250))); // for a known latency target
    budget.limit();
    budget.in_flight();
    budget.utilization();
    let s: Snapshot = budget.snapshot();

    // Outside tower: a queue consumer, an upgraded connection.
    match budget.try_acquire(Threshold::ratio(0.85)) {
        Ok(permit) => {
            work().await;
            drop(permit)
        }
        Err(shed) => retry_later(shed.retry_after()),
    }
    Ok(())
}

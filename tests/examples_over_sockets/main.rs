//! Runs each example in this process, over real sockets.

#[cfg(all(feature = "metrics", feature = "serde", feature = "tracing"))]
#[allow(dead_code, reason = "its main is unused here")]
#[path = "../../examples/admin.rs"]
mod admin_example;
#[allow(dead_code, reason = "its main is unused here")]
#[path = "../../examples/axum.rs"]
mod axum_example;
#[allow(dead_code, reason = "its main is unused here")]
#[path = "../../examples/hyper.rs"]
mod hyper_example;
#[allow(dead_code, reason = "its main is unused here")]
#[path = "../../examples/last_good.rs"]
mod last_good_example;
#[allow(dead_code, reason = "its main is unused here")]
#[path = "../../examples/tonic.rs"]
mod tonic_example;
#[allow(dead_code, reason = "its main is unused here")]
#[path = "../../examples/worker.rs"]
mod worker_example;

#[cfg(feature = "axum")]
mod detached_work;
#[path = "../support/mod.rs"]
mod support;
mod tuned_endpoints;

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Request, StatusCode, header},
};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use loadshed::{Budget, Threshold};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use support::sockets::bind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn axum_receives_170_mails_at_once_refuses_the_rest_and_still_lists_mails() {
    let (listener, server) = bind().await;
    let pool = Budget::fixed(axum_example::POOL);
    let calls = axum_example::Calls::default();
    tokio::spawn(axum_example::serve(listener, pool.clone(), calls.clone()));

    let mut uploads = Uploads::begin(200, http1(), server, "/mail/receive");
    eventually("30 are refused, 170 run", || {
        (pool.snapshot().refused, pool.in_flight(), calls.most()) == (30, 170, 170)
    })
    .await;

    let list = get(server, "/mail/list").await;
    assert_eq!(list, (StatusCode::OK, "no mails\n".into()));
    let (status, pool_text) = get(server, "/pool").await;
    assert_eq!(status, StatusCode::OK);
    assert!(pool_text.contains("in_flight: 170,"), "{pool_text}");

    let heads = uploads.end().await;
    assert_eq!(count_of(&heads, StatusCode::OK), 170);
    assert_refused(&heads, 30);
    assert_eq!(calls.most(), 170);
    eventually("the pool is empty", || pool.in_flight() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn axum_under_its_own_load_responds_to_everything_and_stays_within_its_pool() {
    let (listener, server) = bind().await;
    let pool = Budget::fixed(axum_example::POOL);
    let calls = axum_example::Calls::default();
    tokio::spawn(axum_example::serve(listener, pool.clone(), calls.clone()));

    let totals = axum_example::Load { seconds: 1 }.drive(server, &pool).await;

    assert_eq!(totals.check(), Ok(()));
    // How many mails arrive in a second depends on the machine; whether they fit the pool does not.
    assert!((1..=170).contains(&calls.most()), "{}", calls.most());
    eventually("the pool is empty", || pool.in_flight() == 0).await;
}

#[tokio::test]
async fn tonic_refuses_a_second_call_while_a_stream_is_open() {
    let (listener, server) = bind().await;
    let budget = Budget::fixed(1);
    tokio::spawn(tonic_example::serve(listener, budget.clone()));

    let channel = Channel::from_shared(format!("http://{server}")).unwrap();
    let mut health = HealthClient::new(channel.connect().await.unwrap());
    let watch = health.watch(HealthCheckRequest::default()).await.unwrap();
    let mut watch = watch.into_inner();
    assert!(watch.message().await.unwrap().is_some());
    assert_eq!(budget.in_flight(), 1);

    let refused = health.check(HealthCheckRequest::default()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let pushback = refused.metadata().get("grpc-retry-pushback-ms").unwrap();
    assert!(pushback.to_str().unwrap().parse::<u64>().unwrap() > 0);

    // Only `Check` is opted in to shedding.
    let second = health.watch(HealthCheckRequest::default()).await;
    assert_eq!(budget.in_flight(), 2);
    drop(second.unwrap());

    drop(watch);
    eventually("the stream's permit is free", || budget.in_flight() == 0).await;
    let served = health.check(HealthCheckRequest::default()).await;
    assert!(served.is_ok(), "{served:?}");
}

#[tokio::test]
async fn hyper_refuses_requests_beyond_17_of_20_over_http_1() {
    hyper_refuses_requests_beyond_17_of_20(http1()).await;
}

#[tokio::test]
async fn hyper_refuses_requests_beyond_17_of_20_over_http_2() {
    hyper_refuses_requests_beyond_17_of_20(http2()).await;
}

async fn hyper_refuses_requests_beyond_17_of_20(client: Http) {
    let (listener, server) = bind().await;
    let budget = Budget::fixed(20);
    tokio::spawn(hyper_example::serve(listener, budget.clone()));

    let mut uploads = Uploads::begin(25, client, server, "/");
    eventually("8 are refused, 17 run", || {
        (budget.snapshot().refused, budget.in_flight()) == (8, 17)
    })
    .await;

    let heads = uploads.end().await;
    assert_eq!(count_of(&heads, StatusCode::OK), 17);
    assert_refused(&heads, 8);
    eventually("the budget is free", || budget.in_flight() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn the_worker_does_every_job_once_and_never_more_than_8_at_once() {
    let pool = Budget::fixed(10);
    let mut done = worker_example::run_jobs(100, &pool).await;

    done.sort_unstable();
    assert_eq!(done, Vec::from_iter(1..=100));
    let snapshot = pool.snapshot();
    assert_eq!(snapshot.peak_in_flight, 8);
    assert!(snapshot.refused >= 92, "{snapshot:?}");
    assert_eq!(snapshot.in_flight, 0);
}

#[tokio::test]
async fn last_good_serves_cached_responses_while_the_server_is_full() {
    let (listener, server) = bind().await;
    let back_end = Budget::fixed(10);
    tokio::spawn(last_good_example::serve(listener, back_end.clone()));
    let send = async |method: &str, path: &str| {
        let request = Request::builder().method(method);
        let request = request.uri(format!("http://{server}{path}"));
        let response = http1().request(request.body(Body::empty()).unwrap());
        let (head, body) = response.await.unwrap().into_parts();
        (head, body.collect().await.unwrap().to_bytes())
    };

    let (fresh, forecast) = send("GET", "/weather/oslo").await;
    assert_eq!(
        (fresh.status, &forecast[..]),
        (StatusCode::OK, &b"oslo: rain\n"[..])
    );
    assert!(!fresh.headers.contains_key(header::AGE));
    let (missing, _) = send("GET", "/weather").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);

    eventually("the back end is idle", || back_end.in_flight() == 0).await;
    let busy = (0..8).map(|_| back_end.try_acquire(Threshold::NEVER_SHED).unwrap());
    let _busy = Vec::from_iter(busy);
    for (method, body) in [("GET", &forecast[..]), ("HEAD", &b""[..])] {
        let (kept, same) = send(method, "/weather/oslo").await;
        assert_eq!((kept.status, &same[..]), (StatusCode::OK, body));
        let age = kept.headers[header::AGE].to_str().unwrap();
        assert!(age.parse::<u64>().unwrap() < 60, "{age}");
        for name in [
            header::CACHE_CONTROL,
            header::CONTENT_TYPE,
            header::CONTENT_LENGTH,
        ] {
            assert_eq!(kept.headers[&name], fresh.headers[&name]);
        }
        assert!(!kept.headers.contains_key(header::WARNING));
    }
    for (method, path) in [
        ("GET", "/weather/rome"),
        ("GET", "/weather"),
        ("POST", "/weather/oslo"),
    ] {
        let (refused, _) = send(method, path).await;
        assert_refused(&[(refused.status, refused.headers)], 1);
    }
    assert_eq!(back_end.snapshot().refused, 5);
}

#[tokio::test(start_paused = true)]
async fn last_good_keeps_up_to_a_thousand_responses_for_five_minutes() {
    let kept = last_good_example::LastGood::default();
    let age = |path: &str| {
        let head = Request::get(path).body(()).unwrap();
        let response = kept.response(&head)?;
        Some(response.headers()[header::AGE].to_str().unwrap().to_owned())
    };
    let keep = |path: String| kept.keep(path, HeaderMap::new(), Bytes::new());
    keep("/0".into());
    sleep(Duration::from_secs(42)).await;
    assert_eq!(age("/0").unwrap(), "42");
    sleep(Duration::from_secs(259)).await;
    assert_eq!(age("/0"), None, "the response is too old");
    keep("/0".into());
    assert_eq!(age("/0").unwrap(), "0");

    let most = last_good_example::MOST_KEPT;
    (0..most + 10).for_each(|path| keep(format!("/{path}")));
    let there = (0..most + 10).filter(|path| age(&format!("/{path}")).is_some());
    assert_eq!(Vec::from_iter(there), Vec::from_iter(10..most + 10));
}

#[cfg(all(feature = "metrics", feature = "serde", feature = "tracing"))]
#[tokio::test]
async fn admin_shows_its_metrics_takes_valid_settings_and_refuses_invalid_settings() {
    let (listener, server) = bind().await;
    let pool = Budget::fixed(200).named("admin");
    let settings = std::env::temp_dir().join(format!("loadshed-{}.toml", std::process::id()));
    let write = |text: &str| std::fs::write(&settings, text).unwrap();
    let prometheus = admin_example::prometheus().unwrap();
    tokio::spawn(admin_example::serve(
        listener,
        pool.clone(),
        prometheus.install_recorder().unwrap(),
        Some(admin_example::SettingsFile {
            path: settings.clone(),
            every: Duration::from_millis(10),
        }),
    ));
    let shown = async || {
        let (status, text) = get(server, "/admin/budget").await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let put = async |settings: &'static str| {
        let request = Request::put(format!("http://{server}/admin/budget"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(settings));
        let response = http1().request(request.unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.into()).unwrap())
    };

    get(server, "/mail").await;
    let first = shown().await;
    assert_eq!(
        (&first["name"], &first["dry_run"]),
        (&"admin".into(), &false.into())
    );
    let snapshot = serde_json::json!({
        "limit": 200, "in_flight": 0, "marked": 0, "peak_in_flight": 1,
        "admitted": 1, "refused": 0, "would_refuse": 0, "exempt": 0, "waiting": 0, "waited": 0,
        "stalled": 0, "stalled_responses": 0, "is_set_by_hand": false, "learned": null,
    });
    assert_eq!(first["snapshot"], snapshot);

    let (status, _) =
        put(r#"{"ratio": 0.5, "export_ratio": 0.9, "limit": 4, "dry_run": true}"#).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((pool.limit(), &shown().await["dry_run"]), (4, &true.into()));
    for (bad, why) in [
        (
            r#"{"ratio": 0.9, "limit": 0, "dry_run": false}"#,
            "invalid limit 0: must be from 1 to",
        ),
        (
            r#"{"ratio": 85, "limit": 9, "dry_run": false}"#,
            "invalid ratio 85: must be greater than 0",
        ),
        (
            r#"{"export_ratio": 85, "limit": 9, "dry_run": false}"#,
            "invalid ratio 85: must be greater than 0",
        ),
    ] {
        let (status, text) = put(bad).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(text.starts_with(why), "{text}");
        assert_eq!((pool.limit(), &shown().await["dry_run"]), (4, &true.into()));
    }

    write("limit = 6\nratio = 0.9\ndry_run = false\n");
    eventually("the file is applied", || pool.limit() == 6).await;
    assert_eq!(shown().await["dry_run"], false);
    for bad in [
        "limit = 7\nratio = 85",
        "limit = -1",
        "limt = 7",
        "limit = ",
    ] {
        write(bad);
        sleep(Duration::from_millis(100)).await;
        assert_eq!(pool.limit(), 6, "{bad}");
    }
    write("limit = 8");
    eventually("a valid file is applied after invalid files", || {
        pool.limit() == 8
    })
    .await;
    std::fs::remove_file(&settings).unwrap();

    // The file has set the ratio 0.9, of a limit of 8.
    let _held = Vec::from_iter((0..7).map(|_| pool.try_acquire(Threshold::NEVER_SHED).unwrap()));
    let (refused, _) = get(server, "/mail").await;
    assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS);
    let (_, metrics) = get(server, "/metrics").await;
    for line in [
        "# TYPE loadshed_refused_total counter",
        "loadshed_refused_total{budget=\"admin\",reason=\"utilization\"} 1",
        "loadshed_limit_changes_total{budget=\"admin\",reason=\"set\"} 3",
        "loadshed_limit{budget=\"admin\"} 8",
        "loadshed_utilization_ratio{budget=\"admin\"} 0.875",
    ] {
        assert!(
            metrics.lines().any(|each| each == line),
            "no {line} in {metrics}"
        );
    }
}

/// Waits until `is_so`, in real time: a socket's peer does not follow a paused clock.
async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let poll = async {
        while !is_so() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = timeout(Duration::from_secs(30), poll).await;
    assert!(waited.is_ok(), "after 30 s, it is still not so that {what}");
}

type Http = Client<HttpConnector, Body>;

fn http1() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

fn http2() -> Http {
    Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http()
}

async fn get(server: SocketAddr, path: &str) -> (StatusCode, String) {
    let uri = format!("http://{server}{path}").parse().unwrap();
    let response = http1().get(uri).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.into()).unwrap())
}

type Head = (StatusCode, HeaderMap);

/// Requests whose bodies end on [`Uploads::end`]. The server is busy with them until then.
struct Uploads {
    heads: JoinSet<Head>,
    last_byte: watch::Sender<bool>,
}

impl Uploads {
    fn begin(count: usize, client: Http, server: SocketAddr, path: &str) -> Self {
        let (last_byte, is_last) = watch::channel(false);
        let mut heads = JoinSet::new();
        for _ in 0..count {
            let mut is_last = is_last.clone();
            let body = stream::once(async move {
                // If the sender is dropped, the body ends as well.
                let _ = is_last.wait_for(|is_last| *is_last).await;
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"!")))
            });
            let request = Request::post(format!("http://{server}{path}"))
                .body(Body::new(StreamBody::new(body)))
                .unwrap();
            let response = client.request(request);
            heads.spawn(async move {
                let (head, body) = response.await.unwrap().into_parts();
                body.collect().await.unwrap();
                (head.status, head.headers)
            });
        }
        Self { heads, last_byte }
    }

    async fn end(&mut self) -> Vec<Head> {
        self.last_byte.send_replace(true);
        std::mem::take(&mut self.heads).join_all().await
    }
}

fn count_of(heads: &[Head], wanted: StatusCode) -> usize {
    let matching = heads.iter().filter(|(status, _)| *status == wanted);
    matching.count()
}

fn assert_refused(heads: &[Head], count: usize) {
    assert_eq!(count_of(heads, StatusCode::TOO_MANY_REQUESTS), count);
    for (status, headers) in heads {
        if *status == StatusCode::TOO_MANY_REQUESTS {
            let hint = headers[header::RETRY_AFTER].to_str().unwrap();
            assert!(hint.parse::<u64>().unwrap() >= 1, "{hint}");
            assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        }
    }
}

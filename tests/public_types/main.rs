//! The traits of the public types, what can be built with them, and the errors of invalid settings.

mod invalid_settings;
#[path = "../support/mod.rs"]
mod support;

use std::{error::Error, fmt::Debug, hash::Hash, pin::Pin, rc::Rc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use loadshed::{
    Adaptive, Budget, Criticality, Handle, InvalidSetting, LoadShed, LoadShedService, Measure,
    Permit, Reason, RefusedUpload, ResponseBody, ResponseFuture, RetryAfter, Shed, Snapshot,
    Threshold, control::Learned,
};
use tower::{Layer, Service, service_fn};

use support::{Req, Scripted, Step, all, answer, get, holding};

fn shareable<T: Send + Sync + Unpin + Debug + 'static>() {}
fn cloned<T: Clone>() {}
fn copied<T: Copy + Eq>() {}
fn hashed<T: Hash>() {}
fn an_error<T: Error>() {}
fn sent<T: Send>(_: &T) {}
fn defaulted<T: Default>() {}
fn unpinned<T: Unpin>() {}

#[test]
fn every_public_type_can_be_stored_and_shared_across_threads() {
    shareable::<LoadShed>();
    shareable::<LoadShedService<BoxedService>>();
    shareable::<Handle>();
    shareable::<Budget>();
    shareable::<Permit>();
    shareable::<Snapshot>();
    shareable::<Learned>();
    shareable::<Shed>();
    shareable::<Reason>();
    shareable::<Measure>();
    shareable::<RetryAfter>();
    shareable::<RefusedUpload>();
    shareable::<Threshold>();
    shareable::<Criticality>();
    shareable::<InvalidSetting>();
    shareable::<Adaptive>();
    shareable::<ResponseBody<Full<Bytes>>>();

    cloned::<LoadShed>();
    cloned::<LoadShedService<BoxedService>>();
    cloned::<Handle>();
    cloned::<Budget>();
    cloned::<Shed>();
    cloned::<InvalidSetting>();
    cloned::<Adaptive>();

    copied::<Snapshot>();
    copied::<Learned>();
    copied::<Threshold>();
    copied::<RetryAfter>();
    copied::<RefusedUpload>();
    copied::<Criticality>();
    copied::<Reason>();
    hashed::<Threshold>();
    hashed::<Criticality>();
    hashed::<Reason>();
    copied::<Measure>();
    hashed::<Measure>();

    an_error::<Shed>();
    an_error::<InvalidSetting>();
}

/// An inner service with a boxed future that is `Send`, and no other trait.
#[derive(Clone, Debug)]
struct BoxedService;

impl Service<Req> for BoxedService {
    type Response = Response<Full<Bytes>>;
    type Error = support::Broken;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        Box::pin(std::future::ready(Ok(Response::default())))
    }
}

#[test]
fn the_future_is_send_when_the_inner_one_is_and_works_when_it_is_not() {
    let future: ResponseFuture<BoxedService, Empty<Bytes>> =
        LoadShed::ratio(1.0).layer(BoxedService).call(get("/"));
    sent(&future);
    unpinned::<ResponseFuture<BoxedService, Empty<Bytes>>>();

    let local = Rc::new(());
    let mut service = LoadShed::ratio(1.0).layer(service_fn(move |_: Req| {
        let local = Rc::clone(&local);
        async move {
            drop(local);
            Ok::<_, support::Broken>(Response::new(Full::<Bytes>::default()))
        }
    }));
    assert_eq!(answer(&mut service, get("/")).status(), StatusCode::OK);
}

#[test]
fn the_response_body_has_a_default_for_every_inner_body() {
    /// Neither `Default` nor `Unpin`.
    struct Bare(std::marker::PhantomPinned);
    impl http_body::Body for Bare {
        type Data = Bytes;
        type Error = support::Broken;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Ready(None)
        }
    }
    let _ = Bare(std::marker::PhantomPinned);
    defaulted::<ResponseBody<Bare>>();
    unpinned::<ResponseBody<Full<Bytes>>>();
    let body = ResponseBody::<Bare>::default();
    assert!(http_body::Body::is_end_stream(&body));
    assert_eq!(http_body::Body::size_hint(&body).exact(), Some(0));
}

struct App {
    shed: LoadShed,
    pool: Budget,
    handle: Handle,
}

fn layers(pool: &Budget) -> (LoadShed, LoadShed) {
    (
        LoadShed::ratio(0.85).budget(pool),
        LoadShed::observe().budget(pool.clone()),
    )
}

#[test]
fn a_layer_and_a_budget_fit_a_struct_and_a_signature_without_type_parameters()
-> Result<(), Box<dyn Error>> {
    let pool = Budget::fixed(200).named("mail");
    let (shed, _count) = layers(&pool);
    let shed = shed
        .retry_after(RetryAfter::adaptive())
        .on_shed(|shed: &Shed| {
            let hint = shed.retry_after().as_secs();
            Response::builder()
                .status(503)
                .header("retry-after", hint)
                .body("come back later".into())
                .unwrap()
        })
        .threshold(|head| {
            if head.method() == Method::GET {
                Threshold::NEVER_SHED
            } else {
                Threshold::ratio(0.7)
            }
        });
    let app = App {
        handle: shed.handle(),
        shed,
        pool,
    };
    app.handle.set_ratio(0.7)?;
    app.handle.set_dry_run(false);
    app.pool.set_limit(150)?;
    let permit = app.pool.try_acquire(Threshold::ratio(0.85))?;
    let snapshot: Snapshot = app.handle.budget().snapshot();
    assert_eq!((snapshot.limit, snapshot.in_flight), (150, 1));
    assert_eq!(app.pool.name(), Some("mail"));
    drop(permit);
    let learned = Budget::new(Adaptive::default().initial(64).min(4).max(2_000));
    assert_eq!((learned.limit(), learned.name()), (64, None));
    let _service: LoadShedService<Scripted> = app.shed.layer(holding());
    Ok(())
}

#[test]
fn debug_output_shows_the_name_the_limit_and_the_state() {
    let budget = Budget::fixed(3).named("mail");
    let shed = || {
        LoadShed::ratio(0.5)
            .budget(&budget)
            .threshold(|_| all())
            .on_shed(|_| Response::new(Bytes::new()))
    };
    let permit = budget.try_acquire(all()).unwrap();
    let refused = [
        budget.try_acquire(all()).unwrap(),
        budget.try_acquire(all()).unwrap(),
    ];
    let reason = budget.try_acquire(all()).unwrap_err();
    assert!(reason.to_string().contains("budget"), "{reason}");
    for text in [
        format!("{budget:?}"),
        format!("{:?}", shed()),
        format!("{:?}", shed().handle()),
    ] {
        for part in ["mail", "3"] {
            assert!(text.contains(part), "{text}");
        }
    }
    let service = LoadShed::ratio(0.5).budget(&budget).layer(BoxedService);
    assert!(format!("{service:?}").contains("0.5"));
    let waits = Scripted {
        ready: [Step::Wait].into(),
        ..holding()
    };
    let fails = Scripted {
        ready: [Step::Fail].into(),
        ..holding()
    };
    let state = |inner: Scripted, threshold| {
        format!(
            "{:?}",
            shed()
                .threshold(move |_| threshold)
                .layer(inner)
                .call(get("/"))
        )
    };
    for (text, part) in [
        (state(holding(), all()), "refused"),
        (state(holding(), Threshold::NEVER_SHED), "called"),
        (state(waits, Threshold::NEVER_SHED), "waiting"),
        (state(fails, Threshold::NEVER_SHED), "failed"),
        (format!("{permit:?}"), "counted: true"),
        (format!("{:?}", budget.snapshot()), "in_flight: 3"),
        (
            format!("{:?}", ResponseBody::<Full<Bytes>>::default()),
            "Refused",
        ),
    ] {
        assert!(text.contains(part), "{text}");
    }
    drop(refused);
}

#[test]
fn a_closure_sees_the_whole_head_and_the_inner_service_gets_it_whole() {
    let whole = |parts: (
        &Method,
        &http::Uri,
        http::Version,
        &http::HeaderMap,
        Option<&i32>,
    )| {
        let (method, uri, version, headers, extension) = parts;
        assert_eq!(
            (method, uri.path(), uri.query()),
            (&Method::PATCH, "/a/b", Some("c=d"))
        );
        assert_eq!((version, extension), (http::Version::HTTP_10, Some(&7)));
        assert_eq!(headers.get_all("x-two").iter().count(), 2);
    };
    let parts = move |head: &Request<()>| {
        whole((
            head.method(),
            head.uri(),
            head.version(),
            head.headers(),
            head.extensions().get(),
        ));
        Threshold::EXEMPT
    };
    let inner = service_fn(move |request: Request<Full<Bytes>>| {
        whole((
            request.method(),
            request.uri(),
            request.version(),
            request.headers(),
            request.extensions().get(),
        ));
        std::future::ready(Ok::<_, support::Broken>(Response::new(request.into_body())))
    });
    let shed = LoadShed::ratio(1.0)
        .budget(Budget::fixed(1))
        .threshold(parts);
    let request = Request::patch("/a/b?c=d")
        .version(http::Version::HTTP_10)
        .header("x-two", "1")
        .header("x-two", "2")
        .extension(7)
        .body(Full::from("body"))
        .unwrap();
    let response = support::run(shed.layer(inner).call(request)).unwrap();
    // A request whose closure panics is served and counted: this request is exempt, so the closure did not panic.
    assert_eq!(shed.handle().budget().snapshot().exempt, 1);
    assert_eq!(http_body::Body::size_hint(response.body()).exact(), Some(4));
}

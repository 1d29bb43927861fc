//! Promise 4: a place is held until the body ends.

use std::{future::ready, task::Poll};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use http_body_util::{BodyExt, Full};
use loadshed::{Budget, LoadShed};
use tower::{Layer, Service, service_fn};

use super::everywhere;
use crate::support::{Broken, Req, Scripted, Step, answer, body, get, is_refused, next_frame, run};

#[test]
fn p04_the_place_is_held_after_the_head_until_the_body_is_read() {
    let budget = Budget::fixed(1);
    let inner = Scripted {
        body: body([Step::Data; 3]).that_tells_its_end(),
        ..Scripted::default()
    };
    let mut service = LoadShed::ratio(1.0).budget(&budget).layer(inner);
    let mut response = answer(&mut service, get("/"));
    for _ in 0..3 {
        assert!(is_refused(&answer(&mut service, get("/"))));
        assert!(next_frame(&mut response).is_ready());
    }
    // Nobody has asked for the `None` after the last frame.
    assert_eq!(budget.in_flight(), 0);
    assert!(!is_refused(&answer(&mut service, get("/"))));
}

#[test]
fn p04_a_body_that_is_at_its_end_from_the_start_never_holds() {
    everywhere(|place| {
        let inner = Scripted {
            body: body([]).that_tells_its_end(),
            ..Scripted::default()
        };
        let response = answer(&mut place.service(inner), get("/"));
        place.expect(0);
        drop(response);
    });
    let budget = Budget::fixed(1);
    let mut service = LoadShed::ratio(1.0)
        .budget(&budget)
        .layer(service_fn(|_: Req| {
            ready(Ok::<_, Broken>(Response::new(Full::new(Bytes::new()))))
        }));
    let kept: Vec<_> = (0..3).map(|_| answer(&mut service, get("/"))).collect();
    assert!(!kept.iter().any(is_refused));
}

#[test]
fn p04_an_empty_body_that_does_not_tell_holds_until_it_is_asked() {
    everywhere(|place| {
        let mut response = answer(&mut place.service(Scripted::default()), get("/"));
        place.expect(1);
        assert!(matches!(next_frame(&mut response), Poll::Ready(None)));
        place.expect(0);
    });
}

#[test]
fn p04_the_end_is_after_the_trailers_not_after_the_last_data() {
    for tells in [true, false] {
        everywhere(|place| {
            let mut body = body([Step::Data, Step::Wait, Step::Trailers]);
            body.tells_its_end = tells;
            let inner = Scripted {
                body,
                ..Scripted::default()
            };
            let mut response = answer(&mut place.service(inner), get("/"));
            assert!(next_frame(&mut response).is_ready());
            place.expect(1);
            assert!(next_frame(&mut response).is_pending());
            place.expect(1);
            let Poll::Ready(Some(Ok(frame))) = next_frame(&mut response) else {
                panic!("trailers")
            };
            assert!(frame.is_trailers());
            place.expect(usize::from(!tells));
            assert!(matches!(next_frame(&mut response), Poll::Ready(None)));
            place.expect(0);
        });
    }
}

#[test]
fn p04_the_place_is_taken_from_call_on_before_the_future_is_polled() {
    let budget = Budget::fixed(1);
    let mut service = LoadShed::ratio(1.0)
        .budget(&budget)
        .layer(Scripted::default());
    let first = service.call(get("/"));
    assert_eq!(budget.in_flight(), 1);
    assert!(is_refused(&answer(&mut service, get("/"))));
    drop(first);
}

#[test]
fn p04_the_body_passes_as_it_is() {
    let inner = Scripted {
        body: body([Step::Data, Step::Data, Step::Trailers]).that_tells_its_end(),
        ..Scripted::default()
    };
    let mut response = answer(&mut LoadShed::ratio(1.0).layer(inner), get("/"));
    assert_eq!(response.body().size_hint().exact(), Some(8));
    assert!(!response.body().is_end_stream());
    let collected = run(response.body_mut().collect()).unwrap();
    assert!(collected.trailers().is_some());
    assert_eq!(collected.to_bytes(), "datadata");
    assert!(response.body().is_end_stream());
}

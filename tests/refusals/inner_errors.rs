//! Promise 21: the inner service's errors pass through.

use std::{cell::Cell, convert::Infallible, future::ready};

use bytes::Bytes;
use http::Response;
use http_body_util::Empty;
use loadshed::LoadShed;
use tower::{Layer, Service, service_fn};

use super::full;
use crate::support::{Broken, Req, Scripted, Step, get, holding, is_refused, run};

#[test]
fn p21_the_inner_error_passes_through_untouched() {
    let mut call = LoadShed::ratio(1.0).layer(Scripted {
        poll: [Step::Fail].into(),
        ..holding()
    });
    let error: Broken = run(call.call(get("/"))).unwrap_err();
    assert_eq!(error, Broken("failed"));
    for ready in [vec![Step::Fail], vec![Step::Wait, Step::Wait, Step::Fail]] {
        let mut service = LoadShed::ratio(1.0).layer(Scripted {
            ready: ready.into(),
            ..holding()
        });
        let error: Broken = run(service.call(get("/"))).unwrap_err();
        assert_eq!(error, Broken("not ready"));
    }
}

#[test]
fn p21_the_inner_error_and_future_need_no_trait() {
    /// Not even `Send`, `Debug` or `'static`.
    struct Local<'a>(&'a Cell<u8>);
    let value = Cell::new(7);
    let inner = service_fn(|_: Req| ready(Err::<Response<Empty<Bytes>>, _>(Local(&value))));
    let Err(Local(error)) = run(LoadShed::ratio(1.0).layer(inner).call(get("/"))) else {
        panic!("the call succeeded")
    };
    assert_eq!(error.get(), 7);
    // A refusal is no error: this inner service's error type has no value.
    let (shed, _held) = full();
    let infallible =
        service_fn(|_: Req| ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))));
    let Ok(response) = run(shed.layer(infallible).call(get("/")));
    assert!(is_refused(&response));
}

//! Promise 21: errors.

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
fn p21_no_bound_is_put_on_the_inner_error_or_future() {
    /// Not even `Send`, `Debug` or `'static`.
    struct Local<'a>(&'a Cell<u8>);
    let said = Cell::new(7);
    let inner = service_fn(|_: Req| ready(Err::<Response<Empty<Bytes>>, _>(Local(&said))));
    let Err(Local(error)) = run(LoadShed::ratio(1.0).layer(inner).call(get("/"))) else {
        panic!("it fails")
    };
    assert_eq!(error.get(), 7);
    // A refusal is no error: the inner service cannot even make one.
    let (shed, _held) = full();
    let infallible =
        service_fn(|_: Req| ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))));
    let Ok(response) = run(shed.layer(infallible).call(get("/")));
    assert!(is_refused(&response));
}

//! Apart, as it counts all that a process allocates.

use std::{convert::Infallible, future::ready};

use bytes::Bytes;
use futures_util::FutureExt;
use http::Response;
use http_body_util::Full;
use loadshed::LoadShed;
use tower::{Layer, Service, service_fn};

use crate::support::{Req, is_refused};

/// How often a request allocates that is served.
pub(crate) fn allocations(shed: &LoadShed, request: Req) -> u64 {
    let mut service = shed.layer(service_fn(|_: Req| {
        ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
    }));
    let mut request = Some(request);
    let mut call = || {
        let answered = service.call(request.take().unwrap()).now_or_never();
        assert!(!is_refused(&answered.unwrap().unwrap()));
    };
    allocation_counter::measure(&mut call).count_total
}

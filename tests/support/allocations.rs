//! Counts allocations. A module of its own, as it installs a global allocator.

use std::{convert::Infallible, future::ready};

use bytes::Bytes;
use futures_util::FutureExt;
use http::Response;
use http_body_util::Full;
use loadshed::LoadShed;
use tower::{Layer, Service, service_fn};

use crate::support::{Req, is_refused};

/// Returns the number of allocations of a request that is served.
pub(crate) fn allocations(shed: &LoadShed, request: Req) -> u64 {
    let mut service = shed.layer(service_fn(|_: Req| {
        ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
    }));
    let mut call = |request| {
        let response = service.call(request).now_or_never();
        assert!(!is_refused(&response.unwrap().unwrap()));
    };
    // The first request of a thread, and one in 4,096, looks for a layer that is nested in itself, and allocates.
    call(request.clone());
    allocation_counter::measure(|| call(request)).count_total
}

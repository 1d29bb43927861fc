//! One server behind the real layer.

use std::{
    cell::Cell,
    convert::Infallible,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use http_body::Body;
use loadshed::{Budget, LoadShed, LoadShedService, Permit, ResponseFuture, Shed, Threshold};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    options::{AdmissionPath, Lab, LayerOptions},
    random::Draw,
    scenario::{RetryDelay, Scenario, Station},
    station::{CallId, Nanos, Pool, Shared, StationState},
};

/// One server of a scenario: its budget, its layer and its station.
pub(crate) struct Instance {
    pub(crate) budget: Budget,
    admission: Admission,
    pub(crate) station: Option<StationState>,
    /// When the station finishes its next call.
    pub(crate) finish: Option<Nanos>,
}

/// How a call is admitted: the layer, or the thresholds for the path without it.
struct Admission {
    path: AdmissionPath,
    layer_options: LayerOptions,
    retry_delay: RetryDelay,
    service: LoadShedService<Handler>,
    sheddable: Threshold,
    critical: Threshold,
}

/// What an admitted call holds until it completes or times out.
pub(crate) enum Admitted {
    Response(Pin<Box<ResponseFuture<Handler, EmptyBody>>>),
    Permit(Permit),
}

/// Connects the simulation to its handlers, which are called and polled by the layer.
#[derive(Debug, Default)]
pub(crate) struct HandlerLink {
    /// The call that enters the layer.
    pub(crate) entering: Cell<CallId>,
    /// The call whose work is done.
    pub(crate) completed: Cell<CallId>,
}

/// The service behind the layer.
#[derive(Clone, Debug)]
pub(crate) struct Handler(Rc<HandlerLink>);

/// The response to a call, ready once the simulation marks the call as completed.
#[derive(Debug)]
pub(crate) struct Completion {
    call: CallId,
    link: Rc<HandlerLink>,
}

/// An empty body.
#[derive(Debug, Default)]
pub(crate) struct EmptyBody;

impl Instance {
    pub(crate) fn new(
        scenario: &Scenario,
        budget: Budget,
        lab: Lab,
        link: &Rc<HandlerLink>,
    ) -> Self {
        let ratio = lab.ratio;
        let sheddable = Threshold::ratio(ratio);
        let critical = Threshold::ratio(ratio + 2.0 * (1.0 - ratio) / 3.0);
        let has_classes = scenario.phases.iter().any(|phase| phase.critical > 0.0);
        let mut layer = LoadShed::ratio(ratio)
            .budget(&budget)
            .retry_after(scenario.retry_after);
        let LayerOptions { cost, fair_by, key } = lab.layer_options;
        let tenant = |head: &Request<()>| head.extensions().get().map(|draw: &Draw| draw.tenant);
        if cost {
            layer = layer.cost(|head| {
                head.extensions()
                    .get()
                    .map_or(1, |draw: &Draw| draw.units as usize)
            });
        }
        if fair_by {
            layer = layer.fair_by(tenant).seed(lab.seed);
        }
        if key {
            // The default rotation follows the hour of the wall clock, so runs would not be repeatable.
            layer = layer.key_with_rotation(tenant, move || lab.seed);
        }
        if has_classes {
            layer = layer.threshold(move |head| match *head.method() {
                Method::GET => critical,
                _ => sheddable,
            });
        }
        let server = scenario.server;
        let station = match server.station {
            Station::Pool => Some(StationState::Pool(Pool::new(server.workers))),
            Station::Shared { thrash } => {
                Some(StationState::Shared(Shared::new(server.workers, thrash)))
            }
            Station::None => None,
        };
        Self {
            admission: Admission {
                path: lab.path,
                layer_options: lab.layer_options,
                retry_delay: scenario.callers.retry_delay,
                service: layer.layer(Handler(Rc::clone(link))),
                sheddable,
                critical,
            },
            budget,
            station,
            finish: None,
        }
    }

    /// Admits a call, or returns the retry hint of the refusal.
    pub(crate) fn admit(&mut self, draw: &Draw) -> Result<Admitted, Duration> {
        let admission = &mut self.admission;
        if admission.path == AdmissionPath::Budget {
            let threshold = match draw.critical {
                true => admission.critical,
                false => admission.sheddable,
            };
            return match self.budget.try_acquire(threshold) {
                Ok(permit) => Ok(Admitted::Permit(permit)),
                // On this path no caller follows the hint: see `AdmissionPath::Budget`.
                Err(_) => Err(Duration::ZERO),
            };
        }
        let mut request = request(draw, admission.retry_delay);
        if admission.layer_options != LayerOptions::default() {
            request.extensions_mut().insert(*draw);
        }
        let mut response = Box::pin(admission.service.call(request));
        match response.as_mut().poll(&mut context()) {
            Poll::Pending => Ok(Admitted::Response(response)),
            Poll::Ready(response) => {
                let shed = response.map(|response| response.extensions().get::<Shed>().cloned());
                let shed = shed.unwrap_or_else(|never| match never {});
                Err(hint(
                    &shed.expect("a refusal carries its `Shed`"),
                    admission.retry_delay,
                ))
            }
        }
    }
}

impl Service<Request<EmptyBody>> for Handler {
    type Response = Response<EmptyBody>;
    type Error = Infallible;
    type Future = Completion;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<EmptyBody>) -> Completion {
        Completion {
            call: self.0.entering.get(),
            link: Rc::clone(&self.0),
        }
    }
}

impl Future for Completion {
    type Output = Result<Response<EmptyBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        if self.link.completed.get() == self.call {
            return Poll::Ready(Ok(Response::new(EmptyBody)));
        }
        Poll::Pending
    }
}

impl Body for EmptyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

/// Returns the retry hint as a caller reads it: over HTTP in whole seconds, over gRPC to the millisecond.
fn hint(shed: &Shed, retry_delay: RetryDelay) -> Duration {
    match retry_delay {
        RetryDelay::HintMilliseconds => shed.retry_after(),
        _ => Duration::from_secs(shed.retry_after_secs()),
    }
}

/// Creates the request of a call: GET for CRITICAL calls and POST for the others; gRPC where callers read hints in
/// milliseconds.
fn request(draw: &Draw, retry_delay: RetryDelay) -> Request<EmptyBody> {
    let mut request = Request::new(EmptyBody);
    if retry_delay == RetryDelay::HintMilliseconds {
        let grpc = HeaderValue::from_static("application/grpc");
        request.headers_mut().insert(CONTENT_TYPE, grpc);
    }
    if !draw.critical {
        *request.method_mut() = Method::POST;
    }
    request
}

pub(crate) fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

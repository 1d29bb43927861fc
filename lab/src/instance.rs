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
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header::CONTENT_TYPE};
use http_body::Body;
use loadshed::{Budget, LoadShed, LoadShedService, Permit, ResponseFuture, Shed, Threshold};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    options::{AdmissionPath, Lab, LayerOptions},
    random::Draw,
    scenario::{
        callers::{Callers, RetryDelay},
        kind::{Answer, Kind},
        scenario::Scenario,
        server::{Server, Station},
    },
    station::{CallId, Nanos, Pool, Shared, StationState},
};

/// One server of a scenario: its budget, its layer and its stations.
pub(crate) struct Instance {
    pub(crate) budget: Budget,
    admission: Admission,
    pub(crate) stations: Vec<Workplace>,
}

/// A station, and the kind whose workers it has.
pub(crate) struct Workplace {
    pub(crate) owner: usize,
    pub(crate) state: StationState,
    /// When the station finishes its next call.
    pub(crate) finish: Option<Nanos>,
}

/// How a call is admitted: the layer, or the thresholds for the path without it.
struct Admission {
    path: AdmissionPath,
    layer_options: LayerOptions,
    senders: Vec<Sender>,
    service: LoadShedService<Handler>,
    sheddable: Threshold,
    critical: Threshold,
}

/// What an admitted call holds until it completes or times out.
pub(crate) enum Admitted {
    Response(Pin<Box<ResponseFuture<Handler, EmptyBody>>>),
    Permit(Permit),
}

/// How callers of a kind send requests and read hints.
struct Sender {
    uri: Uri,
    retry_delay: RetryDelay,
    /// The value of `grpc-timeout`.
    timeout: Option<HeaderValue>,
}

/// Connects the simulation to its handlers, which are called and polled by the layer.
#[derive(Debug, Default)]
pub(crate) struct HandlerLink {
    /// The call that enters the layer.
    pub(crate) entering: Cell<CallId>,
    /// The call whose work is done.
    pub(crate) completed: Cell<CallId>,
    /// Its response.
    pub(crate) response: Cell<Option<Answer>>,
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
        let has_classes = scenario
            .phases
            .iter()
            .any(|phase| phase.kinds.iter().any(|kind| kind.critical > 0.0));
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
        let owns = |(nth, kind): (usize, &Kind)| {
            let state = kind.shares.is_none().then(|| station(&kind.server))??;
            Some(Workplace {
                owner: nth,
                state,
                finish: None,
            })
        };
        Self {
            admission: Admission {
                path: lab.path,
                layer_options: lab.layer_options,
                senders: scenario.kinds.iter().map(Sender::new).collect(),
                service: layer.layer(Handler(Rc::clone(link))),
                sheddable,
                critical,
            },
            budget,
            stations: scenario.kinds.iter().enumerate().filter_map(owns).collect(),
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
        let sender = &admission.senders[draw.kind];
        let mut request = sender.request(draw);
        if admission.layer_options != LayerOptions::default() {
            request.extensions_mut().insert(*draw);
        }
        let mut response = Box::pin(admission.service.call(request));
        match response.as_mut().poll(&mut context()) {
            Poll::Pending => Ok(Admitted::Response(response)),
            Poll::Ready(response) => {
                let shed = response.map(|response| response.extensions().get::<Shed>().cloned());
                let shed = shed.unwrap_or_else(|never| match never {});
                Err(sender.hint(&shed.expect("a refusal carries its `Shed`")))
            }
        }
    }
}

impl HandlerLink {
    fn response(&self) -> Response<EmptyBody> {
        let mut response = Response::new(EmptyBody);
        match self.response.get() {
            None => {}
            Some(Answer::Status(status)) => {
                let status = StatusCode::from_u16(status);
                *response.status_mut() = status.expect("a kind has valid statuses");
            }
            Some(Answer::Grpc(code)) => {
                let grpc = HeaderValue::from_static("application/grpc");
                response.headers_mut().insert(CONTENT_TYPE, grpc);
                response.headers_mut().insert("grpc-status", code.into());
            }
        }
        response
    }
}

impl Workplace {
    /// Updates when the station finishes its next call.
    pub(crate) fn schedule_finish(&mut self, now: Nanos) {
        self.finish = self.state.next().map(|at| at.max(now));
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
            return Poll::Ready(Ok(self.link.response()));
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

impl Sender {
    fn new(kind: &Kind) -> Self {
        let Callers {
            timeout,
            states_timeout,
            retry_delay,
            ..
        } = kind.callers;
        let header = || HeaderValue::from_str(&format!("{}m", timeout.as_millis()));
        Self {
            uri: Uri::try_from(&*kind.path).expect("a kind has a valid path"),
            retry_delay,
            timeout: states_timeout.then(|| header().expect("a number is a valid header")),
        }
    }

    /// Returns the retry hint as a caller reads it: over HTTP in whole seconds, over gRPC to the millisecond.
    fn hint(&self, shed: &Shed) -> Duration {
        match self.retry_delay {
            RetryDelay::HintMilliseconds => shed.retry_after(),
            _ => Duration::from_secs(shed.retry_after_secs()),
        }
    }

    /// Creates the request of a call: GET for CRITICAL calls and POST for the others; gRPC where callers state their timeout or
    /// read hints in milliseconds.
    fn request(&self, draw: &Draw) -> Request<EmptyBody> {
        let mut request = Request::new(EmptyBody);
        request.uri_mut().clone_from(&self.uri);
        if self.timeout.is_some() || self.retry_delay == RetryDelay::HintMilliseconds {
            let grpc = HeaderValue::from_static("application/grpc");
            request.headers_mut().insert(CONTENT_TYPE, grpc);
        }
        if let Some(timeout) = &self.timeout {
            request
                .headers_mut()
                .insert("grpc-timeout", timeout.clone());
        }
        if !draw.critical {
            *request.method_mut() = Method::POST;
        }
        request
    }
}

/// Returns the idle station of a server, if the server has one.
fn station(server: &Server) -> Option<StationState> {
    match server.station {
        Station::Pool => Some(StationState::Pool(Pool::new(server.workers))),
        Station::Shared { thrash } => {
            Some(StationState::Shared(Shared::new(server.workers, thrash)))
        }
        Station::None => None,
    }
}

pub(crate) fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

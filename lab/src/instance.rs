//! One server behind the real layer.

use std::{future::Future, pin::Pin, rc::Rc, task::Poll, time::Duration};

use http::{Method, Request};
use http_body::Body;
use loadshed::{
    Budget, LoadShed, LoadShedService, Permit, ResponseBody, ResponseFuture, Shed, Threshold,
};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    handler::{Handler, HandlerLink, NoData, context},
    options::{AdmissionPath, Lab, LayerOptions},
    random::Draw,
    scenario::{
        kind::Kind,
        scenario::Scenario,
        server::{Server, Station},
    },
    sender::Sender,
    station::{Nanos, Pool, Shared, StationState},
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
    Response(Pin<Box<ResponseFuture<Handler, NoData>>>),
    Body(Pin<Box<ResponseBody<NoData>>>),
    Permit(Permit),
}

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
            .retry_after(scenario.retry_after)
            .measure(scenario.measure);
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

impl Admitted {
    /// Takes the head of a response, whose body goes on. Without the layer there is none.
    pub(crate) fn take_head(self) -> Self {
        match self {
            Self::Response(mut response) => match response.as_mut().poll(&mut context()) {
                Poll::Ready(Ok(response)) => Self::Body(Box::pin(response.into_body())),
                Poll::Ready(Err(never)) => match never {},
                Poll::Pending => unreachable!("a handler whose work is done is ready"),
            },
            other => other,
        }
    }

    /// Takes all that is left of a response.
    pub(crate) fn complete(self) {
        match self {
            Self::Permit(permit) => permit.succeeded(),
            Self::Body(mut body) => {
                let polled = body.as_mut().poll_frame(&mut context());
                assert!(polled.is_ready(), "a body that ends is ready");
            }
            Self::Response(mut response) => {
                let polled = response.as_mut().poll(&mut context());
                assert!(polled.is_ready(), "a handler whose work is done is ready");
            }
        }
    }
}

impl Workplace {
    /// Updates when the station finishes its next call.
    pub(crate) fn schedule_finish(&mut self, now: Nanos) {
        self.finish = self.state.next().map(|at| at.max(now));
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

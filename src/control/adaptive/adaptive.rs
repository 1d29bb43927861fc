#[cfg(test)]
pub(crate) mod tests;

use std::{ops::RangeInclusive, time::Duration};

use super::{
    machine::{Allowance, Machine, UNKNOWN},
    probe_from_below::ProbeFromBelow,
};
use crate::control::{
    controller::{CLIENT_TIMEOUTS, Controller, Decision, Learned, Sample, Window},
    overtaking::{Held, Overtaking},
    range::{Range, range_settings},
    reason::adaptive as reason,
};
use crate::support::invalid::{InvalidSetting, expect_valid};
#[cfg(feature = "serde")]
use crate::support::seconds;

/// The default controller of a learned budget. It needs no settings.
///
/// # Model
///
/// A server has a knee `K`: up to `K` requests in flight, each further request adds throughput. Above the knee, each further
/// request only waits in the server's queue. By Little's law (1961), and with a margin as long as chance makes a queue:
///
/// ```text
/// K = X × S                      X: throughput, in successes per second; S: service time, the latency without a queue
/// Q = X × (W − S)                Q: requests in the queue; W: latency
/// m = 2 × √(K × (1 + c²) / 2)    m: margin, in requests; c: coefficient of variation of the service time
/// ```
///
/// The controller keeps `K + m` requests in flight. It measures `X` and `W`. `S` cannot be measured while there is a queue,
/// so the controller probes: it lowers the limit below the knee until the queue is gone. The latency of the requests that
/// are admitted then is `S`. If the latency does not fall, there was no queue: the server is slow, and the limit rises.
///
/// # States
///
/// Each change of the limit has one of these reasons ([`LimitChange::reason`](crate::LimitChange::reason)). `T` is the
/// [client timeout](#client-timeout).
///
/// | reason | limit, in requests that have not responded | begins when |
/// | --- | --- | --- |
/// | `unlimited` | [`max`](Self::max) | at the start, while nothing reports an overload |
/// | `no responses` | 16 or less, halved each time it does not help | at least 16 callers have cancelled, and as many as requests are in flight; fewer than 4 requests have succeeded since the start |
/// | `burst guard` | `X × max(0.7 × T, 3 × S)`; in a flood that its arrivals tell `X × 16 × S`, if that is less | more requests than that are in flight for `S`, or a queue lasts for `S` at `max`; or arrivals have doubled, and 2.5 times as many arrive as complete, for `2 × S` |
/// | `probing` | `0.8 × K`, and half of the best `K` where most callers cancel; halved until `S` is found | a queue has lasted for 1 s or `3 × S`, whichever is longer; most callers cancel before the response; or the last probe is 5 s, or 15 times its duration, old |
/// | `probing from below` | 1 to 16 more than are in flight | requests are refused, and no request was admitted for 1.5 s (`1.5 × T` above 1 s) or `8 × S` |
/// | `probe complete` | `K + m` | a probe has found `S` |
/// | `tracking` | moves by `(m − Q) / 2` a step, while requests are refused | after a probe |
/// | `recovering` | × 1.25 a step | the limit is below 0.7 of the best `K`, and `W < 1.2 × S` |
/// | `recovered` | `max` | `3 s + 3 × S` without a refusal, with responses as usual |
///
/// - The first probe after the start may keep up to a quarter of the requests in flight, as `S` is provisional then.
/// - Probes cost about 1.3 % of the throughput.
/// - With a ratio below 1, the limit is as much higher: requests of the lowest ratio are refused at the numbers above.
/// - A limit set by [`Budget::set_limit`](crate::Budget::set_limit) holds until
///   [`resume_learning`](crate::Budget::resume_learning). The controller then starts anew from that limit.
/// - Requests that have responded and still hold their permit, for a body that is being sent or a
///   [`Permit`](crate::Permit::responded), are not in the queue. The limit is higher by their number. Where the work is done
///   while the body is sent, use [`Measure::Body`](crate::Measure::Body).
/// - Requests that later ones have overtaken are *held*: a long poll, an export, an upload, a call that hangs. No request passes
///   another in a queue, so they are in none. The limit is higher by their number, and by the number expected until they are
///   found: together with the requests that have responded by at most 4 × the limit, 1,024, or as many as were in flight before there
///   was a limit, whichever is most. A held request
///   was overtaken by at least 4 others, and is at least 1.5 s old, or `1.5 × T` where `T` is longer than 1 s (at most 30 s).
/// - A cancelled request and an overload response both count as a caller that did not get its response.
///   [`Outcome`](crate::control::Outcome) defines them. Sooner than `S ÷ 2` they say nothing: no queue is that short.
///
/// # Client timeout
///
/// A burst may queue for 0.7 of the time that callers wait. That time is known from the first of these that there is:
///
/// 1. The setting [`client_timeout`](Self::client_timeout).
/// 2. The median of the timeouts that requests state by gRPC's `grpc-timeout` ([`Sample::client_timeout`]), where at least half of
///    the latest 256 or so measured requests state one. So a minority of callers neither shortens nor lengthens the queue of the
///    others. A timeout above 2 s counts as 2 s, as it may be no more than a safeguard: only the setting allows a longer queue.
/// 3. The time after which callers are seen to cancel: 1 s at first, and at most.
///
/// [`Learned`] shows the state, `S`, `K` and the held requests, in a snapshot and with each change.
///
/// The project's `docs/adaptive.md` explains how to operate a learned budget, and when not to use one; `lab/ALGORITHM.md` has the rules, and
/// `docs/lab/evaluation.md` the measurements.
///
/// ```
/// use std::time::Duration;
/// use loadshed::{Adaptive, Budget};
///
/// let budget = Budget::new(Adaptive::default().initial(64).min(4).max(2_000));
/// assert_eq!(budget.limit(), 64);
///
/// // Callers that give up after 100 ms.
/// let budget = Budget::new(Adaptive::default().client_timeout(Duration::from_millis(100)));
/// ```
///
/// With the feature `serde` the settings can be read from a file. Each of them may be absent, and an unknown field is an error.
/// `client_timeout` is in seconds.
///
/// ```
/// # #[cfg(feature = "serde")] {
/// # use loadshed::{Adaptive, Budget};
/// let controller: Adaptive = toml::from_str("min = 4\nmax = 2000\ninitial = 64\nclient_timeout = 0.5").unwrap();
/// assert_eq!(Budget::new(controller).limit(), 64);
/// # }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Deserialize),
    serde(try_from = "Fields")
)]
#[must_use]
pub struct Adaptive {
    range: Range,
    machine: Machine,
    /// The requests beyond the target: they have responded or are held, and keep their permit.
    responded: f64,
    /// The requests in flight when there was no limit last.
    before: f64,
    overtaking: Overtaking,
    /// The held requests, as of the latest window.
    held: Held,
    probe_from_below: ProbeFromBelow,
    /// The samples of a window that are not held: kept for its memory.
    samples: Vec<Sample>,
}

/// More requests than a process has sockets for, by default on Linux.
const CEILING: usize = 1 << 16;

/// The requests that are held or have responded raise the limit by their number, up to so many times the requests that wait, or to
/// so many: else what does not end would fill the memory. Or to as many as came before there was a limit: they are no
/// reason to refuse all others.
const MOST_BESIDE: f64 = 4.0;
const MANY_BESIDE: f64 = 1_024.0;

/// The least age of a request that is held, in seconds: twice the longest queue that the controller lets stand, 0.7 s. At 1 s a
/// queue was taken for held requests, at 3 s requests to a model were refused.
const FENCE: f64 = 1.5;

/// The longest client timeout that makes the fence longer, in seconds: requests that are older than two minutes are not told apart.
const LONGEST_QUEUE: f64 = 20.0;

/// How soon a flood is seen: 10 times what a server carries fills a queue of 0.1 s meanwhile.
const WINDOW: Duration = Duration::from_millis(10);

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            // One request must always run, or nothing would ever be learned again.
            range: Range::new(CEILING, 1, CEILING),
            machine: Machine::new(None),
            responded: 0.0,
            before: 0.0,
            overtaking: Overtaking::default(),
            held: Held::default(),
            probe_from_below: ProbeFromBelow::default(),
            samples: Vec::new(),
        }
    }
}

impl Adaptive {
    /// Upwards at once: a permit too many does no harm, one too few may refuse all requests. Downwards not at every step: each is a
    /// change of the limit.
    fn follow_responded(&mut self, responded: f64, waiting: f64) {
        let slack = (waiting / 16.0).max(1.0);
        let bound = (MOST_BESIDE * waiting).max(MANY_BESIDE);
        let responded = responded.min(bound.max(self.before));
        if responded > self.responded || self.responded - responded > slack {
            self.responded = responded;
        }
    }

    /// Sets how long callers wait for a response. By default the controller goes by the `grpc-timeout` of the requests, else by
    /// when callers are seen to cancel: [client timeout](Self#client-timeout).
    ///
    /// A burst may queue for 0.7 of it. Where it is shorter than 1 s, a burst is stopped before its callers have gone; where it
    /// is longer, more of a burst is served.
    ///
    /// # Panics
    ///
    /// If `timeout` is less than 1 ms or more than 1 h. [`try_client_timeout`](Self::try_client_timeout) returns an error instead.
    #[track_caller]
    pub fn client_timeout(self, timeout: Duration) -> Self {
        expect_valid(self.try_client_timeout(timeout))
    }

    /// [`client_timeout`](Self::client_timeout) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `timeout` is less than 1 ms or more than 1 h.
    pub fn try_client_timeout(mut self, timeout: Duration) -> Result<Self, InvalidSetting> {
        if !CLIENT_TIMEOUTS.contains(&timeout) {
            let given = format_args!("{timeout:?}");
            return Err(InvalidSetting::new(
                "client timeout",
                given,
                "from 1 ms to 1 h",
            ));
        }
        self.machine = Machine::new(Some(timeout.as_secs_f64()));
        Ok(self)
    }

    range_settings!(
        initial: "[`max`](Self::max). It holds until the first responses have arrived, or enough callers have cancelled",
        min: "1",
        max: "65,536"
    );
}

/// The settings in a file.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    initial: Option<usize>,
    min: Option<usize>,
    max: Option<usize>,
    client_timeout: Option<f64>,
}

#[cfg(feature = "serde")]
impl TryFrom<Fields> for Adaptive {
    type Error = InvalidSetting;

    fn try_from(fields: Fields) -> Result<Self, Self::Error> {
        let mut adaptive = Self::default();
        adaptive.range = adaptive
            .range
            .configured(fields.initial, fields.min, fields.max)?;
        match fields.client_timeout {
            Some(timeout) => {
                let timeout =
                    seconds::duration("client timeout", timeout, "from 0.001 s to 3600 s")?;
                adaptive.try_client_timeout(timeout)
            }
            None => Ok(adaptive),
        }
    }
}

impl Controller for Adaptive {
    fn limits(&self) -> RangeInclusive<usize> {
        self.range.limits()
    }

    fn initial_limit(&self) -> usize {
        self.range.initial()
    }

    fn window(&self) -> Duration {
        WINDOW
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        let service = self.machine.service_time();
        // The queue that is let stand is as much longer.
        let fence = FENCE * self.machine.timeout.seconds().clamp(1.0, LONGEST_QUEUE);
        let held = self.overtaking.observe(window, service, fence);
        self.held = held;
        let shown = without(&held, window, &mut self.samples);
        let service = service.unwrap_or(UNKNOWN);
        let probe = self
            .probe_from_below
            .due(&shown, held.admitted, service, fence);
        let responded = shown.responded as f64;
        let (allowance, reason) = self.machine.update(&shown);
        let limit = match allowance {
            Allowance::Unchanged => {
                if window.limit == *self.range.limits().end() {
                    self.before = window.in_flight as f64;
                }
                window.limit
            }
            Allowance::Unlimited => {
                self.before = window.in_flight as f64;
                return Decision::new(*self.range.limits().end(), reason);
            }
            // It fits: an `f64` beyond is cut to the largest `usize`.
            Allowance::Waiting(waiting) => {
                self.follow_responded(responded, waiting);
                let wanted = self.machine.ratio.limit(waiting + self.responded) as usize;
                let limit = self.range.clamp(wanted);
                self.machine.keep_within((limit < wanted).then_some(limit));
                limit
            }
        };
        let Some(more) = probe else {
            return Decision::new(limit, reason);
        };
        let more = self
            .machine
            .ratio
            .limit_that_admits(window.in_flight as f64 + more) as usize;
        match limit < more {
            true => Decision::new(self.range.clamp(more), reason::PROBING_FROM_BELOW),
            false => Decision::new(limit, reason),
        }
    }

    fn restart(&mut self) {
        *self = Self {
            range: self.range,
            machine: self.machine.anew(),
            ..Self::default()
        };
    }

    /// The service time and the knee are shown from the first estimate on, as the controller acts on it.
    fn learned(&self) -> Option<Learned> {
        let known = self.machine.estimates();
        let mut learned = Learned::new(self.machine.state());
        learned.service_time =
            known.and_then(|known| Duration::try_from_secs_f64(known.service).ok());
        learned.knee = known.map(|known| known.knee().round().max(1.0) as usize);
        learned.held = self.held.in_flight.round() as usize;
        learned.expected_held = self.held.expected.round() as usize;
        Some(learned)
    }
}

/// Returns a window in which held requests count as responded.
fn without<'a>(held: &Held, window: &Window<'a>, samples: &'a mut Vec<Sample>) -> Window<'a> {
    let mut shown = *window;
    let beside = (held.in_flight + held.expected).round() as usize;
    shown.responded += beside.min(window.waiting());
    shown.completed -= (held.completed.round() as usize).min(window.completed);
    samples.clear();
    if window.samples.iter().any(|sample| held.is_held(sample)) {
        let others = window.samples.iter().filter(|sample| !held.is_held(sample));
        samples.extend(others);
        shown.samples = samples;
    }
    shown
}

//! The queue against a plain model: after any sequence of events, both have the same counts, and each call the same fate.

use loadshed::{Budget, LoadShed, Threshold};
use proptest::prelude::*;
use tokio::task::unconstrained;

use super::{Answer, Call, Now, Server, ms, pass, support::paused};

const MOST: usize = 3;
const LONGEST: u64 = 40;
const SHORTER: u64 = LONGEST / 20;

#[derive(Clone, Copy, Debug)]
struct Arrival {
    percent: u32,
    units: u32,
    deadline: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Arrive(Arrival),
    /// A served request.
    Finish(usize),
    /// A queued request.
    GiveUp(usize),
    Pass(u64),
    SetLimit(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let percent = prop::sample::select(vec![40, 70, 100]);
    let units = prop_oneof![3 => Just(1), 1 => 2_u32..12];
    let deadline = prop_oneof![5 => Just(None), 1 => (0..60_u64).prop_map(Some)];
    let arrival = (percent, units, deadline).prop_map(|(percent, units, deadline)| Arrival {
        percent,
        units,
        deadline,
    });
    prop_oneof![
        8 => arrival.prop_map(Op::Arrive),
        4 => any::<usize>().prop_map(Op::Finish),
        1 => any::<usize>().prop_map(Op::GiveUp),
        3 => (1..15_u64).prop_map(Op::Pass),
        1 => (15..90_u64).prop_map(Op::Pass),
        1 => (1..12_u32).prop_map(Op::SetLimit),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waits,
    Served,
    Refused,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    nth: usize,
    arrival: Arrival,
    until: u64,
}

/// No atomics, no futures, no sorted order: each operation scans all waiters.
struct Model {
    now: u64,
    limit: u32,
    in_flight: u32,
    fates: Vec<Fate>,
    queue: Vec<Waiter>,
    since: Option<u64>,
    given_up: Option<u64>,
}

impl Model {
    fn cap(&self, percent: u32) -> u32 {
        (percent * self.limit / 100).max(1)
    }

    /// The limit may have been lowered since the request arrived.
    fn fits(&self, Arrival { percent, units, .. }: Arrival) -> bool {
        self.in_flight == 0 || self.in_flight + units <= self.cap(percent)
    }

    fn is_standing(&self) -> bool {
        self.since.is_some_and(|since| self.now - since > LONGEST)
    }

    fn arrive(&mut self, arrival: Arrival) {
        let nth = self.fates.len();
        self.fates.push(Fate::Refused);
        let is_before = |waiter: &Waiter| waiter.arrival.percent >= arrival.percent;
        if !self.queue.iter().any(is_before) && self.fits(arrival) {
            self.in_flight += arrival.units;
            self.fates[nth] = Fate::Served;
            return;
        }
        if arrival.deadline == Some(0) || self.queue.len() == MOST && !self.evict(arrival.percent) {
            return;
        }
        if self.queue.is_empty() {
            let given_up = self.given_up.take();
            if given_up.is_none_or(|at| self.now - at > LONGEST) {
                self.since = Some(self.now);
            }
        }
        let bound = if self.is_standing() { SHORTER } else { LONGEST };
        let bound = arrival.deadline.map_or(bound, |left| left.min(bound));
        let until = self.now + bound;
        self.queue.push(Waiter {
            nth,
            arrival,
            until,
        });
        self.fates[nth] = Fate::Waits;
        self.serve();
    }

    fn evict(&mut self, percent: u32) -> bool {
        let lowest = self.queue.iter().map(|waiter| waiter.arrival.percent).min();
        if lowest.is_none_or(|lowest| lowest >= percent) {
            return false;
        }
        let same = self
            .queue
            .iter()
            .filter(|waiter| Some(waiter.arrival.percent) == lowest);
        let nth = same.map(|waiter| waiter.nth);
        let evicted = if self.is_standing() {
            nth.min()
        } else {
            nth.max()
        };
        self.leave(evicted.unwrap(), Fate::Refused);
        true
    }

    fn leave(&mut self, nth: usize, fate: Fate) {
        self.queue.retain(|waiter| waiter.nth != nth);
        self.fates[nth] = fate;
        if self.queue.is_empty() {
            (self.since, self.given_up) = match fate {
                Fate::Served => (None, None),
                _ => (self.since, Some(self.now)),
            };
        }
    }

    fn serve(&mut self) {
        while let Some(highest) = self.queue.iter().map(|waiter| waiter.arrival.percent).max() {
            let same = self
                .queue
                .iter()
                .filter(|waiter| waiter.arrival.percent == highest);
            let first = if self.is_standing() {
                same.max_by_key(|waiter| waiter.nth)
            } else {
                same.min_by_key(|waiter| waiter.nth)
            };
            let Waiter {
                nth,
                arrival,
                until,
            } = *first.unwrap();
            if until <= self.now {
                self.leave(nth, Fate::Refused);
            } else if self.fits(arrival) {
                self.in_flight += arrival.units;
                self.leave(nth, Fate::Served);
            } else {
                return;
            }
        }
    }

    fn release(&mut self, units: u32) {
        self.in_flight -= units;
        self.serve();
    }

    /// Returns the fate of a request that is polled.
    fn poll(&mut self, nth: usize) -> Fate {
        let is_late = |waiter: &&Waiter| waiter.nth == nth && waiter.until <= self.now;
        if self.queue.iter().find(is_late).is_some() {
            self.leave(nth, Fate::Refused);
            self.serve();
        }
        self.fates[nth]
    }
}

struct System {
    budget: Budget,
    server: Server,
    model: Model,
    waiting: Vec<(usize, Arrival, Call)>,
    served: Vec<(Arrival, Answer)>,
}

impl System {
    fn new() -> Self {
        let budget = Budget::fixed(6);
        let part = |head: &http::Request<()>, nth| -> u64 {
            head.uri()
                .path()
                .split('/')
                .nth(nth)
                .unwrap()
                .parse()
                .unwrap()
        };
        let shed = LoadShed::ratio(1.0)
            .budget(&budget)
            .threshold(move |head| Threshold::ratio(part(head, 1) as f64 / 100.0))
            .cost(move |head| part(head, 2) as usize)
            .wait_deadline(move |head| Some(ms(part(head, 3))).filter(|left| *left < ms(1_000)))
            .wait(MOST, ms(LONGEST));
        Self {
            budget,
            server: Server::new(shed),
            model: Model {
                now: 0,
                limit: 6,
                in_flight: 0,
                fates: Vec::new(),
                queue: Vec::new(),
                since: None,
                given_up: None,
            },
            waiting: Vec::new(),
            served: Vec::new(),
        }
    }

    async fn apply(&mut self, op: Op) {
        match op {
            Op::Arrive(mut arrival) => {
                let nth = self.model.fates.len();
                let Arrival {
                    percent,
                    units,
                    deadline,
                } = arrival;
                // A request costs at most its cap at its arrival.
                arrival.units = units.min(self.model.cap(percent));
                self.model.arrive(arrival);
                let left = deadline.unwrap_or(1_000);
                let call = self.server.call(&format!("/{percent}/{units}/{left}"));
                self.waiting.push((nth, arrival, call));
            }
            Op::Finish(at) => {
                if let Some(at) = at.checked_rem(self.served.len()) {
                    let (Arrival { units, .. }, answer) = self.served.swap_remove(at);
                    self.model.release(units);
                    drop(answer);
                }
            }
            Op::GiveUp(at) => {
                if let Some(at) = at.checked_rem(self.waiting.len()) {
                    let (nth, _, call) = self.waiting.remove(at);
                    self.model.leave(nth, Fate::Refused);
                    self.model.serve();
                    drop(call);
                }
            }
            Op::Pass(millis) => {
                self.model.now += millis;
                pass(millis).await;
            }
            Op::SetLimit(limit) => {
                self.model.limit = limit;
                self.model.serve();
                self.budget.set_limit(limit as usize).unwrap();
            }
        }
        // The first poll removes late waiters. Later polls find the waiters behind them admitted.
        for _ in 0..=MOST {
            self.poll();
        }
    }

    fn poll(&mut self) {
        let mut waiting = Vec::new();
        for (nth, arrival, mut call) in self.waiting.drain(..) {
            let expected = self.model.poll(nth);
            let found = match call.now() {
                Now::Waits => {
                    waiting.push((nth, arrival, call));
                    Fate::Waits
                }
                Now::Served(answer) => {
                    self.served.push((arrival, answer));
                    Fate::Served
                }
                Now::Refused(_) => Fate::Refused,
            };
            assert_eq!(found, expected, "{arrival:?}");
        }
        self.waiting = waiting;
    }

    fn invariants(&self) {
        let (model, now) = (&self.model, self.budget.snapshot());
        assert_eq!(now.in_flight, model.in_flight as usize);
        assert_eq!(now.waiting, model.queue.len());
        assert!(now.waiting <= MOST);
        // The first waiter does not fit.
        let highest = model
            .queue
            .iter()
            .map(|waiter| waiter.arrival.percent)
            .max();
        let mut first = model
            .queue
            .iter()
            .filter(|waiter| Some(waiter.arrival.percent) == highest);
        assert!(highest.is_none() || first.any(|waiter| !model.fits(waiter.arrival)));
        let served = model.fates.iter().filter(|fate| **fate == Fate::Served);
        assert_eq!(now.admitted, served.count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_queue_and_a_plain_model_agree_after_every_step(ops in prop::collection::vec(op(), 1..80)) {
        paused().block_on(unconstrained(async {
            let mut system = System::new();
            for op in ops {
                system.apply(op).await;
                system.invariants();
            }
            let budget = system.budget.clone();
            drop(system);
            let now = budget.snapshot();
            assert_eq!((now.in_flight, now.waiting), (0, 0), "all is released");
        }));
    }
}

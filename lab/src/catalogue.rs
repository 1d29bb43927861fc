//! The catalogue of scenarios that the evaluator runs.

use std::time::Duration;

use crate::{
    scenario::{
        callers::{Callers, RetryDelay},
        load::Load,
        phase::{Conditions, Phase},
        scenario::Scenario,
        server::{Server, Station, Times},
    },
    size::{Length, Size},
};

/// The usual mean response time of a dependency. 30 times as much is 0.75 s, less than the client timeout of 1 s.
const DEPENDENCY: Duration = Duration::from_millis(25);

/// Returns all scenarios for a server of this size.
#[must_use]
pub fn scenarios(size: Size, length: Length) -> Vec<Scenario> {
    let mut all = Vec::new();
    for times in [Times::Fixed, Times::Exponential] {
        let suffix = match times {
            Times::Exponential => "exponential",
            _ => "fixed",
        };
        let catalogue = Catalogue {
            size,
            length,
            times,
        };
        all.extend(catalogue.scenarios().into_iter().map(|mut scenario| {
            scenario.name = format!("{}, {suffix}", scenario.name);
            scenario
        }));
    }
    all.push(bimodal(size, length));
    all
}

#[derive(Clone, Copy)]
struct Catalogue {
    size: Size,
    length: Length,
    times: Times,
}

impl Catalogue {
    fn scenarios(self) -> Vec<Scenario> {
        let mut all = Vec::new();
        all.extend([0.3, 0.6, 0.8].map(|load| self.healthy(load)));
        all.extend([1.25, 3.0, 6.0, 10.0].map(|load| self.step("step", self.pool(), load)));
        all.extend([1.25, 3.0].map(|load| self.sustained(load)));
        all.push(self.cold_start());
        all.extend([0.8, 1.25].map(|load| self.capacity_drop(load)));
        all.extend([self.slow_dependency(), self.slowing_dependency()]);
        all.push(self.slow_then_saturated());
        all.extend([2.0, 10.0].map(|load| self.slow_in_overload(load)));
        all.extend([0.6, 3.0].map(|load| self.hangs(load)));
        all.extend([self.bursts(), self.lull()]);
        all.extend(
            [RetryDelay::Short, RetryDelay::HintSeconds]
                .map(|retry_delay| self.retry_storm(retry_delay)),
        );
        all.extend([0.8, 3.0].map(|load| self.cancellations(load)));
        if self.size >= Size::Medium {
            all.push(self.classes());
        }
        all.push(self.fleet());
        for (name, thrash) in [
            ("shared", 0.0),
            ("thrash, gentle", 0.2),
            ("thrash, steep", 1.0),
        ] {
            let station = Station::Shared { thrash };
            let server = Server {
                station,
                ..self.pool()
            };
            all.extend([1.25, 3.0].map(|load| self.step(name, server, load)));
        }
        all.push(self.barely_over());
        all
    }

    fn pool(self) -> Server {
        self.size.pool(self.times)
    }

    /// Returns a pool whose calls wait for a dependency first.
    fn with_dependency(self) -> Server {
        Server {
            dependency: Some(DEPENDENCY),
            ..self.pool()
        }
    }

    /// Returns the duration of a phase in seconds, shortened by [`Length`] and size.
    fn shortened(self, seconds: f64) -> f64 {
        match (self.length, self.size) {
            (Length::Short, Size::Large) => (seconds / 10.0).clamp(5.0, 10.0),
            (Length::Short, _) | (Length::Full, Size::Large) => (seconds / 2.0).clamp(30.0, 60.0),
            (Length::Full, _) => seconds,
        }
    }

    fn healthy(self, load: f64) -> Scenario {
        Scenario::new(format!("healthy {load} ×"), self.pool()).then(Phase::new(
            "healthy",
            self.shortened(600.0),
            load,
        ))
    }

    fn step(self, name: &str, server: Server, load: f64) -> Scenario {
        Scenario::new(format!("{name} {load} ×"), server)
            .then(Phase::new("before", self.shortened(60.0), 0.5))
            .then(Phase::new("over", self.shortened(120.0), load))
            .then(Phase::new("after", self.shortened(60.0), 0.5))
    }

    fn sustained(self, load: f64) -> Scenario {
        Scenario::new(format!("sustained {load} ×"), self.pool())
            .then(Phase::new("first minute", self.shortened(60.0), load))
            .then(Phase::new("second minute", self.shortened(60.0), load))
            .then(Phase::new("most", self.shortened(3420.0), load))
            .then(Phase::new("last minute", self.shortened(60.0), load))
    }

    fn cold_start(self) -> Scenario {
        let scenario = Scenario::new("cold start", self.pool())
            .then(Phase::new("first 10 s", 10.0, 10.0))
            .then(Phase::new("later", self.shortened(50.0), 10.0));
        Scenario {
            initial_limits: vec![1, 2, 5, 20, 50, usize::MAX],
            ..scenario
        }
    }

    fn capacity_drop(self, load: f64) -> Scenario {
        let quarter = Phase::of(
            "a quarter",
            self.shortened(300.0),
            [Conditions {
                workers: 0.25,
                ..Conditions::at(load)
            }],
        );
        Scenario::new(format!("capacity drop at {load} ×"), self.pool())
            .then(Phase::new("before", self.shortened(60.0), load))
            .then(quarter)
            .then(Phase::new("back", self.shortened(300.0), load))
    }

    fn dependency(self) -> Server {
        Server {
            station: Station::None,
            ..self.with_dependency()
        }
    }

    fn slow_dependency(self) -> Scenario {
        let slow = Phase::of(
            "10 × slower",
            self.shortened(300.0),
            [Conditions {
                slowdown: (10.0, 10.0),
                ..Conditions::at(0.6)
            }],
        );
        Scenario::new("slow dependency, hard", self.dependency())
            .then(Phase::new("before", self.shortened(60.0), 0.6))
            .then(slow)
            .then(Phase::new("after", self.shortened(60.0), 0.6))
    }

    fn slowing_dependency(self) -> Scenario {
        let slowing = Phase::of(
            "slowing",
            self.shortened(300.0),
            [Conditions {
                slowdown: (1.0, 30.0),
                ..Conditions::at(0.6)
            }],
        );
        let slow = Phase::of(
            "30 × slower",
            self.shortened(300.0),
            [Conditions {
                slowdown: (30.0, 30.0),
                ..Conditions::at(0.6)
            }],
        );
        Scenario::new("slow dependency, soft", self.dependency())
            .then(Phase::new("before", self.shortened(60.0), 0.6))
            .then(slowing)
            .then(slow)
    }

    fn slow_then_saturated(self) -> Scenario {
        let slow = |name, load| {
            Phase::of(
                name,
                self.shortened(120.0),
                [Conditions {
                    slowdown: (10.0, 10.0),
                    ..Conditions::at(load)
                }],
            )
        };
        Scenario::new("slow then saturated", self.with_dependency())
            .then(Phase::new("before", self.shortened(60.0), 0.6))
            .then(slow("slow", 0.6))
            .then(slow("saturated", 3.0))
            .then(Phase::new("after", self.shortened(60.0), 0.6))
    }

    /// The slower dependency holds no worker. Throughput stays possible at a higher concurrency, and then at the earlier one.
    fn slow_in_overload(self, load: f64) -> Scenario {
        let slower = Phase::of(
            "slower",
            self.shortened(120.0),
            [Conditions {
                slowdown: (10.0, 10.0),
                ..Conditions::at(load)
            }],
        );
        Scenario::new(format!("slow in overload {load} ×"), self.with_dependency())
            .then(Phase::new("before", self.shortened(60.0), load))
            .then(slower)
            .then(Phase::new("as before", self.shortened(120.0), load))
    }

    /// A hanging call never reaches a worker, so the best limit is higher by the number of hanging calls.
    fn hangs(self, load: f64) -> Scenario {
        let phase = Phase::of(
            "hangs",
            self.shortened(300.0),
            [Conditions {
                hanging: 0.2,
                ..Conditions::at(load)
            }],
        );
        Scenario::new(format!("hangs at {load} ×"), self.with_dependency()).then(phase)
    }

    fn bursts(self) -> Scenario {
        let phase = Phase::of(
            "bursts",
            self.shortened(300.0),
            [Conditions {
                load: Load::Bursts {
                    base: 0.0,
                    peak: 5.0,
                    lasts: Duration::from_millis(500),
                    every: Duration::from_secs(5),
                },
                ..Conditions::at(0.0)
            }],
        );
        Scenario::new("bursts", self.pool()).then(phase)
    }

    fn lull(self) -> Scenario {
        Scenario::new("lull", self.pool())
            .then(Phase::new("lull", self.shortened(600.0), 0.05))
            .then(Phase::new("healthy", self.shortened(60.0), 0.8))
            .then(Phase::new("lull again", self.shortened(600.0), 0.05))
            .then(Phase::new("over", self.shortened(60.0), 3.0))
    }

    fn retry_storm(self, retry_delay: RetryDelay) -> Scenario {
        let name = match retry_delay.follows_hint() {
            false => "retry storm",
            true => "retry storm, hints heeded",
        };
        let mut scenario = Scenario::new(name, self.pool())
            .then(Phase::new("before", self.shortened(60.0), 0.8))
            .then(Phase::new("trigger", self.shortened(60.0), 3.0))
            .then(Phase::new("after", self.shortened(120.0), 0.8));
        scenario.kinds[0].callers.retries = 3;
        scenario.kinds[0].callers.retry_delay = retry_delay;
        scenario
    }

    fn cancellations(self, load: f64) -> Scenario {
        let server = self.pool();
        let phase = Phase::new("impatient", self.shortened(300.0), load);
        let mut scenario = Scenario::new(format!("cancellations at {load} ×"), server).then(phase);
        scenario.kinds[0].callers = Callers {
            short_timeout: Some((1.0 / 3.0, server.service / 2)),
            ..Callers::default()
        };
        scenario
    }

    fn classes(self) -> Scenario {
        let phase = Phase::of(
            "classes",
            self.shortened(120.0),
            [Conditions {
                critical: 0.5,
                ..Conditions::at(12.0)
            }],
        );
        Scenario::new("classes", self.pool()).then(phase)
    }

    fn fleet(self) -> Scenario {
        let mut scenario = self.step("fleet", self.pool(), 3.0);
        scenario.instances = 8;
        for phase in &mut scenario.phases {
            phase.length = phase.length.min(Duration::from_secs(20));
        }
        scenario
    }

    fn barely_over(self) -> Scenario {
        Scenario::new("barely over", self.pool()).then(Phase::new(
            "1.05 ×",
            self.shortened(600.0),
            1.05,
        ))
    }
}

/// Returns a scenario in which 5 % of the calls take 100 ms and the others 1 ms; then 20 % take 100 ms, and then 5 % again.
fn bimodal(size: Size, length: Length) -> Scenario {
    let mean = Duration::from_micros(5_950);
    let of_mean = |millis: f64| millis / 1e3 / mean.as_secs_f64();
    let times = Times::Bimodal {
        short: of_mean(1.0),
        long: of_mean(100.0),
    };
    let workers = size.pool(times).workers;
    let seconds = match (size, length) {
        (Size::Large, Length::Full) => 20.0,
        (Size::Large, Length::Short) => 2.0,
        (_, Length::Full) => 120.0,
        (_, Length::Short) => 10.0,
    };
    let phase = |name, long| {
        Phase::of(
            name,
            seconds,
            [Conditions {
                long,
                ..Conditions::at(1.5)
            }],
        )
    };
    Scenario::new("bimodal", Server::pool(workers, mean, times))
        .then(phase("5 % long", 0.05))
        .then(phase("20 % long", 0.2))
        .then(phase("5 % again", 0.05))
}

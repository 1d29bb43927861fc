//! Both services and their callers, sampled twice a second.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{
    callers::Callers,
    counters::Counters,
    frame::{Frame, SideMetrics},
    service::{Service, Side, WORKERS, capacity},
    settings::{Change, Settings},
};

pub(crate) const INTERVAL: Duration = Duration::from_millis(500);

/// Metrics cover the latest two seconds; over one second they would be too noisy.
const WINDOW: usize = 4;

/// Two minutes of frames, for a page that is opened later.
const KEPT: usize = 240;

/// A clone is the same stage.
#[derive(Clone, Debug)]
pub(crate) struct Stage(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    began: Instant,
    actors: [Actor; 2],
    state: Mutex<State>,
}

/// One service and its callers.
#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) service: Service,
    callers: Callers,
}

#[derive(Debug, Default)]
struct State {
    settings: Settings,
    frame_count: u64,
    /// Counters of each side since the last frame.
    latest: [Counters; 2],
    /// The latest intervals of each side.
    windows: [VecDeque<Counters>; 2],
    /// Counters of each side since they were taken last.
    phases: [Counters; 2],
    frames: VecDeque<Frame>,
}

impl Stage {
    pub(crate) fn start() -> io::Result<Self> {
        let stage = Self(Arc::new(Shared {
            began: Instant::now(),
            actors: [Actor::start(Side::Bare)?, Actor::start(Side::Shed)?],
            state: Mutex::default(),
        }));
        stage.apply(Settings::default());
        Ok(stage)
    }

    /// Makes a frame each interval, and passes it to `seen`.
    pub(crate) async fn watch(self, mut seen: impl FnMut(&Frame)) {
        let mut ticks = interval_at(self.0.began + INTERVAL, INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = self.0.began;
        loop {
            let now = ticks.tick().await;
            seen(&self.next_frame(now - last));
            last = now;
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        self.locked().settings
    }

    pub(crate) fn change(&self, change: Change) -> Result<Settings, String> {
        let mut state = self.locked();
        let settings = change.apply_to(state.settings)?;
        state.settings = settings;
        self.apply(settings);
        Ok(settings)
    }

    /// Restores the settings and empties the queues. The layer keeps the limit that it has learned.
    pub(crate) fn restart(&self) -> Settings {
        let mut state = self.locked();
        state.settings = Settings::default();
        self.apply(state.settings);
        for Actor { service, callers } in &self.0.actors {
            callers.restart();
            service.pool.restart();
        }
        state.settings
    }

    /// Returns the frames after this number; all frames if the number is of an earlier run.
    pub(crate) fn frames(&self, after: u64) -> Vec<Frame> {
        let state = self.locked();
        let after = if after > state.frame_count { 0 } else { after };
        let frames = state.frames.iter().filter(|frame| frame.number > after);
        frames.cloned().collect()
    }

    /// Takes the counters of each side since the last call.
    pub(crate) fn take_phase(&self) -> [Counters; 2] {
        let mut state = self.locked();
        self.collect(&mut state);
        mem::take(&mut state.phases)
    }

    /// Returns the time to serve all requests of the unprotected side, in seconds.
    pub(crate) fn backlog(&self) -> f64 {
        let pool = &self.0.actors[Side::Bare as usize].service.pool;
        pool.in_flight() as f64 / pool.capacity()
    }

    fn apply(&self, settings: Settings) {
        for Actor { service, callers } in &self.0.actors {
            service.pool.set_slow(settings.slow);
            let running = if settings.drop { WORKERS / 2 } else { WORKERS };
            service.pool.set_workers(running);
            if let Some(shed) = &service.shed {
                shed.set_dry_run(settings.dry_run);
            }
            callers.set(settings.load * capacity(WORKERS), settings.retry);
        }
    }

    fn collect(&self, state: &mut State) {
        for (side, actor) in self.0.actors.iter().enumerate() {
            let counters = actor.callers.take();
            state.latest[side].add(&counters);
            state.phases[side].add(&counters);
        }
    }

    fn next_frame(&self, duration: Duration) -> Frame {
        let mut state = self.locked();
        self.collect(&mut state);
        let latest = mem::take(&mut state.latest);
        for (window, counters) in state.windows.iter_mut().zip(latest) {
            window.truncate(WINDOW - 1);
            window.push_front(counters);
        }
        state.frame_count += 1;
        let seconds = duration.as_secs_f64() * state.windows[0].len() as f64;
        let [bare, shed] = [Side::Bare, Side::Shed].map(|side| {
            let actor = &self.0.actors[side as usize];
            let mut sum = Counters::default();
            let window = &state.windows[side as usize];
            window.iter().for_each(|counters| sum.add(counters));
            SideMetrics::new(&sum, seconds, &actor.service)
        });
        let frame = Frame {
            number: state.frame_count,
            at: self.0.began.elapsed().as_secs_f64(),
            settings: state.settings,
            capacity: self.0.actors[0].service.pool.capacity(),
            bare,
            shed,
        };
        state.frames.push_back(frame.clone());
        if state.frames.len() > KEPT {
            state.frames.pop_front();
        }
        frame
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Actor {
    fn start(side: Side) -> io::Result<Self> {
        let service = Service::start(side)?;
        let callers = Callers::start(service.address)?;
        Ok(Self { service, callers })
    }
}

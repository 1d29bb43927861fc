//! Both services and their callers, watched twice a second.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{
    callers::Callers,
    figures::{Figures, Frame},
    service::{Service, Side, WORKERS, capacity},
    settings::{Change, Settings},
    tally::Tally,
};

pub(crate) const BEAT: Duration = Duration::from_millis(500);

/// Figures are of the latest two seconds: in one, chance is too large a part.
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
    beats: u64,
    /// Of each side since the last beat.
    beat: [Tally; 2],
    /// The latest of each side.
    windows: [VecDeque<Tally>; 2],
    /// Of each side since they were taken.
    phases: [Tally; 2],
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

    /// Makes a frame at each beat, and hands it over.
    pub(crate) async fn watch(self, mut seen: impl FnMut(&Frame)) {
        let mut beats = interval_at(self.0.began + BEAT, BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = self.0.began;
        loop {
            let now = beats.tick().await;
            seen(&self.beat(now - last));
            last = now;
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        self.locked().settings
    }

    pub(crate) fn change(&self, change: Change) -> Result<Settings, String> {
        let mut state = self.locked();
        let settings = change.of(state.settings)?;
        state.settings = settings;
        self.apply(settings);
        Ok(settings)
    }

    /// As it was at the start, but for what the layer has learned.
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

    /// The frames after that one; all of them if there is none such yet, as it is another run's.
    pub(crate) fn frames(&self, after: u64) -> Vec<Frame> {
        let state = self.locked();
        let after = if after > state.beats { 0 } else { after };
        let frames = state.frames.iter().filter(|frame| frame.number > after);
        frames.cloned().collect()
    }

    /// What the callers of each side saw since the last time.
    pub(crate) fn take_phase(&self) -> [Tally; 2] {
        let mut state = self.locked();
        self.collect(&mut state);
        mem::take(&mut state.phases)
    }

    /// How long the unprotected side's work takes that waits.
    pub(crate) fn backlog(&self) -> f64 {
        let pool = &self.0.actors[Side::Bare as usize].service.pool;
        pool.inside() as f64 / pool.capacity()
    }

    fn apply(&self, settings: Settings) {
        for Actor { service, callers } in &self.0.actors {
            service.pool.set_slow(settings.slow);
            let left = if settings.drop { WORKERS / 2 } else { WORKERS };
            service.pool.set_workers(left);
            if let Some(shed) = &service.shed {
                shed.set_dry_run(settings.dry_run);
            }
            callers.set(settings.load * capacity(WORKERS), settings.retry);
        }
    }

    fn collect(&self, state: &mut State) {
        for (side, actor) in self.0.actors.iter().enumerate() {
            let tally = actor.callers.take();
            state.beat[side].add(&tally);
            state.phases[side].add(&tally);
        }
    }

    fn beat(&self, lasted: Duration) -> Frame {
        let mut state = self.locked();
        self.collect(&mut state);
        let beat = mem::take(&mut state.beat);
        for (window, tally) in state.windows.iter_mut().zip(beat) {
            window.truncate(WINDOW - 1);
            window.push_front(tally);
        }
        state.beats += 1;
        let seconds = lasted.as_secs_f64() * state.windows[0].len() as f64;
        let [bare, shed] = [Side::Bare, Side::Shed].map(|side| {
            let actor = &self.0.actors[side as usize];
            let mut sum = Tally::default();
            let window = &state.windows[side as usize];
            window.iter().for_each(|tally| sum.add(tally));
            Figures::of(&sum, seconds, &actor.service)
        });
        let frame = Frame {
            number: state.beats,
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

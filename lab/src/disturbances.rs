//! Changes of a simulation's workers: by phase, and in disturbances.

use crate::{
    events::Event, instance::Workplace, random::nanos, scenario::phase::Disturbance,
    simulation::Simulation, station::Nanos,
};

impl Simulation<'_> {
    /// Sets the workers of all kinds at the beginning of a phase, and schedules the disturbances until its end.
    pub(crate) fn begin_disturbances(&mut self, ends: Nanos) {
        let phase = self.phase();
        for (kind, conditions) in phase.kinds.iter().enumerate() {
            self.set_workers(kind, self.scenario.workers(kind, phase));
            if let Some(Disturbance { every, .. }) = conditions.disturbance {
                let first = self.now + nanos(every) / 2;
                let each = (first..ends).step_by(every.as_nanos() as usize);
                each.for_each(|at| self.events.schedule(at, Event::Disturb { kind }));
            }
        }
    }

    /// Returns the stations with the workers of this kind: one in each instance, or none.
    fn stations_of(&mut self, kind: usize) -> impl Iterator<Item = &mut Workplace> {
        let all = self.instances.iter_mut();
        all.flat_map(|instance| &mut instance.stations)
            .filter(move |station| station.owner == kind)
    }

    /// Sets the number of workers of this kind.
    pub(crate) fn set_workers(&mut self, kind: usize, workers: usize) {
        let now = self.now;
        for station in self.stations_of(kind) {
            station.state.set_workers(workers, now);
            station.schedule_finish(now);
        }
    }

    /// Begins a disturbance of the workers of this kind.
    pub(crate) fn disturb(&mut self, kind: usize) {
        let Some(disturbance) = self.phase().kind(kind).disturbance else {
            return;
        };
        let (now, lasts) = (self.now, nanos(disturbance.lasts));
        if disturbance.workers == 0.0 {
            for station in self.stations_of(kind) {
                station.state.pause(now, lasts);
                station.schedule_finish(now);
            }
            return;
        }
        let usual = self.scenario.workers(kind, self.phase());
        let left = (usual as f64 * disturbance.workers).round() as usize;
        self.set_workers(kind, left.max(1));
        let phase = self.phase;
        self.events
            .schedule(now + lasts, Event::Restore { kind, phase });
    }

    /// Ends a disturbance that began in this phase. The beginning of another phase has ended it already.
    pub(crate) fn restore(&mut self, kind: usize, phase: usize) {
        if phase == self.phase {
            let workers = self.scenario.workers(kind, self.phase());
            self.set_workers(kind, workers);
        }
    }
}

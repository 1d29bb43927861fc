//! Laws against scenarios, seed by seed.

use std::{
    fmt,
    num::NonZero,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use loadshed::{Budget, control::Controller};

use crate::{
    options::Lab,
    oracle::{Oracle, OracleScore},
    report::PhaseReport,
    row::{Figures, Row},
    scenario::Scenario,
};

/// A law, or anything else that a budget can be made of, by a name for people.
#[derive(Clone)]
#[must_use]
pub struct Law {
    name: String,
    budget: Arc<dyn Fn(Option<usize>) -> Budget + Send + Sync>,
    begins_anywhere: bool,
}

/// Runs scenarios under laws, and says how each compares to the best that a fixed limit could have done.
///
/// It gives the same figures to the digit for the same seeds, on however many threads.
///
/// ```
/// use std::time::Duration;
/// use loadshed::Adaptive;
/// use loadshed_lab::{Evaluator, Law, Phase, Scenario, Server, Times};
///
/// let server = Server::pool(4, Duration::from_millis(80), Times::Fixed);
/// let scenario = Scenario::new("overload", server).then(Phase::new("over", 20.0, 3.0));
/// let law = Law::of("adaptive", Adaptive::default(), Adaptive::initial);
/// let rows = Evaluator::default().seeds(1..3).evaluate("tiny", &[scenario], &[law]);
/// assert!(rows[0].score() > 0.5, "{:.2} of what can be done", rows[0].score());
/// ```
#[derive(Clone)]
#[must_use]
pub struct Evaluator {
    seeds: Range<u64>,
    ratio: f64,
    threads: usize,
    against: Against,
    progress: Arc<dyn Fn(usize, usize) + Send + Sync>,
}

type OracleScores = dyn Fn(&Scenario, u64) -> Vec<OracleScore> + Send + Sync;

#[derive(Clone)]
enum Against {
    Oracle(Arc<OracleScores>),
    Bound,
}

/// One scenario on one seed, under all laws.
struct Job<'a> {
    nth: usize,
    scenario: &'a Scenario,
    seed: u64,
}

/// What came of a job: by law, by initial limit, by phase.
type Outcome = Vec<Vec<Vec<Figures>>>;

impl Law {
    /// One whose limit begins where it begins.
    pub fn new(
        name: impl Into<String>,
        budget: impl Fn() -> Budget + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            budget: Arc::new(move |_| budget()),
            begins_anywhere: false,
        }
    }

    /// One whose limit can be told where to begin. `usize::MAX` asks for its largest, and `None` for its usual one.
    pub fn beginning(
        name: impl Into<String>,
        budget: impl Fn(Option<usize>) -> Budget + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            budget: Arc::new(budget),
            begins_anywhere: true,
        }
    }

    /// A controller that can be told where to begin, by its setting for that. Where that is not within its limits, it
    /// begins at the nearest that is.
    pub fn of<C>(name: impl Into<String>, law: C, initial: fn(C, usize) -> C) -> Self
    where
        C: Controller + Clone + Sync,
    {
        Self::beginning(name, move |limit| {
            let limits = law.limits();
            let within = |limit: usize| limit.clamp(*limits.start(), *limits.end());
            Budget::new(match limit.map(within) {
                Some(limit) => initial(law.clone(), limit),
                None => law.clone(),
            })
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A new budget under this law.
    #[must_use]
    pub fn budget(&self, initial: Option<usize>) -> Budget {
        (self.budget)(initial)
    }

    /// Where the limit begins in the runs of this scenario.
    fn beginnings(&self, scenario: &Scenario) -> Vec<Option<usize>> {
        match self.begins_anywhere && !scenario.initial_limits.is_empty() {
            true => scenario.initial_limits.iter().copied().map(Some).collect(),
            false => vec![None],
        }
    }
}

impl Default for Evaluator {
    /// 20 seeds from 1 on, a ratio of 0.85, as many threads as there are cores, and against [`Oracle`].
    fn default() -> Self {
        Self {
            seeds: 1..21,
            ratio: 0.85,
            threads: thread::available_parallelism().map_or(1, NonZero::get),
            against: Against::Oracle(Arc::new(|scenario, seed| {
                Oracle::of(scenario, seed).scores()
            })),
            progress: Arc::new(|_, _| {}),
        }
    }
}

impl Evaluator {
    /// The seeds, each of which is a run.
    pub fn seeds(self, seeds: Range<u64>) -> Self {
        Self { seeds, ..self }
    }

    /// The ratio of the layer.
    pub fn ratio(self, ratio: f64) -> Self {
        Self { ratio, ..self }
    }

    /// How many threads there are to run on.
    pub fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Takes the oracle's figures from here, phase by phase of a scenario and a seed: from where they are kept.
    pub fn oracle_scores(
        mut self,
        scores: impl Fn(&Scenario, u64) -> Vec<OracleScore> + Send + Sync + 'static,
    ) -> Self {
        self.against = Against::Oracle(Arc::new(scores));
        self
    }

    /// Does without the oracle, which takes most of the time: scores are shares of [`PhaseReport::bound`].
    pub fn against_bound(mut self) -> Self {
        self.against = Against::Bound;
        self
    }

    /// Is told how many of how many runs of all laws are done.
    pub fn on_progress(mut self, progress: impl Fn(usize, usize) + Send + Sync + 'static) -> Self {
        self.progress = Arc::new(progress);
        self
    }

    /// Runs them all. Rows come in the order of the scenarios, then of their phases, then of the laws; `size` stands in
    /// each of them.
    ///
    /// # Panics
    ///
    /// Within a tokio runtime.
    #[must_use]
    pub fn evaluate(&self, size: &str, scenarios: &[Scenario], laws: &[Law]) -> Vec<Row> {
        let outcomes = self.outcomes(scenarios, laws);
        let mut rows = Vec::new();
        let seeds = self.seeds.clone().count().max(1);
        for (scenario, outcomes) in scenarios.iter().zip(outcomes.chunks(seeds)) {
            for (nth, phase) in scenario.phases.iter().enumerate() {
                if !phase.scored {
                    continue;
                }
                for (law, by_law) in laws.iter().enumerate() {
                    for (run, initial) in by_law.beginnings(scenario).into_iter().enumerate() {
                        let of_seed = |outcome: &Outcome| outcome[law][run][nth];
                        rows.push(Row {
                            size: size.to_owned(),
                            workers: scenario.server.workers,
                            scenario: scenario.name.clone(),
                            initial,
                            phase: phase.name.clone(),
                            law: by_law.name.clone(),
                            first_seed: self.seeds.start,
                            figures: outcomes.iter().map(of_seed).collect(),
                        });
                    }
                }
            }
        }
        rows
    }

    /// By scenario and seed, whoever was done first.
    fn outcomes(&self, scenarios: &[Scenario], laws: &[Law]) -> Vec<Outcome> {
        let seeds = |scenario| self.seeds.clone().map(move |seed| (scenario, seed));
        let numbered = scenarios.iter().flat_map(seeds).enumerate();
        let mut jobs: Vec<Job<'_>> = numbered
            .map(|(nth, (scenario, seed))| Job {
                nth,
                scenario,
                seed,
            })
            .collect();
        // The long ones first, so that no thread is alone with one at the end.
        jobs.sort_by(|a, b| b.scenario.calls().total_cmp(&a.scenario.calls()));

        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let outcomes = Mutex::new(Vec::new());
        let work = || {
            // Relaxed: each job is taken once, and what came of it goes through the mutex.
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let outcome = self.run(job, laws);
                let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                outcomes.push((job.nth, outcome));
                (self.progress)(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(work);
            }
        });
        let mut outcomes = outcomes
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        outcomes.sort_by_key(|(nth, _)| *nth);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    fn run(&self, job: &Job<'_>, laws: &[Law]) -> Outcome {
        let Job { scenario, seed, .. } = *job;
        let scores = match &self.against {
            Against::Oracle(scores) => Some(scores(scenario, seed)),
            Against::Bound => None,
        };
        let run = |law: &Law, initial| {
            let lab = Lab::seed(seed).ratio(self.ratio);
            let report = lab.run(scenario, || law.budget(initial));
            let figures = |(nth, report): (usize, &PhaseReport)| {
                let score = match &scores {
                    Some(scores) => scores[nth],
                    None => bound(scenario, nth, report),
                };
                Figures::new(report, score)
            };
            report.phases.iter().enumerate().map(figures).collect()
        };
        let runs = |law: &Law| {
            let beginnings = law.beginnings(scenario).into_iter();
            beginnings.map(|initial| run(law, initial)).collect()
        };
        laws.iter().map(runs).collect()
    }
}

/// What nobody can do better than.
fn bound(scenario: &Scenario, nth: usize, report: &PhaseReport) -> OracleScore {
    OracleScore {
        limit: 0,
        good: report.bound(scenario, &scenario.phases[nth]),
        p99: Duration::ZERO,
    }
}

impl fmt::Debug for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Law")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluator")
            .field("seeds", &self.seeds)
            .field("ratio", &self.ratio)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use loadshed::Adaptive;

    use super::*;
    use crate::scenario::{Phase, Server, Times};

    fn overload(name: &str, load: f64) -> Scenario {
        let server = Server::pool(4, Duration::from_millis(80), Times::Exponential);
        Scenario::new(name, server)
            .then(Phase::new("before", 5.0, 0.5).unscored())
            .then(Phase::new("over", 10.0, load))
    }

    #[test]
    fn p16_the_same_seeds_give_the_same_table_on_one_thread_as_on_two() {
        let mut cold = overload("cold", 10.0);
        cold.initial_limits = vec![1, 20, usize::MAX];
        let scenarios = [overload("a", 2.0), cold, overload("b", 3.0)];
        let laws = [
            Law::of("adaptive", Adaptive::default(), Adaptive::initial),
            Law::new("fixed", || Budget::fixed(8)),
        ];
        let evaluator = Evaluator::default().seeds(3..6);
        let table = |threads| {
            let rows = evaluator
                .clone()
                .threads(threads)
                .evaluate("tiny", &scenarios, &laws);
            format!("{rows:?}")
        };
        assert_eq!(table(1), table(2));
    }

    #[test]
    fn rows_stand_in_order_and_phases_that_only_lead_to_others_have_none() {
        let mut cold = overload("cold", 10.0);
        cold.initial_limits = vec![1, usize::MAX];
        let laws = [
            Law::of("adaptive", Adaptive::default(), Adaptive::initial),
            Law::new("fixed", || Budget::fixed(8)),
        ];
        let evaluator = Evaluator::default().seeds(1..3).against_bound();
        let rows = evaluator.evaluate("tiny", &[overload("a", 2.0), cold], &laws);
        let names: Vec<_> = rows
            .iter()
            .map(|row| (row.name(), row.law.as_str()))
            .collect();
        let expected = [
            ("a", "adaptive"),
            ("a", "fixed"),
            ("cold, from 1", "adaptive"),
            ("cold, from max", "adaptive"),
            ("cold", "fixed"),
        ];
        assert_eq!(names, expected.map(|(name, law)| (name.to_owned(), law)));
        assert!(
            rows.iter()
                .all(|row| row.phase == "over" && row.figures.len() == 2)
        );
    }

    #[test]
    fn a_law_begins_at_the_nearest_that_it_allows() {
        let law = Law::of(
            "adaptive",
            Adaptive::default().min(4).max(100),
            Adaptive::initial,
        );
        let begins = [None, Some(1), Some(20), Some(usize::MAX)];
        assert_eq!(
            begins.map(|initial| law.budget(initial).limit()),
            [100, 4, 20, 100]
        );
    }
}

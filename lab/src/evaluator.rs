//! Candidates against scenarios, seed by seed.

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

use crate::{
    candidate::Candidate,
    options::Lab,
    oracle::{Oracle, OracleScore},
    report::PhaseReport,
    row::{PhaseMetrics, Row},
    scenario::Scenario,
};

/// Runs scenarios under candidates, and says how each compares to the best that a fixed limit could have done.
///
/// It gives the same figures to the digit for the same seeds, on however many threads.
///
/// ```
/// use std::time::Duration;
/// use loadshed::Adaptive;
/// use loadshed_lab::{Evaluator, Candidate, Phase, Scenario, Server, Times};
///
/// let server = Server::pool(4, Duration::from_millis(80), Times::Fixed);
/// let scenario = Scenario::new("overload", server).then(Phase::new("over", 20.0, 3.0));
/// let candidate = Candidate::of_controller("adaptive", Adaptive::default(), Adaptive::initial);
/// let rows = Evaluator::default().seeds(1..3).evaluate("tiny", &[scenario], &[candidate]);
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

/// One scenario on one seed, under all candidates.
struct Job<'a> {
    nth: usize,
    scenario: &'a Scenario,
    seed: u64,
}

/// What came of a job: by candidate, by initial limit, by phase.
type Outcome = Vec<Vec<Vec<PhaseMetrics>>>;

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

    /// Is told how many of how many runs of all candidates are done.
    pub fn on_progress(mut self, progress: impl Fn(usize, usize) + Send + Sync + 'static) -> Self {
        self.progress = Arc::new(progress);
        self
    }

    /// Runs them all. Rows come in the order of the scenarios, then of their phases, then of the candidates; `size` stands in
    /// each of them.
    ///
    /// # Panics
    ///
    /// Within a tokio runtime.
    #[must_use]
    pub fn evaluate(
        &self,
        size: &str,
        scenarios: &[Scenario],
        candidates: &[Candidate],
    ) -> Vec<Row> {
        let outcomes = self.outcomes(scenarios, candidates);
        let mut rows = Vec::new();
        let seeds = self.seeds.clone().count().max(1);
        for (scenario, outcomes) in scenarios.iter().zip(outcomes.chunks(seeds)) {
            for (nth, phase) in scenario.phases.iter().enumerate() {
                if !phase.scored {
                    continue;
                }
                for (column, candidate) in candidates.iter().enumerate() {
                    for (run, initial) in candidate.initial_limits(scenario).into_iter().enumerate()
                    {
                        let of_seed = |outcome: &Outcome| outcome[column][run][nth];
                        rows.push(Row {
                            size: size.to_owned(),
                            workers: scenario.server.workers,
                            scenario: scenario.name.clone(),
                            initial,
                            phase: phase.name.clone(),
                            candidate: candidate.name().to_owned(),
                            first_seed: self.seeds.start,
                            metrics: outcomes.iter().map(of_seed).collect(),
                        });
                    }
                }
            }
        }
        rows
    }

    /// By scenario and seed, whoever was done first.
    fn outcomes(&self, scenarios: &[Scenario], candidates: &[Candidate]) -> Vec<Outcome> {
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
                let outcome = self.run(job, candidates);
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

    fn run(&self, job: &Job<'_>, candidates: &[Candidate]) -> Outcome {
        let Job { scenario, seed, .. } = *job;
        let scores = match &self.against {
            Against::Oracle(scores) => Some(scores(scenario, seed)),
            Against::Bound => None,
        };
        let run = |candidate: &Candidate, initial| {
            let lab = Lab::seed(seed).ratio(self.ratio);
            let report = lab.run(scenario, || candidate.budget(initial));
            let metrics = |(nth, report): (usize, &PhaseReport)| {
                let score = match &scores {
                    Some(scores) => scores[nth],
                    None => bound(scenario, nth, report),
                };
                PhaseMetrics::new(report, score)
            };
            report.phases.iter().enumerate().map(metrics).collect()
        };
        let runs = |candidate: &Candidate| {
            let initial_limits = candidate.initial_limits(scenario).into_iter();
            initial_limits
                .map(|initial| run(candidate, initial))
                .collect()
        };
        candidates.iter().map(runs).collect()
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
    use loadshed::{Adaptive, Budget};

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
        let candidates = [
            Candidate::of_controller("adaptive", Adaptive::default(), Adaptive::initial),
            Candidate::new("fixed", || Budget::fixed(8)),
        ];
        let evaluator = Evaluator::default().seeds(3..6);
        let table = |threads| {
            let rows = evaluator
                .clone()
                .threads(threads)
                .evaluate("tiny", &scenarios, &candidates);
            format!("{rows:?}")
        };
        assert_eq!(table(1), table(2));
    }

    #[test]
    fn rows_are_in_order_and_unscored_phases_have_none() {
        let mut cold = overload("cold", 10.0);
        cold.initial_limits = vec![1, usize::MAX];
        let candidates = [
            Candidate::of_controller("adaptive", Adaptive::default(), Adaptive::initial),
            Candidate::new("fixed", || Budget::fixed(8)),
        ];
        let evaluator = Evaluator::default().seeds(1..3).against_bound();
        let rows = evaluator.evaluate("tiny", &[overload("a", 2.0), cold], &candidates);
        let names: Vec<_> = rows
            .iter()
            .map(|row| (row.name(), row.candidate.as_str()))
            .collect();
        let expected = [
            ("a", "adaptive"),
            ("a", "fixed"),
            ("cold, from 1", "adaptive"),
            ("cold, from max", "adaptive"),
            ("cold", "fixed"),
        ];
        assert_eq!(
            names,
            expected.map(|(name, candidate)| (name.to_owned(), candidate))
        );
        assert!(
            rows.iter()
                .all(|row| row.phase == "over" && row.metrics.len() == 2)
        );
    }
}

//! Runs candidates through scenarios, seed by seed.

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
    cell::cells,
    options::Lab,
    oracle::{Oracle, OracleScore},
    report::Report,
    row::{PhaseMetrics, Row},
    scenario::scenario::Scenario,
};

/// Runs scenarios under several candidates, and compares each run to the best fixed limit.
///
/// The same seeds give exactly the same metrics, on any number of threads.
///
/// ```
/// use std::time::Duration;
/// use loadshed::Adaptive;
/// use loadshed_lab::{Candidate, Evaluator, Phase, Scenario, Server, Times};
///
/// let server = Server::pool(4, Duration::from_millis(80), Times::Fixed);
/// let scenario = Scenario::new("overload", server).then(Phase::new("over", 20.0, 3.0));
/// let candidate = Candidate::of_controller("adaptive", Adaptive::default(), Adaptive::initial);
/// let rows = Evaluator::default().seeds(1..3).evaluate("tiny", &[scenario], &[candidate]);
/// assert!(rows[0].score() > 0.5, "{:.2} of the oracle's goodput", rows[0].score());
/// ```
#[derive(Clone)]
#[must_use]
pub struct Evaluator {
    seeds: Range<u64>,
    ratio: f64,
    threads: usize,
    baseline: Baseline,
    progress: Arc<dyn Fn(usize, usize) + Send + Sync>,
}

/// Returns the scores by kind and phase.
type OracleScores = dyn Fn(&Scenario, u64) -> Vec<Vec<OracleScore>> + Send + Sync;

#[derive(Clone)]
/// What the scores are relative to.
enum Baseline {
    Oracle(Arc<OracleScores>),
    Bound,
}

/// One scenario on one seed, under all candidates.
struct Job<'a> {
    nth: usize,
    scenario: &'a Scenario,
    seed: u64,
}

/// The metrics of a job: by candidate, by initial limit, by name of the kinds, by phase.
type JobMetrics = Vec<Vec<Vec<Vec<PhaseMetrics>>>>;

impl Default for Evaluator {
    /// Creates an evaluator with the seeds 1 to 20, a ratio of 0.85, one thread for each core, and the [`Oracle`].
    fn default() -> Self {
        Self {
            seeds: 1..21,
            ratio: 0.85,
            threads: thread::available_parallelism().map_or(1, NonZero::get),
            baseline: Baseline::Oracle(Arc::new(|scenario, seed| {
                Oracle::of(scenario, seed).scores
            })),
            progress: Arc::new(|_, _| {}),
        }
    }
}

impl Evaluator {
    /// Sets the seeds. Each seed is a run of each scenario. By default 1 to 20.
    pub fn seeds(self, seeds: Range<u64>) -> Self {
        Self { seeds, ..self }
    }

    /// Sets the ratio of the layer. By default 0.85.
    pub fn ratio(self, ratio: f64) -> Self {
        Self { ratio, ..self }
    }

    /// Sets the number of threads. By default one for each core.
    pub fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Sets where the oracle's scores of a scenario and a seed come from, such as a cache. By default [`Oracle::of`].
    pub fn oracle_scores(
        mut self,
        scores: impl Fn(&Scenario, u64) -> Vec<Vec<OracleScore>> + Send + Sync + 'static,
    ) -> Self {
        self.baseline = Baseline::Oracle(Arc::new(scores));
        self
    }

    /// Compares runs to [`Report::bound`] in place of the oracle, which takes most of the time.
    pub fn against_bound(mut self) -> Self {
        self.baseline = Baseline::Bound;
        self
    }

    /// Sets a callback for progress. Its arguments are the number of jobs done and the number of all jobs, where a job is one
    /// scenario on one seed under all candidates.
    pub fn on_progress(mut self, progress: impl Fn(usize, usize) + Send + Sync + 'static) -> Self {
        self.progress = Arc::new(progress);
        self
    }

    /// Runs all scenarios under all candidates.
    ///
    /// Rows are in the order of the scenarios, then of their phases, then of their kinds, then of the candidates. Each has `size`
    /// as its size.
    ///
    /// # Panics
    ///
    /// Panics within a tokio runtime.
    #[must_use]
    pub fn evaluate(
        &self,
        size: &str,
        scenarios: &[Scenario],
        candidates: &[Candidate],
    ) -> Vec<Row> {
        let by_job = self.run_jobs(scenarios, candidates);
        let mut rows = Vec::new();
        let seeds = self.seeds.clone().count().max(1);
        for (scenario, by_job) in scenarios.iter().zip(by_job.chunks(seeds)) {
            for cell in cells(scenario) {
                for (column, candidate) in candidates.iter().enumerate() {
                    for (run, initial) in candidate.initial_limits(scenario).into_iter().enumerate()
                    {
                        let of_seed = |job: &JobMetrics| job[column][run][cell.name][cell.phase];
                        rows.push(Row {
                            size: size.to_owned(),
                            workers: scenario.server().workers,
                            scenario: scenario.name.clone(),
                            initial,
                            phase: scenario.phases[cell.phase].name.clone(),
                            kind: cell.kind.to_owned(),
                            criterion: cell.criterion,
                            candidate: candidate.name().to_owned(),
                            first_seed: self.seeds.start,
                            metrics: by_job.iter().map(of_seed).collect(),
                        });
                    }
                }
            }
        }
        rows
    }

    /// Returns the metrics of all jobs, in the order of scenarios and seeds, whichever job is done first.
    fn run_jobs(&self, scenarios: &[Scenario], candidates: &[Candidate]) -> Vec<JobMetrics> {
        let seeds = |scenario| self.seeds.clone().map(move |seed| (scenario, seed));
        let numbered = scenarios.iter().flat_map(seeds).enumerate();
        let mut jobs: Vec<Job<'_>> = numbered
            .map(|(nth, (scenario, seed))| Job {
                nth,
                scenario,
                seed,
            })
            .collect();
        // Long jobs first, so that no thread is left alone with a long job at the end.
        jobs.sort_by(|a, b| b.scenario.calls().total_cmp(&a.scenario.calls()));

        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let by_job = Mutex::new(Vec::new());
        let work = || {
            // Relaxed: each job is taken once, and its metrics pass through the mutex.
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let metrics = self.run(job, candidates);
                let mut by_job = by_job.lock().unwrap_or_else(PoisonError::into_inner);
                by_job.push((job.nth, metrics));
                (self.progress)(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(work);
            }
        });
        let mut by_job = by_job.into_inner().unwrap_or_else(PoisonError::into_inner);
        by_job.sort_by_key(|(nth, _)| *nth);
        by_job.into_iter().map(|(_, metrics)| metrics).collect()
    }

    fn run(&self, job: &Job<'_>, candidates: &[Candidate]) -> JobMetrics {
        let Job { scenario, seed, .. } = *job;
        let scores = match &self.baseline {
            Baseline::Oracle(scores) => Some(scores(scenario, seed)),
            Baseline::Bound => None,
        };
        let run = |candidate: &Candidate, initial| {
            let lab = Lab::seed(seed).ratio(self.ratio);
            let report = lab.run(scenario, || candidate.budget(initial));
            let metrics = |name: usize, phase: usize| {
                let oracle = match &scores {
                    Some(scores) => scores[name][phase],
                    None => bound(scenario, &report, name, phase),
                };
                PhaseMetrics::new(&report.of_kind(name)[phase], oracle)
            };
            let phases = |name| {
                let phases = 0..scenario.phases.len();
                phases.map(|phase| metrics(name, phase)).collect()
            };
            (0..scenario.kind_names().len()).map(phases).collect()
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

/// Returns the upper bound of a phase as a score.
fn bound(scenario: &Scenario, report: &Report, name: usize, phase: usize) -> OracleScore {
    OracleScore {
        limit: 0,
        good: report.bound(scenario, name, phase),
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
    use crate::scenario::{
        phase::Phase,
        server::{Server, Times},
    };

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

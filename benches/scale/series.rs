//! Measurements over several sizes of one thing.

use crate::threads::{Once, time};

pub(crate) struct Section {
    /// The name, one word.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) sizes: Vec<usize>,
    pub(crate) series: Vec<Series>,
}

pub(crate) struct Series {
    pub(crate) name: &'static str,
    /// Returns, for a size, the work of each thread.
    threads: Box<dyn Fn(usize) -> Vec<Once>>,
}

/// Rounds, requests and sizes of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// Requests per thread and round.
    pub(crate) requests: usize,
    /// The largest size of every section.
    pub(crate) most: usize,
}

impl Series {
    /// Creates a series that runs on one thread.
    pub(crate) fn of<F>(name: &'static str, work: impl Fn(usize) -> F + 'static) -> Self
    where
        F: FnMut() -> bool + Send + 'static,
    {
        let threads = Box::new(move |size| vec![Box::new(work(size)) as Once]);
        Self { name, threads }
    }

    /// Creates a series that runs on as many threads as its size.
    pub(crate) fn on_threads<F>(name: &'static str, work: impl Fn() -> F + 'static) -> Self
    where
        F: FnMut() -> bool + Send + 'static,
    {
        let thread = move |_| Box::new(work()) as Once;
        let threads = Box::new(move |size| (0..size).map(&thread).collect());
        Self { name, threads }
    }
}

impl Plan {
    pub(crate) const FULL: Self = Self {
        rounds: 21,
        requests: 20_000,
        most: 1_000_000,
    };
    pub(crate) const QUICK: Self = Self {
        rounds: 3,
        requests: 2_000,
        most: 1_000,
    };

    /// Returns the sizes 1, 10, 100 … up to `most` or the plan's largest.
    pub(crate) fn sizes(&self, most: usize) -> Vec<usize> {
        let sizes = (0..).map(|power| 10_usize.pow(power));
        sizes
            .take_while(|&size| size <= most.min(self.most))
            .collect()
    }

    /// Measures the section; returns the medians for each series and size.
    pub(crate) fn measure(&self, section: &Section) -> Vec<Vec<f64>> {
        let each = |series: &Series| -> Vec<_> {
            let sizes = section.sizes.iter();
            sizes
                .map(|&size| ((series.threads)(size), Vec::new()))
                .collect()
        };
        let mut cells: Vec<Vec<_>> = section.series.iter().map(each).collect();
        for _ in 0..self.rounds {
            for (threads, times) in cells.iter_mut().flatten() {
                let (took, served) = time(threads, self.requests);
                assert!(served == 1.0, "refused");
                times.push(took);
            }
        }
        let medians = cells.into_iter().map(|cells| {
            let medians = cells.into_iter().map(|(_, times)| median(times));
            medians.collect()
        });
        medians.collect()
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

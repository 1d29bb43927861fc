//! Runs the rows in interleaved rounds, and computes medians.

use crate::{row::Row, threads::time};

/// Rounds and requests of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// Requests per thread and round.
    pub(crate) requests: usize,
}

/// The measurements of one row.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Services reused on one thread and on two, then cloned on one thread and on two.
    cells: Vec<Cell>,
    pub(crate) allocations: u64,
    pub(crate) bytes: u64,
}

/// Nanoseconds per request, over the rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) quarter: f64,
    pub(crate) median: f64,
    pub(crate) three_quarters: f64,
    /// The share of requests that were served, not refused.
    pub(crate) served: f64,
}

const THREADS: [usize; 2] = [1, 2];

impl Plan {
    pub(crate) const FULL: Self = Self {
        rounds: 31,
        requests: 20_000,
    };
    pub(crate) const QUICK: Self = Self {
        rounds: 3,
        requests: 2_000,
    };

    /// Measures the rows; returns the results in their order.
    pub(crate) fn measure(self, rows: &[Row]) -> Vec<Figures> {
        let mut times: Vec<_> = rows
            .iter()
            .map(|row| vec![Vec::new(); cells(row)])
            .collect();
        for _ in 0..self.rounds {
            for (row, times) in rows.iter().zip(&mut times) {
                let workers = [Some(&row.reused), row.cloned.as_ref()];
                let all = workers.into_iter().flatten();
                let all = all.flat_map(|worker| THREADS.map(|threads| (worker, threads)));
                for ((worker, threads), times) in all.zip(times) {
                    let mut work: Vec<_> = (0..threads).map(|_| worker()).collect();
                    times.push(time(&mut work, self.requests));
                }
            }
        }
        let figures = |(row, times): (&Row, Vec<_>)| Figures::of(row, times);
        rows.iter().zip(times).map(figures).collect()
    }
}

fn cells(row: &Row) -> usize {
    THREADS.len() * (1 + usize::from(row.cloned.is_some()))
}

impl Figures {
    fn of(row: &Row, times: Vec<Vec<(f64, f64)>>) -> Self {
        let mut request = (row.reused)();
        request();
        let allocated = allocation_counter::measure(|| {
            request();
        });
        Self {
            cells: times.into_iter().map(Cell::of).collect(),
            allocations: allocated.count_total,
            bytes: allocated.bytes_total,
        }
    }

    /// Returns the cells of the reused service, on one thread and on two.
    pub(crate) fn reused(&self) -> [Cell; 2] {
        [self.cells[0], self.cells[1]]
    }

    pub(crate) fn cloned(&self) -> Option<[Cell; 2]> {
        Some([*self.cells.get(2)?, *self.cells.get(3)?])
    }

    /// Iterates over the cells, each with the use of the service and the number of threads.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (&'static str, usize, &Cell)> {
        let uses = ["reused", "cloned"].into_iter();
        let names = uses.flat_map(|name| THREADS.map(|threads| (name, threads)));
        let named = names.zip(&self.cells);
        named.map(|((name, threads), cell)| (name, threads, cell))
    }

    /// Returns half of the distance between the quartiles, as a share of the median, of the noisiest cell.
    pub(crate) fn spread(&self) -> f64 {
        let spread = |cell: &Cell| (cell.three_quarters - cell.quarter) / cell.median / 2.0;
        self.cells.iter().map(spread).fold(0.0, f64::max)
    }
}

impl Cell {
    fn of(rounds: Vec<(f64, f64)>) -> Self {
        let served = rounds.iter().map(|(_, served)| served).sum::<f64>() / rounds.len() as f64;
        let mut times: Vec<_> = rounds.into_iter().map(|(time, _)| time).collect();
        times.sort_by(f64::total_cmp);
        let at = |quarters: usize| times[(times.len() - 1) * quarters / 4];
        Self {
            quarter: at(1),
            median: at(2),
            three_quarters: at(3),
            served,
        }
    }
}

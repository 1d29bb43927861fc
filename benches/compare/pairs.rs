//! The same ratios of two runs, and whether they are the same.

use crate::ratios::Ratio;

#[derive(Debug)]
pub(crate) struct Pairs(Vec<Pair>);

/// One ratio, in each run that has it.
#[derive(Debug)]
struct Pair {
    first: Option<Ratio>,
    second: Option<Ratio>,
}

/// Of the first run's ratio, by which the second's may be off.
const SLACK: f64 = 0.1;

/// Shares of the capacity below this are compared absolutely: they are a handful of requests, and twice as few says nothing.
pub(crate) const LITTLE: f64 = 0.02;

impl Pairs {
    pub(crate) fn new(first: Vec<Ratio>, mut second: Vec<Ratio>) -> Self {
        let mut pairs = Vec::new();
        for first in first {
            let same = |of: &Ratio| (&of.table, &of.row) == (&first.table, &first.row);
            let second = second.iter().position(same).map(|at| second.remove(at));
            let first = Some(first);
            pairs.push(Pair { first, second });
        }
        pairs.extend(second.into_iter().map(|second| Pair {
            first: None,
            second: Some(second),
        }));
        Self(pairs)
    }

    pub(crate) fn are_same(&self) -> bool {
        self.0.iter().all(Pair::is_same)
    }

    /// For each table, how many there are and how many are the same; then for all.
    pub(crate) fn counts(&self) -> Vec<Vec<String>> {
        let mut tables = Vec::new();
        for pair in &self.0 {
            if !tables.contains(&pair.table()) {
                tables.push(pair.table());
            }
        }
        let count = |name: &str, is: &dyn Fn(&&Pair) -> bool| {
            let pairs: Vec<_> = self.0.iter().filter(is).collect();
            let same = pairs.iter().filter(|pair| pair.is_same()).count();
            vec![name.to_owned(), pairs.len().to_string(), same.to_string()]
        };
        let of_table = |table: &&str| count(table, &|pair| pair.table() == *table);
        let mut counts: Vec<_> = tables.iter().map(of_table).collect();
        counts.push(count("**all**", &|_| true));
        counts
    }

    /// Each one that is not the same.
    pub(crate) fn others(&self) -> Vec<Vec<String>> {
        let others = self.0.iter().filter(|pair| !pair.is_same());
        others.map(Pair::cells).collect()
    }

    pub(crate) fn csv(&self) -> String {
        let mut csv = "table,row,first,second,same\n".to_owned();
        for pair in &self.0 {
            let [first, second] = pair.values().map(|value| figure(value, 4));
            let (table, row, same) = (pair.table(), pair.row(), pair.is_same());
            csv.push_str(&format!("\"{table}\",\"{row}\",{first},{second},{same}\n"));
        }
        csv
    }
}

impl Pair {
    fn is_same(&self) -> bool {
        match self.values() {
            [Some(first), Some(second)] if first.max(second) < LITTLE => true,
            [Some(first), Some(second)] => (second - first).abs() <= SLACK * first,
            _ => false,
        }
    }

    fn cells(&self) -> Vec<String> {
        let [first, second] = self.values();
        let late = self.each().any(|ratio| ratio.late);
        let change = first.zip(second).map(|(first, second)| second / first);
        vec![
            format!(
                "{}: {}{}",
                self.table(),
                self.row(),
                if late { " (!)" } else { "" }
            ),
            figure(first, 3),
            figure(second, 3),
            figure(change.filter(|change| change.is_finite()), 2),
        ]
    }

    fn values(&self) -> [Option<f64>; 2] {
        [&self.first, &self.second].map(|run| run.as_ref().map(|ratio| ratio.value))
    }

    fn table(&self) -> &str {
        self.each().next().map_or("", |ratio| &ratio.table)
    }

    fn row(&self) -> &str {
        self.each().next().map_or("", |ratio| &ratio.row)
    }

    fn each(&self) -> impl Iterator<Item = &Ratio> {
        self.first.iter().chain(&self.second)
    }
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".into(), |value| format!("{value:.digits$}"))
}

//! Pairs the ratios of two runs, and compares them.

use crate::ratios::Ratio;

#[derive(Debug)]
pub(crate) struct Pairs(Vec<Pair>);

/// A ratio in both runs, or in one of them.
#[derive(Debug)]
struct Pair {
    first: Option<Ratio>,
    second: Option<Ratio>,
}

/// The result of the comparison of a pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    Same,
    Other,
    /// No verdict: in one of the runs, the callers were late.
    Late,
}

/// Allowed difference, as a share of the first run's ratio.
const SLACK: f64 = 0.1;

/// Shares of the capacity below this count as equal: they are a handful of requests, too few for a ratio.
pub(crate) const NEGLIGIBLE: f64 = 0.02;

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
        self.0.iter().all(|pair| pair.verdict() != Verdict::Other)
    }

    /// Counts, for each table and then for all: compared ratios, equal ratios, ratios without a verdict.
    pub(crate) fn counts(&self) -> Vec<Vec<String>> {
        let mut tables = Vec::new();
        for pair in &self.0 {
            if !tables.contains(&pair.table()) {
                tables.push(pair.table());
            }
        }
        let count = |name: &str, is: &dyn Fn(&&Pair) -> bool| {
            let verdicts: Vec<_> = self.0.iter().filter(is).map(Pair::verdict).collect();
            let with = |verdict| verdicts.iter().filter(|is| **is == verdict).count();
            let (same, late) = (with(Verdict::Same), with(Verdict::Late));
            let counts = [verdicts.len() - late, same, late];
            let mut row = vec![name.to_owned()];
            row.extend(counts.map(|count| count.to_string()));
            row
        };
        let of_table = |table: &&str| count(table, &|pair| pair.table() == *table);
        let mut counts: Vec<_> = tables.iter().map(of_table).collect();
        counts.push(count("**all**", &|_| true));
        counts
    }

    /// Returns a row for each pair with this verdict.
    pub(crate) fn with(&self, verdict: Verdict) -> Vec<Vec<String>> {
        let pairs = self.0.iter().filter(|pair| pair.verdict() == verdict);
        pairs.map(Pair::cells).collect()
    }

    pub(crate) fn csv(&self) -> String {
        let mut csv = "table,row,first,second,verdict\n".to_owned();
        for pair in &self.0 {
            let [first, second] = pair.values().map(|value| figure(value, 4));
            let (table, row, verdict) = (pair.table(), pair.row(), pair.verdict().name());
            csv.push_str(&format!(
                "\"{table}\",\"{row}\",{first},{second},{verdict}\n"
            ));
        }
        csv
    }
}

impl Pair {
    fn verdict(&self) -> Verdict {
        let [Some(first), Some(second)] = self.values() else {
            return Verdict::Other;
        };
        if self.each().any(|ratio| ratio.late) {
            return Verdict::Late;
        }
        let are_negligible = first.max(second) < NEGLIGIBLE;
        match are_negligible || (second - first).abs() <= SLACK * first {
            true => Verdict::Same,
            false => Verdict::Other,
        }
    }

    fn cells(&self) -> Vec<String> {
        let [first, second] = self.values();
        let change = first.zip(second).map(|(first, second)| second / first);
        vec![
            format!("{}: {}", self.table(), self.row()),
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

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Other => "other",
            Self::Late => "late",
        }
    }
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".into(), |value| format!("{value:.digits$}"))
}

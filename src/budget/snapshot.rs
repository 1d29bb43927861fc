/// The figures of a [`Budget`](super::Budget) at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// How many requests it carries at once.
    pub limit: usize,
    /// How many are in flight.
    pub in_flight: usize,
    /// The most that were ever in flight at once.
    pub peak_in_flight: usize,
    /// How many were admitted since the budget was made.
    pub admitted: usize,
    /// How many were refused.
    pub refused: usize,
    /// How many would have been refused, and ran uncounted in a dry run instead.
    pub would_refuse: usize,
    /// How many passed without being counted.
    pub exempt: usize,
}

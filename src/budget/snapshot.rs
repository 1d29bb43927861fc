/// The figures of a [`Budget`](super::Budget) at one moment.
///
/// With the feature `serde` it serialises as a map of its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// How many requests it carries at once.
    pub limit: usize,
    /// How many are in flight.
    pub in_flight: usize,
    /// The most that were ever in flight at once, those included that an outer layer counted and an inner one refused.
    pub peak_in_flight: usize,
    /// How many were admitted since the budget was made. It goes down by one when an outer layer has counted a request
    /// that an inner one then refuses.
    pub admitted: usize,
    /// How many were refused.
    pub refused: usize,
    /// How many would have been refused, and ran uncounted in a dry run instead.
    pub would_refuse: usize,
    /// How many passed a layer that did not count them.
    pub exempt: usize,
}

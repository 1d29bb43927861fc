/// The figures of a [`Budget`](super::Budget) at one moment.
///
/// `limit`, `in_flight` and `peak_in_flight` are in units, which is requests where each costs one
/// ([`LoadShed::cost`](crate::LoadShed::cost)). The others count requests.
///
/// With the feature `serde` it serialises as a map of its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// How much it carries at once.
    pub limit: usize,
    /// How much is in flight.
    pub in_flight: usize,
    /// The most that was ever in flight at once, requests included that an outer layer counted and an inner one refused.
    pub peak_in_flight: usize,
    /// How many requests were admitted since the budget was made. It goes down by one when an outer layer has counted a request
    /// that an inner one then refuses.
    pub admitted: usize,
    /// How many were refused.
    pub refused: usize,
    /// How many would have been refused, and ran uncounted in a dry run instead.
    pub would_refuse: usize,
    /// How many passed a layer that did not count them.
    pub exempt: usize,
    /// How many wait for room now. They are not in flight.
    pub waiting: usize,
    /// How many have waited for room since the budget was made, those included that were refused in the end.
    pub waited: usize,
}

//! A probe that is under way.

#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) why: Why,
    /// Successes per second before it.
    pub(crate) rate: f64,
    /// How long it has taken yet, in seconds.
    pub(crate) took: f64,
    /// How many requests are admitted until the queue is gone, if that is more than the target.
    pub(crate) admitted: f64,
    /// Whether as few requests as the target were in flight since it was lowered.
    pub(crate) is_filled: bool,
    /// Whether the queue is gone.
    pub(crate) is_drained: bool,
    /// The fewest requests in flight since the target was lowered, to a tenth, and how many have completed since.
    pub(crate) fewest: f64,
    pub(crate) completed: f64,
    /// Whether fewer cannot be had: the requests in flight are never refused, or the smallest limit admits them.
    pub(crate) is_least: bool,
    /// From this latency on, so few requests in flight are as slow as many more were.
    pub(crate) as_slow: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Why {
    /// A queue has stood.
    Queue,
    /// The last probe was some time ago, or may no longer hold.
    Again,
    /// Goodput has collapsed: callers time out, and the work that they leave behind goes on.
    Collapsed,
}

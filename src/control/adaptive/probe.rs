//! What the law asks for, and why.

#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) why: Why,
    /// Successes a second before it.
    pub(crate) rate: f64,
    /// How long it has taken yet, in seconds.
    pub(crate) took: f64,
    /// How many are let in until it is drained, if that is more than the target.
    pub(crate) room: f64,
    /// Whether as many as the target were inside since, and no more was left behind.
    pub(crate) filled: bool,
    /// Whether the line is gone.
    pub(crate) drained: bool,
    /// The fewest that were in flight since the target came down, to a tenth,
    pub(crate) inside: f64,
    /// and how many have finished since they became so few.
    pub(crate) finished: f64,
    /// Whether fewer cannot be had: so many are never refused, or the floor says so.
    pub(crate) least: bool,
    /// From this latency on, so few in flight are as slow as many more were.
    pub(crate) as_slow: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Why {
    /// A line has been standing.
    Standing,
    /// The last answer was some time ago, or may no longer hold.
    Again,
    /// Answers have vanished: callers leave, and the work that they leave behind goes on.
    Vanished,
}

/// So many of a target's requests that the server has something to wait for: they are below the knee for sure.
pub(crate) const BELOW: f64 = 0.8;

impl Why {
    /// Once asked, the service time is known well enough to be asked for again.
    pub(crate) fn or_again(self) -> Self {
        match self {
            Self::Vanished => Self::Standing,
            other => other,
        }
    }
}

use crate::shed::Reason;

/// What a layer decides about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Admitted,
    Exempt,
    Refused(Reason),
    WouldRefuse(Reason),
}

#[cfg(feature = "metrics")]
impl Verdict {
    /// The number of verdicts.
    pub(crate) const COUNT: usize = 2 + 2 * Reason::ALL.len();

    /// Returns the position in a table that has one counter for each verdict.
    #[inline]
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Admitted => 0,
            Self::Exempt => 1,
            Self::Refused(reason) => 2 + reason as usize,
            Self::WouldRefuse(reason) => 2 + Reason::ALL.len() + reason as usize,
        }
    }
}

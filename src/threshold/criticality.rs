/// How much a request matters, in the four classes of the SRE book.
///
/// Lower classes are shed first. What nobody classified is [`Sheddable`](Self::Sheddable).
///
/// Source: *Site Reliability Engineering*, chapter 21, "Handling Overload", section "Criticality". There a request
/// without a class is CRITICAL; here a route opts in to shedding, which says that its calls can bear it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Criticality {
    /// Partial, even full, unavailability is expected: batch jobs that retry by themselves.
    #[default]
    Sheddable,
    /// Partial unavailability is expected: batch work whose callers wait minutes or hours for a retry.
    SheddablePlus,
    /// Users see it when it fails, if less than the next class.
    Critical,
    /// Serious trouble for users when it fails.
    CriticalPlus,
}

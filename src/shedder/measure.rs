/// Up to where the latency of a request is measured: what a learned budget takes for its duration.
///
/// A place is held to the end of the body in any case. See [`LoadShed::measure`](crate::LoadShed::measure).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Measure {
    /// To the head of its response. For most handlers that is the time that the server took: the rest is up to the
    /// network, and a stream may last for hours without being slow.
    #[default]
    Head,
    /// To the end of its body. For handlers that answer at once and do their work while the body is read; for gRPC calls
    /// that fail late, as their status comes behind the body.
    Body,
}

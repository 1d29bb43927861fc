/// The end of a latency measurement under a learned limit.
///
/// The permit is held to the end of the body in any case. See [`LoadShed::measure`](crate::LoadShed::measure).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Measure {
    /// The head of the response. For most handlers that is the time the server took: the rest depends on the
    /// network, and a stream may last for hours without being slow.
    #[default]
    Head,
    /// The end of the body. For handlers that respond at once and do their work while the body is read, and for gRPC calls
    /// that fail late, as their status follows the body.
    Body,
}

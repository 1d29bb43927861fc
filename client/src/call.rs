use std::fmt;

use http::{Request, request::Parts};

use super::{deadline::Deadline, grpc::grpc_content_type, repeat::sealed::Repeat};

/// A request on its way through its tries.
#[allow(
    unnameable_types,
    reason = "it shows in the type of the future, and is of no use to anyone"
)]
pub struct Call<B, C: Repeat<B>> {
    pub(super) head: Parts,
    pub(super) body: C::Kept,
    pub(super) deadline: Option<Deadline>,
    pub(super) retries: u32,
}

impl<B, C: Repeat<B>> Call<B, C> {
    pub(super) fn new(request: Request<B>, repeat: &C) -> Self {
        let (head, body) = request.into_parts();
        let grpc = grpc_content_type(&head.headers);
        let of_grpc = grpc.and_then(|_| Deadline::of_grpc(&head.headers));
        let given = head.extensions.get::<Deadline>().copied();
        Self {
            // The earlier one.
            deadline: given.into_iter().chain(of_grpc).min(),
            head,
            body: repeat.keep(body),
            retries: 0,
        }
    }

    pub(super) fn again(&self) -> Option<Self> {
        Some(Self {
            head: self.head.clone(),
            body: C::again(&self.body)?,
            deadline: self.deadline,
            retries: self.retries,
        })
    }
}

impl<B, C: Repeat<B>> fmt::Debug for Call<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("head", &self.head)
            .field("deadline", &self.deadline)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

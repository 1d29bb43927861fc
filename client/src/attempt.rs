use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Method, Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    body::ResponseBody, call::Call, not_sent::NotSent, refusal::Answer, repeat::sealed::Repeat,
    settings::Settings,
};

/// One try: sends the request, or answers it here.
#[derive(Clone, Debug)]
#[allow(
    unnameable_types,
    reason = "it shows in the type of the future, and is of no use to anyone"
)]
pub struct Attempt<S, C> {
    pub(super) inner: S,
    pub(super) repeat: C,
    pub(super) settings: Arc<Settings>,
}

impl<S, C, B, R> Service<Call<B, C>> for Attempt<S, C>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    C: Repeat<B>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = AttemptFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call<B, C>) -> Self::Future {
        if let Err(reason) = self.settings.admit(call.retries, call.deadline) {
            // What the service has set aside for this call, such as a permit, is not kept from others.
            self.inner = self.inner.clone();
            let headers = call.head.headers;
            return AttemptFuture::NotSent { reason, headers };
        }
        self.settings.pass_on(&mut call.head, call.deadline);
        let method = call.head.method.clone();
        let request = Request::from_parts(call.head, self.repeat.body(call.body));
        AttemptFuture::Sent {
            future: self.inner.call(request),
            method,
            settings: Arc::clone(&self.settings),
        }
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = AttemptProj]
    #[allow(
        unnameable_types,
        reason = "it shows in the type of the future, and is of no use to anyone"
    )]
    pub enum AttemptFuture<F> {
        Sent {
            #[pin]
            future: F,
            method: Method,
            settings: Arc<Settings>,
        },
        NotSent {
            reason: NotSent,
            headers: HeaderMap,
        },
    }
}

impl<F, R, E> Future for AttemptFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<ResponseBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AttemptProj::Sent {
                future,
                method,
                settings,
            } => {
                let response = ready!(future.poll(cx))?;
                if let Some(throttle) = &settings.throttle {
                    throttle.answered(Answer::of(method, &response) == Answer::Accepted);
                }
                Poll::Ready(Ok(response.map(ResponseBody::received)))
            }
            AttemptProj::NotSent { reason, headers } => Poll::Ready(Ok(reason.answer(headers))),
        }
    }
}

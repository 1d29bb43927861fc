use std::sync::Arc;

use http::Response;
use tokio::time::{Sleep, sleep};

use super::{
    call::Call,
    deadline::Deadline,
    not_sent::NotSent,
    refusal::{Answer, Retry},
    repeat::sealed::Repeat,
    settings::Settings,
};

/// What tower's `Retry` asks.
#[derive(Clone, Debug)]
#[allow(
    unnameable_types,
    reason = "it shows in the type of the future, and is of no use to anyone"
)]
pub struct Policy(pub(super) Arc<Settings>);

impl<B, C, R, E> tower::retry::Policy<Call<B, C>, Response<R>, E> for Policy
where
    C: Repeat<B>,
{
    type Future = Sleep;

    fn retry(
        &mut self,
        call: &mut Call<B, C>,
        result: &mut Result<Response<R>, E>,
    ) -> Option<Sleep> {
        let settings = &self.0;
        // An error says nothing about whether the server has begun.
        let response = result.as_ref().ok()?;
        if response.extensions().get::<NotSent>().is_some() {
            return None;
        }
        if call.retries == 0 {
            settings.retry_budget.deposit();
        }
        let wait = match Answer::of(&call.head.method, response) {
            Answer::Accepted | Answer::Refused(Retry::Never) => return None,
            Answer::Refused(Retry::After(wait)) => wait,
            Answer::Refused(Retry::BackOff) => {
                settings.backoff.wait(call.retries + 1, &settings.random)
            }
        };
        let left = call.deadline.map(Deadline::left);
        let worth_it = wait <= settings.patience && left.is_none_or(|left| wait < left);
        // The budget comes last: what is not done for another reason costs nothing.
        if !worth_it || !C::is_whole(&call.body) || !settings.retry_budget.withdraw() {
            return None;
        }
        call.retries += 1;
        Some(sleep(wait))
    }

    fn clone_request(&mut self, call: &Call<B, C>) -> Option<Call<B, C>> {
        if call.retries == self.0.retries {
            return None;
        }
        call.again()
    }
}

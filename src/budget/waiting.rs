use std::task::{Poll, Waker};

use tokio::time::Instant;

use super::budget::Budget;
use crate::{
    admission::{
        claim::{Claim, Refused},
        held::{CountPermit, CountedUnits},
        queue::queue::{Entrant, Ticket, WaitOutcome},
    },
    shed::Reason,
};

impl Budget {
    /// Whether one that was refused finds no place in the line of those who wait. Takes no lock.
    pub(crate) fn queue_is_full(&self, entrant: &Entrant) -> bool {
        self.count.queue.is_full(entrant.claim, entrant.most)
    }

    /// One that was refused waits for room, if there is a place in the line. It does so in its tenant's share, so that none
    /// fills the line; one that has its part does not wait.
    pub(crate) fn join(&self, entrant: Entrant) -> Option<Ticket> {
        let entry = self.enter(entrant.claim);
        // Half of its stretch is left to one that has just its part.
        let ticket = (entry.share > 0.5)
            .then(|| self.count.queue.join(entrant, Instant::now()))
            .flatten();
        let Some(ticket) = ticket else {
            entry.taken.leave_shares();
            return None;
        };
        self.inner.counters.waited.add(1);
        self.count.queue_has_changed();
        Some(ticket)
    }

    /// Whether its turn has come.
    pub(crate) fn poll_waiter(
        &self,
        ticket: &Ticket,
        claim: Claim,
        waker: &Waker,
    ) -> Poll<Result<CountPermit, Refused>> {
        let polled = self.count.queue.poll(ticket, waker);
        polled.map(|verdict| self.told(verdict, claim))
    }

    /// It does not wait any more. If its turn has just come, it has a place all the same.
    pub(crate) fn leave(&self, ticket: &Ticket, claim: Claim) -> Result<CountPermit, Refused> {
        let verdict = self.count.queue.leave(ticket, Instant::now());
        if verdict.is_none() {
            self.count.queue_has_changed();
        }
        self.told(verdict.unwrap_or(WaitOutcome::Refused), claim)
    }

    fn told(&self, verdict: WaitOutcome, claim: Claim) -> Result<CountPermit, Refused> {
        let taken = CountedUnits::of(self.count, &claim);
        let WaitOutcome::Admitted = verdict else {
            taken.leave_shares();
            return Err(Refused::new(Reason::Utilization, &claim, claim.tenant()));
        };
        // Not before: whoever has made room knows the count alone.
        self.inner.observed.admitted(&*self.inner);
        Ok(taken.into())
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use std::{convert::Infallible, future::ready, sync::mpsc, thread, time::Duration};

    use bytes::Bytes;
    use futures_util::FutureExt;
    use http::{Request, Response, StatusCode};
    use http_body_util::{Empty, Full};
    use tower::{Layer, Service, service_fn};

    use super::*;
    use crate::{middleware::load_shed::load_shed::LoadShed, threshold::threshold::Threshold};

    #[tokio::test]
    async fn p17_neither_a_refusal_for_a_full_line_nor_an_admission_past_it_takes_its_lock() {
        let budget = Budget::fixed(1);
        let shed = LoadShed::ratio(1.0).budget(&budget);
        let shed = shed.wait(1, Duration::from_secs(60)).except(["/login"]);
        let mut service = shed.layer(service_fn(|_| {
            ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(
                "text",
            ))))
        }));
        let request = |path| Request::get(path).body(Empty::<Bytes>::new()).unwrap();
        let _held = budget.try_acquire(Threshold::NEVER_SHED).unwrap();
        let _waiting = service.call(request("/"));
        let (done, is_done) = mpsc::channel();
        let responded = budget.count.queue.while_locked(|| {
            thread::spawn(move || {
                let answer = |path| service.call(request(path)).now_or_never();
                done.send(["/", "/login"].map(answer)).unwrap();
            });
            // Far more than it takes: a lock would hang the test.
            is_done.recv_timeout(Duration::from_secs(10)).unwrap()
        });
        let status = responded.map(|answer| answer.expect("it is there at once").unwrap().status());
        assert_eq!(status, [StatusCode::TOO_MANY_REQUESTS, StatusCode::OK]);
    }
}

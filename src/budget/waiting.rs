use std::task::{Poll, Waker};

use tokio::time::Instant;

use super::budget::Budget;
use crate::{
    admission::{
        claim::{Claim, Refused},
        counted_units::CountedUnits,
        permit::CountPermit,
        queue::queue::{Entrant, Ticket, WaitOutcome},
    },
    shed::Reason,
    support::clock::Now,
};

impl Budget {
    /// Returns whether a refused request cannot join the queue. Takes no lock.
    pub(crate) fn queue_is_full(&self, entrant: &Entrant) -> bool {
        self.count.queue.is_full(entrant.claim, entrant.most)
    }

    /// Queues a refused request, unless the queue is full or the request's tenant uses its fair share or more.
    ///
    /// A queued request counts against its tenant's share, so that no tenant fills the queue.
    pub(crate) fn join(&self, entrant: Entrant, now: Instant) -> Option<Ticket> {
        let entry = self.enter(entrant.claim, || now);
        // Half of the admission band is left to a tenant that uses exactly its share.
        let ticket = (entry.share > 0.5)
            .then(|| self.count.join(entrant, now))
            .flatten();
        let Some(ticket) = ticket else {
            entry.units.leave_shares();
            return None;
        };
        // A queued request is not refused yet, and waits for what a stalled response holds.
        self.count.stalls.sweep_if_due(&Now::default());
        self.inner.counters.waited.add(1);
        self.count.serve(now);
        Some(ticket)
    }

    /// Returns until when a request stays in the queue: a drain refuses it once its grace has passed.
    pub(crate) fn waits_until(&self, ticket: &Ticket) -> Instant {
        let refuses_from = self.count.drain.refuses_from();
        refuses_from.map_or(ticket.until, |from| from.min(ticket.until))
    }

    /// Polls for the decision upon a queued request. The waker is also called when [`waits_until`](Self::waits_until) changes.
    pub(crate) fn poll_waiter(
        &self,
        ticket: &Ticket,
        claim: Claim,
        waker: &Waker,
    ) -> Poll<Result<CountPermit, Refused>> {
        let polled = self.count.queue.poll(ticket, waker);
        polled.map(|verdict| self.told(verdict, claim))
    }

    /// Takes a request out of the queue. If it was admitted just before, it has a permit all the same.
    pub(crate) fn leave(
        &self,
        ticket: &Ticket,
        claim: Claim,
        now: Instant,
    ) -> Result<CountPermit, Refused> {
        let verdict = self.count.leave(ticket, now);
        self.told(verdict.unwrap_or(WaitOutcome::Refused), claim)
    }

    fn told(&self, verdict: WaitOutcome, claim: Claim) -> Result<CountPermit, Refused> {
        let units = CountedUnits::of(self.count, &claim);
        let WaitOutcome::Admitted = verdict else {
            units.leave_shares();
            let reason = match self.count.drain.refuses() {
                true => Reason::Draining,
                false => Reason::Utilization,
            };
            return Err(Refused::new(reason, &claim, claim.tenant()));
        };
        let permit = units.into();
        // Not earlier: the thread that freed the capacity knows the count alone.
        self.tell_admitted();
        Ok(permit)
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
    async fn p17_neither_a_refusal_by_a_full_queue_nor_an_admission_past_it_takes_its_lock() {
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
                let call = |path| service.call(request(path)).now_or_never();
                done.send(["/", "/login"].map(call)).unwrap();
            });
            // Far longer than it takes. A lock would block the thread for all of it.
            is_done.recv_timeout(Duration::from_secs(10)).unwrap()
        });
        let status = responded.map(|response| {
            response
                .expect("the response is ready at once")
                .unwrap()
                .status()
        });
        assert_eq!(status, [StatusCode::TOO_MANY_REQUESTS, StatusCode::OK]);
    }
}

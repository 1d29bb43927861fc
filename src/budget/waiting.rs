use std::task::{Poll, Waker};

use tokio::time::Instant;

use super::{Budget, Place, Refused, Taken};
use crate::{
    budget::Claim,
    shed::Reason,
    wait::{Joining, Ticket, Verdict},
};

impl Budget {
    /// Whether one that was refused finds no place in the line of those who wait. Takes no lock.
    pub(crate) fn line_is_full(&self, joining: &Joining) -> bool {
        self.count.line.is_full(joining.claim, joining.most)
    }

    /// One that was refused waits for room, if there is a place in the line. It does so in its tenant's share, so that none
    /// fills the line; one that has more than its part does not wait.
    pub(crate) fn join(&self, joining: Joining) -> Option<Ticket> {
        let entry = self.enter(joining.claim);
        let ticket = (entry.share >= 1.0)
            .then(|| self.count.line.join(joining, Instant::now()))
            .flatten();
        let Some(ticket) = ticket else {
            entry.taken.leave_shares();
            return None;
        };
        self.inner.tally.waited.add(1);
        self.count.line_has_changed();
        Some(ticket)
    }

    /// Whether its turn has come.
    pub(crate) fn poll_turn(
        &self,
        ticket: &Ticket,
        claim: Claim,
        waker: &Waker,
    ) -> Poll<Result<Place, Refused>> {
        let polled = self.count.line.poll(ticket, waker);
        polled.map(|verdict| self.told(verdict, claim))
    }

    /// It does not wait any more. If its turn has just come, it has a place all the same.
    pub(crate) fn leave(&self, ticket: &Ticket, claim: Claim) -> Result<Place, Refused> {
        let verdict = self.count.line.leave(ticket, Instant::now());
        if verdict.is_none() {
            self.count.line_has_changed();
        }
        self.told(verdict.unwrap_or(Verdict::Refused), claim)
    }

    fn told(&self, verdict: Verdict, claim: Claim) -> Result<Place, Refused> {
        let taken = Taken::of(self.count, claim);
        let Verdict::Admitted { in_flight } = verdict else {
            taken.leave_shares();
            return Err(Refused(Reason::Utilization));
        };
        // Not before: whoever has made room knows the count alone.
        self.inner.tally.admit(in_flight, claim.units);
        self.inner.observed.admitted(self);
        Ok(taken.into())
    }
}

#[cfg(all(test, loadshed_loom))]
#[path = "waiting_model.rs"]
mod model;

use std::{
    cell::Cell,
    panic::catch_unwind,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Request;
use tokio::{
    runtime::{Handle, Id},
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    admission::{
        claim::{Claim, Refused},
        permit::CountPermit,
        queue::queue::Ticket,
        shared_permit::SharedPermit,
    },
    protocol::classification::decide::Decided,
    shed::Reason,
    shedder::settings::Settings,
    support::sharded_arc::ShardedArc,
};

/// A queued request. A drop leaves the queue, and gives back the permit if the request was admitted meanwhile.
pub(crate) struct Waiter {
    settings: ShardedArc<Settings>,
    decided: Decided,
    /// `None` once the request has left the queue.
    ticket: Option<Ticket>,
    /// When the request was queued.
    since: Instant,
    timer: Pin<Box<Sleep>>,
    /// The permit that an outer layer of the budget has. It is empty while the request is queued.
    held: Option<Arc<SharedPermit>>,
}

impl Waiter {
    /// Queues a refused request. Returns `None` if it may not wait.
    pub(crate) fn of<B>(
        settings: &ShardedArc<Settings>,
        request: &mut Request<B>,
        decided: &Decided,
        refused: &Refused,
        held: &Option<Arc<SharedPermit>>,
    ) -> Option<Self> {
        if refused.reason == Reason::Draining {
            return None;
        }
        let wait = settings.wait()?;
        let mut entrant = wait.entrant(|| decided.claim.again(refused))?;
        let budget = settings.budget();
        let decided = Decided {
            claim: entrant.claim,
            ..*decided
        };
        if budget.queue_is_full(&entrant) {
            return None;
        }
        entrant.deadline = wait.deadline(request);
        let mut timer = timer()?;
        let since = Instant::now();
        let ticket = budget.join(entrant, since)?;
        timer.as_mut().reset(ticket.until);
        Some(Self {
            settings: settings.clone(),
            decided,
            ticket: Some(ticket),
            since,
            timer,
            held: held.clone().inspect(|held| held.queue()),
        })
    }

    pub(crate) fn settings(&self) -> (&ShardedArc<Settings>, Decided) {
        (&self.settings, self.decided)
    }

    /// Returns what is left of a timeout that began when the request was queued, or `None` if it is over.
    pub(crate) fn left(&self, timeout: Duration) -> Option<Duration> {
        timeout.checked_sub(self.since.elapsed())
    }

    pub(crate) fn held(&self) -> Option<Arc<SharedPermit>> {
        self.held.clone()
    }

    /// Ready once the request is admitted, or refused after its time.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<CountPermit, Refused>> {
        let Some(ticket) = &self.ticket else {
            return Poll::Pending;
        };
        let (budget, claim) = (self.settings.budget(), self.decided.claim);
        let verdict = loop {
            if let Poll::Ready(verdict) = budget.poll_waiter(ticket, claim, cx.waker()) {
                break verdict;
            }
            // After the poll: from then on a change of these times wakes the waiter.
            let until = budget.waits_until(ticket);
            let due = budget.next_sweep().map_or(until, |sweep| until.min(sweep));
            if self.timer.deadline() != due {
                self.timer.as_mut().reset(due);
            }
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if until <= now {
                break budget.leave(ticket, claim, now);
            }
            // A response that stalls meanwhile has what the request waits for.
            budget.sweep_stalled(now);
        };
        self.ticket = None;
        Poll::Ready(match &self.held {
            Some(held) => leave_queue(held, claim, verdict),
            None => verdict,
        })
    }
}

/// Hands the verdict to the permit of an outer layer, which holds the units from now on.
fn leave_queue(
    held: &SharedPermit,
    claim: Claim,
    verdict: Result<CountPermit, Refused>,
) -> Result<CountPermit, Refused> {
    match verdict {
        Ok(permit) => {
            held.lower(claim.as_threshold());
            // Units that the permit holds already are released: it is one request.
            drop(held.admit_again(permit.into_units()).map(CountPermit::from));
            Ok(CountPermit::EMPTY)
        }
        Err(refused) => {
            held.refuse_queued();
            Err(refused)
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let budget = self.settings.budget();
            let left = budget.leave(&ticket, self.decided.claim, Instant::now());
            // Admitted meanwhile: the permit is released here.
            if left.is_ok() {
                self.settings.has_waited(&self.decided);
            }
            // An outer layer has the request, which may work on.
            if let Some(held) = &self.held {
                drop(leave_queue(held, self.decided.claim, left));
            }
        }
    }
}

thread_local! {
    /// The latest runtime of this thread without a timer. tokio may reuse the id of a runtime that has ended; it counts
    /// ids up, so that takes 2⁶⁴ runtimes.
    static WITHOUT_TIMER: Cell<Option<Id>> = const { Cell::new(None) };
}

/// Returns a timer, or `None` outside of a runtime, and in a runtime without timers.
fn timer() -> Option<Pin<Box<Sleep>>> {
    let runtime = Handle::try_current().ok()?.id();
    if WITHOUT_TIMER.get() == Some(runtime) {
        return None;
    }
    // tokio has no way to ask for a timer but to panic, which writes a message: so once a thread, and not for each request.
    let timer = catch_unwind(|| Box::pin(sleep_until(Instant::now()))).ok();
    if timer.is_none() {
        WITHOUT_TIMER.set(Some(runtime));
    }
    timer
}

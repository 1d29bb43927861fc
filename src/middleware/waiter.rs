use std::{
    cell::Cell,
    panic::catch_unwind,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Request;
use tokio::{
    runtime::{Handle, Id},
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    admission::{claim::Refused, held::CountPermit, queue::queue::Ticket},
    protocol::classification::decide::Decided,
    shed::Reason,
    shedder::settings::Settings,
};

/// A queued request. A drop leaves the queue, and gives back the permit if the request was admitted meanwhile.
pub(crate) struct Waiter {
    settings: Arc<Settings>,
    decided: Decided,
    /// `None` once the request has left the queue.
    ticket: Option<Ticket>,
    timer: Pin<Box<Sleep>>,
}

impl Waiter {
    /// Queues a refused request. Returns `None` if it may not wait.
    pub(crate) fn of<B>(
        settings: &Arc<Settings>,
        request: &mut Request<B>,
        decided: &Decided,
        refused: &Refused,
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
        let ticket = budget.join(entrant, Instant::now())?;
        timer.as_mut().reset(ticket.until);
        Some(Self {
            settings: Arc::clone(settings),
            decided,
            ticket: Some(ticket),
            timer,
        })
    }

    pub(crate) fn settings(&self) -> (&Arc<Settings>, Decided) {
        (&self.settings, self.decided)
    }

    /// Ready once the request is admitted, or refused after its time.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<CountPermit, Refused>> {
        let Some(ticket) = &self.ticket else {
            return Poll::Pending;
        };
        let (budget, claim) = (self.settings.budget(), self.decided.claim);
        let mut polled = budget.poll_waiter(ticket, claim, cx.waker());
        // After the poll: from then on a change of this time wakes the waiter.
        let until = budget.waits_until(ticket);
        if self.timer.deadline() != until {
            self.timer.as_mut().reset(until);
        }
        if polled.is_pending() && self.timer.as_mut().poll(cx).is_ready() {
            polled = Poll::Ready(budget.leave(ticket, claim, Instant::now()));
        }
        if polled.is_ready() {
            self.ticket = None;
        }
        polled
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let budget = self.settings.budget();
            let left = budget.leave(&ticket, self.decided.claim, Instant::now());
            // Admitted meanwhile: the permit is given back here.
            if left.is_ok() {
                self.settings.has_waited(&self.decided);
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

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
    shedder::settings::Settings,
};

/// One request that waits for room. Dropped, it leaves the line, and gives back what it was given.
pub(crate) struct Waiter {
    settings: Arc<Settings>,
    decided: Decided,
    /// `None` once it has left the line.
    ticket: Option<Ticket>,
    timer: Pin<Box<Sleep>>,
}

impl Waiter {
    /// `None` if it may not wait.
    pub(crate) fn of<B>(
        settings: &Arc<Settings>,
        request: &mut Request<B>,
        decided: &Decided,
        refused: &Refused,
    ) -> Option<Self> {
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

    /// Whether it was admitted, or has waited for too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<CountPermit, Refused>> {
        let Some(ticket) = &self.ticket else {
            return Poll::Pending;
        };
        let (budget, claim) = (self.settings.budget(), self.decided.claim);
        let mut polled = budget.poll_waiter(ticket, claim, cx.waker());
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
            // It has been admitted, and gives its place back here.
            if left.is_ok() {
                self.settings.has_waited(&self.decided);
            }
        }
    }
}

thread_local! {
    /// The latest runtime in which there was none. tokio may give its id to another one once it has ended; as it
    /// counts today, that takes 2⁶⁴ of them.
    static WITHOUT_TIMER: Cell<Option<Id>> = const { Cell::new(None) };
}

/// `None` where there is none to be had: outside of a runtime, or in one without a timer.
fn timer() -> Option<Pin<Box<Sleep>>> {
    let runtime = Handle::try_current().ok()?.id();
    if WITHOUT_TIMER.get() == Some(runtime) {
        return None;
    }
    // There is no way to ask. To be told writes the message of a panic: once, and not for each request.
    let timer = catch_unwind(|| Box::pin(sleep_until(Instant::now()))).ok();
    if timer.is_none() {
        WITHOUT_TIMER.set(Some(runtime));
    }
    timer
}

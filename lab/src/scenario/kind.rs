//! The description of one kind of work.

use std::time::Duration;

use super::{callers::Callers, server::Server};

/// One kind of work: what its calls go through, and who sends them.
///
/// All fields are public: start from [`Kind::new`] and change the fields that differ.
#[derive(Clone, Debug)]
pub struct Kind {
    /// The name, for tables. Kinds of the same name have one report together.
    pub name: String,
    /// The path of its requests, as the layer sees it. By default `/`.
    pub path: String,
    /// What its calls go through.
    pub server: Server,
    /// The number of an earlier kind whose workers serve the calls of this kind, too. Only the service time, its distribution
    /// and the dependency are then read from [`server`](Self::server). `None`, the default: workers of its own.
    pub shares: Option<usize>,
    /// The calls a second that a load of 1 stands for. By default the capacity of the server.
    pub unit: f64,
    /// The mean time from the head of a response to the end of its body, for streams. By default zero.
    pub body: Duration,
    /// The behaviour of the callers.
    pub callers: Callers,
    /// The response of a call whose work is done. By default the status 200.
    pub response: Answer,
    /// What a failing call is answered with. By default 503 after 1 ms.
    pub failure: Failure,
    /// Which completions count as goodput.
    pub counted: Counted,
}

/// The response of a call that fails: quick, and without any work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The response.
    pub response: Answer,
    /// The time until the response.
    pub after: Duration,
}

/// What a response says of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An HTTP status.
    Status(u16),
    /// A gRPC code, in the head of the response.
    Grpc(u16),
}

/// Which completions count as goodput of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Calls that arrive and complete in the phase.
    WithinPhase,
    /// Calls that arrive in the phase, whenever they complete: for calls that take as long as a phase.
    Whenever,
}

impl Kind {
    /// Creates a kind with workers of its own, whose callers have a timeout of 1 s and do not retry.
    #[must_use]
    pub fn new(name: impl Into<String>, server: Server) -> Self {
        Self {
            name: name.into(),
            path: "/".to_owned(),
            server,
            shares: None,
            unit: server.capacity(),
            body: Duration::ZERO,
            callers: Callers::default(),
            response: Answer::Status(200),
            failure: Failure {
                response: Answer::Status(503),
                after: Duration::from_millis(1),
            },
            counted: Counted::WithinPhase,
        }
    }

    /// Creates a kind whose calls take time and no worker, such as a long poll. A load of 1 is one call a second.
    #[must_use]
    pub fn unqueued(name: impl Into<String>, server: Server) -> Self {
        Self {
            unit: 1.0,
            ..Self::new(name, server)
        }
    }

    /// Sets the kind whose workers serve the calls, by its number.
    #[must_use]
    pub fn sharing(self, owner: usize) -> Self {
        Self {
            shares: Some(owner),
            ..self
        }
    }

    /// Sets the client timeout.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.callers.timeout = timeout;
        self
    }

    /// Sets the path.
    #[must_use]
    pub fn at(self, path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            ..self
        }
    }
}

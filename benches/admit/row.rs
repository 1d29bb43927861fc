//! A row of the tables: one kind of request, and how its service is used.

use http::{Request, Uri};
use tower::Service;

use crate::{
    grpc::serve_grpc,
    request::{Body, Served, serve, serve_one},
    threads::Once,
};

/// Called once per thread; the closure that it returns is timed.
pub(crate) type Worker = Box<dyn Fn() -> Once + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Admit,
    Refuse,
}

pub(crate) struct Row {
    pub(crate) table: Table,
    pub(crate) name: &'static str,
    /// Each thread reuses one service for all its requests.
    pub(crate) reused: Worker,
    /// The service is cloned for each request, as axum does.
    pub(crate) cloned: Option<Worker>,
}

pub(crate) fn admit<S>(name: &'static str, service: S) -> Row
where
    S: Service<Request<Body>, Response: Served> + Clone + Send + Sync + 'static,
{
    row(Table::Admit, name, service, serve)
}

pub(crate) fn refuse<S>(name: &'static str, service: S) -> Row
where
    S: Service<Request<Body>, Response: Served> + Clone + Send + Sync + 'static,
{
    row(Table::Refuse, name, service, serve)
}

/// A row of refusals over gRPC. The figures include the request, whose headers take a table.
pub(crate) fn refuse_grpc<S>(name: &'static str, service: S) -> Row
where
    S: Service<Request<Body>, Response: Served> + Clone + Send + Sync + 'static,
{
    row(Table::Refuse, name, service, serve_grpc)
}

fn row<S>(
    table: Table,
    name: &'static str,
    service: S,
    serve: impl Fn(&mut S) -> bool + Copy + Send + Sync + 'static,
) -> Row
where
    S: Service<Request<Body>, Response: Served> + Clone + Send + Sync + 'static,
{
    let reused = service.clone();
    let reused = worker(move || {
        let mut service = reused.clone();
        move || serve(&mut service)
    });
    let cloned = worker(move || {
        let service = service.clone();
        move || serve(&mut service.clone())
    });
    Row {
        table,
        name,
        reused,
        cloned: Some(cloned),
    }
}

/// All requests go to the same path, which matches one route of a hundred.
pub(crate) fn by_path<S>(name: &'static str, service: S) -> Row
where
    S: Service<Request<Body>, Response: Served> + Clone + Send + Sync + 'static,
{
    alone(name, move || {
        let mut service = service.clone();
        let uri = Uri::from_static("/v1/accounts/4711/orders/table-57/items");
        move || {
            let mut request = Request::new(Body::new());
            *request.uri_mut() = uri.clone();
            serve_one(&mut service, request)
        }
    })
}

/// A row of work that is not a service, or of a service that is not cloned.
pub(crate) fn alone<F>(name: &'static str, work: impl Fn() -> F + Sync + 'static) -> Row
where
    F: FnMut() -> bool + Send + 'static,
{
    Row {
        table: Table::Admit,
        name,
        reused: worker(work),
        cloned: None,
    }
}

fn worker<F>(work: impl Fn() -> F + Sync + 'static) -> Worker
where
    F: FnMut() -> bool + Send + 'static,
{
    Box::new(move || Box::new(work()))
}

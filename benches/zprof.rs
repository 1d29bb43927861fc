#![allow(missing_docs)]
use std::{convert::Infallible, future::{Future, Ready, ready}, hint::black_box, pin::pin, task::{Context, Poll, Waker}};
use bytes::Bytes; use http::{Request, Response}; use http_body_util::Empty; use loadshed::{Budget, LoadShed}; use tower::{Layer, Service};
type Body = Empty<Bytes>;
#[derive(Clone)] struct Bare;
impl Service<Request<Body>> for Bare { type Response = Response<Body>; type Error = Infallible; type Future = Inner;
 fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
 fn call(&mut self, request: Request<Body>) -> Self::Future { drop(black_box(request)); Inner(Some(())) } }
#[derive(Debug)] pub struct Inner(Option<()>);
impl Future for Inner { type Output = Result<Response<Body>, Infallible>; fn poll(mut self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> { black_box(self.0.take()); Poll::Ready(Ok(Response::new(Body::new()))) } }
#[inline(never)]
fn serve<S: Service<Request<Body>>>(service: &mut S) {
    let mut cx = Context::from_waker(Waker::noop());
    match service.poll_ready(&mut cx) { Poll::Ready(Ok(())) => {} _ => return }
    let future = service.call(black_box(Request::new(Body::new())));
    let Poll::Ready(response) = pin!(future).poll(&mut cx) else { panic!() };
    let _ = black_box(response);
}

#[derive(Clone)] struct Raw { inner: Bare, n: std::sync::Arc<std::sync::atomic::AtomicUsize> }
struct Guarded<F> { f: F, n: std::sync::Arc<std::sync::atomic::AtomicUsize> }
impl<F: Future + Unpin> Future for Guarded<F> { type Output = F::Output; fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> { std::pin::Pin::new(&mut self.f).poll(cx) } }
impl<F> Drop for Guarded<F> { fn drop(&mut self) { self.n.fetch_sub(1, std::sync::atomic::Ordering::Relaxed); } }
impl Service<Request<Body>> for Raw { type Response = Response<Body>; type Error = Infallible; type Future = Guarded<Inner>;
 fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
 fn call(&mut self, request: Request<Body>) -> Self::Future { self.n.fetch_add(1, std::sync::atomic::Ordering::Relaxed); Guarded { f: self.inner.call(request), n: self.n.clone() } } }

mod m { use super::*; use std::sync::{Arc, atomic::{AtomicUsize, Ordering}}; use pin_project_lite::pin_project;
pub struct P(Option<Arc<AtomicUsize>>);
impl Drop for P { fn drop(&mut self) { if let Some(n) = &self.0 { n.fetch_sub(1, Ordering::Relaxed); } } }
#[derive(Clone)] pub struct M { pub inner: Bare, pub n: Arc<AtomicUsize> }
pin_project!{ pub struct Bd<B> { #[pin] k: K<B> } }
pin_project!{ #[project = KP] enum K<B> { Served { #[pin] body: B, place: P }, Refused { text: Option<Bytes> } } }
pin_project!{ pub struct Fu<F> { #[pin] f: F, p: Option<P> } }
impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Fu<F> { type Output = Result<Response<Bd<Body>>, Infallible>;
 fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> { let this = self.project();
   match this.f.poll(cx) { Poll::Pending => Poll::Pending, Poll::Ready(Err(e)) => Poll::Ready(Err(e)), Poll::Ready(Ok(r)) => { let place = this.p.take().unwrap();
     Poll::Ready(Ok(r.map(|body| { let place = if http_body::Body::is_end_stream(&body) { drop(place); P(None) } else { place }; Bd { k: K::Served { body, place } } }))) } } } }
impl Service<Request<Body>> for M { type Response = Response<Bd<Body>>; type Error = Infallible; type Future = Fu<Inner>;
 fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
 fn call(&mut self, request: Request<Body>) -> Self::Future {
   let mut seen = self.n.load(Ordering::Relaxed);
   loop { if seen >= 170 { panic!() } match self.n.compare_exchange_weak(seen, seen+1, Ordering::Acquire, Ordering::Relaxed) { Ok(_) => break, Err(e) => seen = e } }
   let p = P(Some(self.n.clone()));
   Fu { f: self.inner.call(request), p: Some(p) } } }
}
mod m2 { use super::*; use std::sync::{Arc, atomic::{AtomicUsize, Ordering}}; use pin_project_lite::pin_project;
pub struct P(Option<Arc<AtomicUsize>>);
impl Drop for P { fn drop(&mut self) { if let Some(n) = &self.0 { n.fetch_sub(1, Ordering::Relaxed); } } }
#[derive(Clone)] pub struct M { pub inner: Bare, pub n: Arc<AtomicUsize> }
pin_project!{ pub struct Bd<B> { #[pin] k: K<B> } }
pin_project!{ #[project = KP] enum K<B> { Served { #[pin] body: B, place: P }, Refused { text: Option<Bytes> } } }
pin_project!{ pub struct Fu<F> { #[pin] f: F, p: Option<P> } }
impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Fu<F> { type Output = Result<Response<Bd<Body>>, Infallible>;
 fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> { let this = self.project();
   match this.f.poll(cx) { Poll::Pending => Poll::Pending, Poll::Ready(Err(e)) => Poll::Ready(Err(e)), Poll::Ready(Ok(r)) => { let place = this.p.take().unwrap();
     Poll::Ready(Ok(r.map(|body| { let place = if http_body::Body::is_end_stream(&body) { drop(place); P(None) } else { place }; Bd { k: K::Served { body, place } } }))) } } } }
impl Service<Request<Body>> for M { type Response = Response<Bd<Body>>; type Error = Infallible; type Future = Fu<Inner>;
 fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
 fn call(&mut self, request: Request<Body>) -> Self::Future {
   self.n.fetch_add(1, Ordering::Relaxed);
   let p = P(Some(self.n.clone()));
   Fu { f: self.inner.call(request), p: Some(p) } } }
}
mod m3 { use super::*; use std::sync::{Arc, atomic::{AtomicUsize, Ordering}}; use pin_project_lite::pin_project;
pub struct P(Option<Arc<AtomicUsize>>);
impl Drop for P { fn drop(&mut self) { if let Some(n) = &self.0 { n.fetch_sub(1, Ordering::Relaxed); } } }
#[derive(Clone)] pub struct M { pub inner: Bare, pub n: Arc<AtomicUsize> }
pub struct Bd<B> { body: B, place: P }

pin_project!{ pub struct Fu<F> { #[pin] f: F, p: Option<P> } }
impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Fu<F> { type Output = Result<Response<Bd<Body>>, Infallible>;
 fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> { let this = self.project();
   match this.f.poll(cx) { Poll::Pending => Poll::Pending, Poll::Ready(Err(e)) => Poll::Ready(Err(e)), Poll::Ready(Ok(r)) => { let place = this.p.take().unwrap();
     Poll::Ready(Ok(r.map(|body| { let place = if http_body::Body::is_end_stream(&body) { drop(place); P(None) } else { place }; Bd { body, place } }))) } } } }
impl Service<Request<Body>> for M { type Response = Response<Bd<Body>>; type Error = Infallible; type Future = Fu<Inner>;
 fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
 fn call(&mut self, request: Request<Body>) -> Self::Future {
   self.n.fetch_add(1, Ordering::Relaxed);
   let p = P(Some(self.n.clone()));
   Fu { f: self.inner.call(request), p: Some(p) } } }
}
mod m4 { use super::*; use std::sync::{Arc, atomic::{AtomicUsize, Ordering}}; use pin_project_lite::pin_project;
pub struct P(Option<Arc<AtomicUsize>>);
impl Drop for P { fn drop(&mut self) { if let Some(n) = &self.0 { n.fetch_sub(1, Ordering::Relaxed); } } }
#[derive(Clone)] pub struct M { pub inner: Bare, pub n: Arc<AtomicUsize> }
pub struct Bd<B> { body: B, place: P }

pin_project!{ pub struct Fu<F> { #[pin] f: F, p: Option<P> } }
impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Fu<F> { type Output = Result<Response<Bd<Body>>, Infallible>;
 fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> { let this = self.project();
   match this.f.poll(cx) { Poll::Pending => Poll::Pending, Poll::Ready(Err(e)) => Poll::Ready(Err(e)), Poll::Ready(Ok(r)) => { let place = this.p.take().unwrap();
     Poll::Ready(Ok(r.map(|body| { let place = if http_body::Body::is_end_stream(&body) { drop(place); P(None) } else { place }; Bd { body, place } }))) } } } }
impl Service<Request<Body>> for M { type Response = Response<Bd<Body>>; type Error = Infallible; type Future = Fu<Inner>;
 fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
 fn call(&mut self, request: Request<Body>) -> Self::Future {
   let mut seen = self.n.load(Ordering::Relaxed);
   loop { if seen >= 170 { panic!() } match self.n.compare_exchange_weak(seen, seen+1, Ordering::Acquire, Ordering::Relaxed) { Ok(_) => break, Err(e) => seen = e } }
   let p = P(Some(self.n.clone()));
   Fu { f: self.inner.call(request), p: Some(p) } } }
}
mod m5 { use super::*; use std::sync::{Arc, atomic::{AtomicUsize, Ordering}}; use pin_project_lite::pin_project;
pub struct P(Option<&'static AtomicUsize>);
impl Drop for P { fn drop(&mut self) { if let Some(n) = &self.0 { n.fetch_sub(1, Ordering::Relaxed); } } }
#[derive(Clone)] pub struct M { pub inner: Bare, pub n: &'static AtomicUsize }
pub struct Bd<B> { body: B, place: P }

pin_project!{ pub struct Fu<F> { #[pin] f: F, p: Option<P> } }
impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Fu<F> { type Output = Result<Response<Bd<Body>>, Infallible>;
 fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> { let this = self.project();
   match this.f.poll(cx) { Poll::Pending => Poll::Pending, Poll::Ready(Err(e)) => Poll::Ready(Err(e)), Poll::Ready(Ok(r)) => { let place = this.p.take().unwrap();
     Poll::Ready(Ok(r.map(|body| { let place = if http_body::Body::is_end_stream(&body) { drop(place); P(None) } else { place }; Bd { body, place } }))) } } } }
impl Service<Request<Body>> for M { type Response = Response<Bd<Body>>; type Error = Infallible; type Future = Fu<Inner>;
 fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
 fn call(&mut self, request: Request<Body>) -> Self::Future {
   let mut seen = self.n.load(Ordering::Relaxed);
   loop { if seen >= 170 { panic!() } match self.n.compare_exchange_weak(seen, seen+1, Ordering::Acquire, Ordering::Relaxed) { Ok(_) => break, Err(e) => seen = e } }
   let p = P(Some(self.n));
   Fu { f: self.inner.call(request), p: Some(p) } } }
}
mod m6 { use super::*; use std::sync::{Arc, atomic::{AtomicUsize, Ordering}}; use pin_project_lite::pin_project;
pub struct P(Option<&'static AtomicUsize>);
impl Drop for P { fn drop(&mut self) { if let Some(n) = &self.0 { n.fetch_sub(1, Ordering::Relaxed); } } }
#[derive(Clone)] pub struct M { pub inner: Bare, pub n: &'static AtomicUsize }
pin_project!{ pub struct Bd<B> { #[pin] k: K<B> } }
pin_project!{ #[project = KP] enum K<B> { Served { #[pin] body: B, place: P }, Refused { text: Option<Bytes> } } }
pin_project!{ pub struct Fu<F> { #[pin] f: F, p: Option<P> } }
impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Fu<F> { type Output = Result<Response<Bd<Body>>, Infallible>;
 fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> { let this = self.project();
   match this.f.poll(cx) { Poll::Pending => Poll::Pending, Poll::Ready(Err(e)) => Poll::Ready(Err(e)), Poll::Ready(Ok(r)) => { let place = this.p.take().unwrap();
     Poll::Ready(Ok(r.map(|body| { let place = if http_body::Body::is_end_stream(&body) { drop(place); P(None) } else { place }; Bd { k: K::Served { body, place } } }))) } } } }
impl Service<Request<Body>> for M { type Response = Response<Bd<Body>>; type Error = Infallible; type Future = Fu<Inner>;
 fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
 fn call(&mut self, request: Request<Body>) -> Self::Future {
   let mut seen = self.n.load(Ordering::Relaxed);
   loop { if seen >= 170 { panic!() } match self.n.compare_exchange_weak(seen, seen+1, Ordering::Acquire, Ordering::Relaxed) { Ok(_) => break, Err(e) => seen = e } }
   let p = P(Some(self.n));
   Fu { f: self.inner.call(request), p: Some(p) } } }
}
mod m7 { use super::*; use std::sync::{Arc, atomic::{AtomicUsize, Ordering}}; use pin_project_lite::pin_project;
pub struct P(Option<&'static AtomicUsize>);
impl Drop for P { fn drop(&mut self) { if let Some(n) = &self.0 { n.fetch_sub(1, Ordering::Relaxed); } } }
#[derive(Clone)] pub struct M { pub inner: Bare, pub n: &'static AtomicUsize }
pin_project!{ pub struct Bd<B> { #[pin] k: K<B> } }
pin_project!{ #[project = KP] enum K<B> { Served { #[pin] body: B, place: P }, Refused { text: Option<Bytes> } } }
pin_project!{ pub struct Fu<F> { #[pin] f: St<F>, p: Option<P> } }
pin_project!{ #[project = SP] pub enum St<F> { Waiting { w: Box<(Request<Body>, u64)> }, Called { #[pin] f: F }, Refused { r: Option<Response<Bytes>> }, Done } }
impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Fu<F> { type Output = Result<Response<Bd<Body>>, Infallible>;
 fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> { let this = self.project();
   let f = match this.f.project() { SP::Called { f } => f, _ => panic!() }; match f.poll(cx) { Poll::Pending => Poll::Pending, Poll::Ready(Err(e)) => Poll::Ready(Err(e)), Poll::Ready(Ok(r)) => { let place = this.p.take().unwrap();
     Poll::Ready(Ok(r.map(|body| { let place = if http_body::Body::is_end_stream(&body) { drop(place); P(None) } else { place }; Bd { k: K::Served { body, place } } }))) } } } }
impl Service<Request<Body>> for M { type Response = Response<Bd<Body>>; type Error = Infallible; type Future = Fu<Inner>;
 fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
 fn call(&mut self, request: Request<Body>) -> Self::Future {
   let mut seen = self.n.load(Ordering::Relaxed);
   loop { if seen >= 170 { panic!() } match self.n.compare_exchange_weak(seen, seen+1, Ordering::Acquire, Ordering::Relaxed) { Ok(_) => break, Err(e) => seen = e } }
   let p = P(Some(self.n));
   if seen == 1000 { return Fu { f: St::Refused { r: Some(Response::new(Bytes::new())) }, p: None } } if seen == 2000 { return Fu { f: St::Waiting { w: Box::new((request, 2)) }, p: None } } Fu { f: St::Called { f: self.inner.call(request) }, p: Some(p) } } }
}
mod m8 {
thread_local! { static D: std::cell::Cell<usize> = const { std::cell::Cell::new(0) }; static A: [(std::cell::Cell<usize>, std::cell::Cell<u8>); 16] = const { [const { (std::cell::Cell::new(0), std::cell::Cell::new(0)) }; 16] }; }
pub struct Sc<'a>(Option<&'a mut P>);
fn show(p: &mut P) -> Sc<'_> { let d = D.get(); if d >= 16 { return Sc(None) } D.set(d + 1); A.with(|a| { a[d].0.set(p.0.map_or(0, |p| p as *const _ as usize)); a[d].1.set(1); }); Sc(Some(p)) }
impl Drop for Sc<'_> { fn drop(&mut self) { if let Some(p) = &mut self.0 { let d = D.get() - 1; D.set(d); A.with(|a| if let Some(x) = a.get(d) { if x.1.get() != 1 { p.0 = None } }); } } }
 use super::*; use std::sync::{Arc, atomic::{AtomicUsize, Ordering}}; use pin_project_lite::pin_project;
pub struct P(Option<&'static AtomicUsize>);
impl Drop for P { fn drop(&mut self) { if let Some(n) = &self.0 { n.fetch_sub(1, Ordering::Relaxed); } } }
#[derive(Clone)] pub struct M { pub inner: Bare, pub n: &'static AtomicUsize }
pin_project!{ pub struct Bd<B> { #[pin] k: K<B> } }
pin_project!{ #[project = KP] enum K<B> { Served { #[pin] body: B, place: P }, Refused { text: Option<Bytes> } } }
pin_project!{ pub struct Fu<F> { #[pin] f: F, p: Option<P> } }
impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Fu<F> { type Output = Result<Response<Bd<Body>>, Infallible>;
 fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> { let this = self.project();
   match this.f.poll(cx) { Poll::Pending => Poll::Pending, Poll::Ready(Err(e)) => Poll::Ready(Err(e)), Poll::Ready(Ok(r)) => { let place = this.p.take().unwrap();
     Poll::Ready(Ok(r.map(|body| { let place = if http_body::Body::is_end_stream(&body) { drop(place); P(None) } else { place }; Bd { k: K::Served { body, place } } }))) } } } }
impl Service<Request<Body>> for M { type Response = Response<Bd<Body>>; type Error = Infallible; type Future = Fu<Inner>;
 fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
 fn call(&mut self, request: Request<Body>) -> Self::Future {
   let mut seen = self.n.load(Ordering::Relaxed);
   loop { if seen >= 170 { panic!() } match self.n.compare_exchange_weak(seen, seen+1, Ordering::Acquire, Ordering::Relaxed) { Ok(_) => break, Err(e) => seen = e } }
   let p = P(Some(self.n));
   let mut p = p; let sc = show(&mut p); let f = self.inner.call(request); drop(sc); Fu { f, p: Some(p) } } }
}
mod m9 {
thread_local! { static D: std::cell::Cell<usize> = const { std::cell::Cell::new(0) }; static A: [(std::cell::Cell<usize>, std::cell::Cell<u8>); 16] = const { [const { (std::cell::Cell::new(0), std::cell::Cell::new(0)) }; 16] }; }
pub struct Sc<'a>(Option<&'a mut P>);
fn show(p: &mut P) -> Sc<'_> { let d = D.get(); if d >= 16 { return Sc(None) } D.set(d + 1); A.with(|a| { a[d].0.set(p.0.map_or(0, |p| p as *const _ as usize)); a[d].1.set(1); }); Sc(Some(p)) }
impl Drop for Sc<'_> { fn drop(&mut self) { if let Some(p) = &mut self.0 { let d = D.get() - 1; D.set(d); A.with(|a| if let Some(x) = a.get(d) { if x.1.get() != 1 { p.0 = None } }); } } }
 use super::*; use std::sync::{Arc, atomic::{AtomicUsize, Ordering}}; use pin_project_lite::pin_project;
pub struct P(Option<&'static AtomicUsize>);
impl Drop for P { fn drop(&mut self) { if let Some(n) = &self.0 { n.fetch_sub(1, Ordering::Relaxed); } } }
#[derive(Clone)] pub struct M { pub inner: Bare, pub n: &'static AtomicUsize }
pin_project!{ pub struct Bd<B> { #[pin] k: K<B> } }
pin_project!{ #[project = KP] enum K<B> { Served { #[pin] body: B, place: P }, Refused { text: Option<Bytes> } } }
pin_project!{ pub struct Fu<F> { #[pin] f: F, p: Option<P> } }
impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Fu<F> { type Output = Result<Response<Bd<Body>>, Infallible>;
 fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> { let this = self.project();
   let sc = show(this.p.as_mut().unwrap()); match this.f.poll(cx) { Poll::Pending => Poll::Pending, Poll::Ready(Err(e)) => Poll::Ready(Err(e)), Poll::Ready(Ok(r)) => { drop(sc); let place = this.p.take().unwrap();
     Poll::Ready(Ok(r.map(|body| { let place = if http_body::Body::is_end_stream(&body) { drop(place); P(None) } else { place }; Bd { k: K::Served { body, place } } }))) } } } }
impl Service<Request<Body>> for M { type Response = Response<Bd<Body>>; type Error = Infallible; type Future = Fu<Inner>;
 fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
 fn call(&mut self, request: Request<Body>) -> Self::Future {
   let mut seen = self.n.load(Ordering::Relaxed);
   loop { if seen >= 170 { panic!() } match self.n.compare_exchange_weak(seen, seen+1, Ordering::Acquire, Ordering::Relaxed) { Ok(_) => break, Err(e) => seen = e } }
   let p = P(Some(self.n));
   let mut p = p; let sc = show(&mut p); let f = self.inner.call(request); drop(sc); Fu { f, p: Some(p) } } }
}
mod mb { use super::*; use std::sync::{Arc, atomic::{AtomicUsize, Ordering}}; use pin_project_lite::pin_project;
pub struct P(Option<&'static AtomicUsize>);
impl Drop for P { fn drop(&mut self) { if let Some(n) = &self.0 { n.fetch_sub(1, Ordering::Relaxed); } } }
#[derive(Clone)] pub struct M { pub inner: Bare, pub n: &'static AtomicUsize }
pin_project!{ pub struct Bd<B> { #[pin] k: K<B> } }
pin_project!{ #[project = KP] enum K<B> { Served { #[pin] body: B, place: P }, Refused { text: Option<Bytes> } } }
pin_project!{ pub struct Fu<F> { #[pin] f: St<F>, p: Option<P> } }
pin_project!{ #[project = SP] pub enum St<F> { Waiting { w: Box<(Request<Body>, u64)> }, Called { #[pin] f: F }, Refused { r: Box<Response<Bytes>> }, Done } }
impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Fu<F> { type Output = Result<Response<Bd<Body>>, Infallible>;
 fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> { let this = self.project();
   let f = match this.f.project() { SP::Called { f } => f, _ => panic!() }; match f.poll(cx) { Poll::Pending => Poll::Pending, Poll::Ready(Err(e)) => Poll::Ready(Err(e)), Poll::Ready(Ok(r)) => { let place = this.p.take().unwrap();
     Poll::Ready(Ok(r.map(|body| { let place = if http_body::Body::is_end_stream(&body) { drop(place); P(None) } else { place }; Bd { k: K::Served { body, place } } }))) } } } }
impl Service<Request<Body>> for M { type Response = Response<Bd<Body>>; type Error = Infallible; type Future = Fu<Inner>;
 fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
 fn call(&mut self, request: Request<Body>) -> Self::Future {
   let mut seen = self.n.load(Ordering::Relaxed);
   loop { if seen >= 170 { panic!() } match self.n.compare_exchange_weak(seen, seen+1, Ordering::Acquire, Ordering::Relaxed) { Ok(_) => break, Err(e) => seen = e } }
   let p = P(Some(self.n));
   if seen == 1000 { return Fu { f: St::Refused { r: Box::new(Response::new(Bytes::new())) }, p: None } } if seen == 2000 { return Fu { f: St::Waiting { w: Box::new((request, 2)) }, p: None } } Fu { f: St::Called { f: self.inner.call(request) }, p: Some(p) } } }
}
mod mc { use super::*; use std::sync::{Arc, atomic::{AtomicUsize, Ordering}}; use pin_project_lite::pin_project;
pub struct P(Option<&'static AtomicUsize>);
impl Drop for P { fn drop(&mut self) { if let Some(n) = &self.0 { n.fetch_sub(1, Ordering::Relaxed); } } }
#[derive(Clone)] pub struct M { pub inner: Bare, pub n: &'static AtomicUsize }
pin_project!{ pub struct Bd<B> { #[pin] k: K<B> } }
pin_project!{ #[project = KP] enum K<B> { Served { #[pin] body: B, place: P }, Refused { text: Option<Bytes> } } }
pin_project!{ pub struct Fu<F> { #[pin] f: St<F>, p: Option<P>, r: Option<Response<Bytes>> } }
pin_project!{ #[project = SP] pub enum St<F> { Waiting { w: Box<(Request<Body>, u64)> }, Called { #[pin] f: F }, Refused { r: u64 }, Done } }
impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Fu<F> { type Output = Result<Response<Bd<Body>>, Infallible>;
 fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> { let this = self.project();
   let f = match this.f.project() { SP::Called { f } => f, _ => panic!() }; match f.poll(cx) { Poll::Pending => Poll::Pending, Poll::Ready(Err(e)) => Poll::Ready(Err(e)), Poll::Ready(Ok(r)) => { let place = this.p.take().unwrap();
     Poll::Ready(Ok(r.map(|body| { let place = if http_body::Body::is_end_stream(&body) { drop(place); P(None) } else { place }; Bd { k: K::Served { body, place } } }))) } } } }
impl Service<Request<Body>> for M { type Response = Response<Bd<Body>>; type Error = Infallible; type Future = Fu<Inner>;
 fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
 fn call(&mut self, request: Request<Body>) -> Self::Future {
   let mut seen = self.n.load(Ordering::Relaxed);
   loop { if seen >= 170 { panic!() } match self.n.compare_exchange_weak(seen, seen+1, Ordering::Acquire, Ordering::Relaxed) { Ok(_) => break, Err(e) => seen = e } }
   let p = P(Some(self.n));
   if seen == 1000 { return Fu { f: St::Refused { r: 8 }, r: Some(Response::new(Bytes::new())), p: None } } if seen == 2000 { return Fu { f: St::Waiting { w: Box::new((request, 2)) }, p: None, r: None } } Fu { f: St::Called { f: self.inner.call(request) }, p: Some(p), r: None } } }
}
mod md { use super::*; use std::sync::{Arc, atomic::{AtomicUsize, Ordering}}; use pin_project_lite::pin_project;
pub struct P(Option<&'static AtomicUsize>);
impl Drop for P { fn drop(&mut self) { if let Some(n) = &self.0 { n.fetch_sub(1, Ordering::Relaxed); } } }
#[derive(Clone)] pub struct M { pub inner: Bare, pub n: &'static AtomicUsize }
pin_project!{ pub struct Bd<B> { #[pin] k: K<B> } }
pin_project!{ #[project = KP] enum K<B> { Served { #[pin] body: B, place: P }, Refused { text: Option<Bytes> } } }
pin_project!{ pub struct Fu<F> { #[pin] f: Option<F>, p: Option<P>, r: Option<Box<Response<Bytes>>> } }
impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Fu<F> { type Output = Result<Response<Bd<Body>>, Infallible>;
 fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> { let this = self.project();
   let Some(f) = this.f.as_pin_mut() else { panic!() }; match f.poll(cx) { Poll::Pending => Poll::Pending, Poll::Ready(Err(e)) => Poll::Ready(Err(e)), Poll::Ready(Ok(r)) => { let place = this.p.take().unwrap();
     Poll::Ready(Ok(r.map(|body| { let place = if http_body::Body::is_end_stream(&body) { drop(place); P(None) } else { place }; Bd { k: K::Served { body, place } } }))) } } } }
impl Service<Request<Body>> for M { type Response = Response<Bd<Body>>; type Error = Infallible; type Future = Fu<Inner>;
 fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
 fn call(&mut self, request: Request<Body>) -> Self::Future {
   let mut seen = self.n.load(Ordering::Relaxed);
   loop { if seen >= 170 { panic!() } match self.n.compare_exchange_weak(seen, seen+1, Ordering::Acquire, Ordering::Relaxed) { Ok(_) => break, Err(e) => seen = e } }
   let p = P(Some(self.n));
   if seen == 1000 { return Fu { f: None, p: None, r: Some(Box::new(Response::new(Bytes::new()))) } } Fu { f: Some(self.inner.call(request)), p: Some(p), r: None } } }
}
mod me { use super::*; use std::sync::{Arc, atomic::{AtomicUsize, Ordering}}; use pin_project_lite::pin_project;
pub struct P(Option<&'static AtomicUsize>);
impl Drop for P { fn drop(&mut self) { if let Some(n) = &self.0 { n.fetch_sub(1, Ordering::Relaxed); } } }
#[derive(Clone)] pub struct M { pub inner: Bare, pub n: &'static AtomicUsize }
pin_project!{ pub struct Bd<B> { #[pin] k: K<B> } }
pin_project!{ #[project = KP] enum K<B> { Served { #[pin] body: B, place: P }, Refused { text: Option<Bytes> } } }
pin_project!{ pub struct Fu<F> { #[pin] f: Option<F>, p: Option<P>, r: Option<Box<Response<Bytes>>> } }
impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Fu<F> { type Output = Result<Response<Bd<Body>>, Infallible>;
 fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> { let this = self.project();
   let Some(f) = this.f.as_pin_mut() else { panic!() }; match f.poll(cx) { Poll::Pending => Poll::Pending, Poll::Ready(Err(e)) => Poll::Ready(Err(e)), Poll::Ready(Ok(r)) => { let place = this.p.take().unwrap();
     Poll::Ready(Ok(r.map(|body| { let place = if http_body::Body::is_end_stream(&body) { drop(place); P(None) } else { place }; Bd { k: K::Served { body, place } } }))) } } } }
impl Service<Request<Body>> for M { type Response = Response<Bd<Body>>; type Error = Infallible; type Future = Fu<Inner>;
 fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
 fn call(&mut self, request: Request<Body>) -> Self::Future {
   let mut seen = self.n.load(Ordering::Relaxed);
   loop { if seen >= 170 { panic!() } match self.n.compare_exchange_weak(seen, seen+1, Ordering::Acquire, Ordering::Relaxed) { Ok(_) => break, Err(e) => seen = e } }
   if seen == 1000 { return cold() }   let p = P(Some(self.n));
    Fu { f: Some(self.inner.call(request)), p: Some(p), r: None } } }

#[cold] #[inline(never)] fn cold<F>() -> Fu<F> { Fu { f: None, p: None, r: Some(Box::new(Response::new(Bytes::new()))) } }
}
fn run<S: Service<Request<Body>>>(mut s: S) { let n: u64 = std::env::args().nth(2).and_then(|n| n.parse().ok()).unwrap_or(30_000_000); for _ in 0..n { serve(&mut s); } }
fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("bare") => run(Bare),
        Some("arc") => run(Raw { inner: Bare, n: Default::default() }),
        Some("map") => run(m::M { inner: Bare, n: Default::default() }),
        Some("m2") => run(m2::M { inner: Bare, n: Default::default() }),
        Some("m3") => run(m3::M { inner: Bare, n: Default::default() }),
        Some("m4") => run(m4::M { inner: Bare, n: Default::default() }),
        Some("m5") => run(m5::M { inner: Bare, n: Box::leak(Box::default()) }),
        Some("m6") => run(m6::M { inner: Bare, n: Box::leak(Box::default()) }),
        Some("m7") => run(m7::M { inner: Bare, n: Box::leak(Box::default()) }),
        Some("m8") => run(m8::M { inner: Bare, n: Box::leak(Box::default()) }),
        Some("m9") => run(m9::M { inner: Bare, n: Box::leak(Box::default()) }),
        Some("mb") => run(mb::M { inner: Bare, n: Box::leak(Box::default()) }),
        Some("mc") => run(mc::M { inner: Bare, n: Box::leak(Box::default()) }),
        Some("md") => run(md::M { inner: Bare, n: Box::leak(Box::default()) }),
        Some("me") => run(me::M { inner: Bare, n: Box::leak(Box::default()) }),
        Some("refuse") => { let b = Budget::fixed(1); let p = b.try_acquire(loadshed::Threshold::NEVER).unwrap(); run(LoadShed::ratio(0.85).budget(&b).layer(Bare)); drop(p) }
        _ => run(LoadShed::ratio(0.85).budget(Budget::fixed(200)).layer(Bare)),
    }
}

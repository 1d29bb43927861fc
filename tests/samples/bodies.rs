//! The outcome of a request that is measured to the end of its body.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use loadshed::{LoadShed, Measure, control::Outcome};
use tokio::time::sleep;
use tower::{Layer, Service, service_fn};

use super::{GRPC, Recorded, answers, head, outcomes};
use crate::support::{Broken, Req, answer, boxed_body, get, holding, next_frame};

const FRAME: Duration = Duration::from_millis(10);

#[derive(Clone, Copy)]
enum Sends {
    Data,
    Failure,
    /// With this gRPC status.
    Trailers(&'static str),
}

use Sends::{Data, Failure, Trailers};

impl Sends {
    async fn frame(self) -> Result<Frame<Bytes>, Broken> {
        sleep(FRAME).await;
        match self {
            Data => Ok(Frame::data(Bytes::from_static(b"data"))),
            Failure => Err(Broken("body failed")),
            Trailers(code) => {
                let status = HeaderName::from_static("grpc-status");
                let code = HeaderValue::from_static(code);
                Ok(Frame::trailers(HeaderMap::from_iter([(status, code)])))
            }
        }
    }
}

/// Serves a head and a body. The head and each frame take [`FRAME`]. The body neither knows its length nor reports its end. Reads
/// at most `wanted` frames, and returns the outcomes and latencies of the samples in milliseconds.
async fn read<const N: usize>(
    controller: &Recorded,
    measure: Measure,
    headers: &'static [(&'static str, &'static str)],
    sends: [Sends; N],
    wanted: usize,
) -> Vec<(Outcome, u128)> {
    let shed = LoadShed::ratio(1.0)
        .budget(&controller.budget)
        .measure(measure);
    let mut service = shed.layer(service_fn(move |_: Req| async move {
        sleep(FRAME).await;
        let frames = stream::iter(sends).then(Sends::frame);
        let body = boxed_body(StreamBody::new(frames));
        Ok::<_, Broken>(head(200, headers).map(|_| body))
    }));
    let mut body = service.call(get("/")).await.unwrap().into_body();
    for _ in 0..wanted {
        if !matches!(body.frame().await, Some(Ok(_))) {
            break;
        }
    }
    // A server that has sent the announced length does not poll the body again.
    sleep(FRAME).await;
    drop(body);
    outcomes(&controller.samples())
}

const ALL: usize = usize::MAX;

#[tokio::test(start_paused = true)]
async fn p14_a_latency_is_measured_to_the_head_by_default() {
    let controller = Recorded::new();
    assert_eq!(Measure::default(), Measure::Head);
    let to_the_head = [(Outcome::Success, 10)];
    for wanted in [0, 1, ALL] {
        let seen = read(&controller, Measure::Head, &[], [Data, Data], wanted).await;
        assert_eq!(seen, to_the_head, "{wanted} frames are read");
    }
    let seen = read(&controller, Measure::Head, &[], [Data, Failure], ALL).await;
    assert_eq!(seen, to_the_head);
    let seen = read(
        &controller,
        Measure::Head,
        &[GRPC],
        [Data, Trailers("8")],
        ALL,
    )
    .await;
    assert_eq!(seen, to_the_head, "the status comes after the head");
}

#[tokio::test(start_paused = true)]
async fn p14_a_latency_is_measured_to_the_end_of_the_body_where_that_is_set() {
    let controller = Recorded::new();
    let read = async |sends, wanted| read(&controller, Measure::Body, &[], sends, wanted).await;
    let seen = read([Data, Data, Data], ALL).await;
    assert_eq!(seen, [(Outcome::Success, 40)]);
    let seen = read([Data, Data, Data], 2).await;
    assert_eq!(seen, [(Outcome::Cancelled, 40)], "dropped after two frames");
    let seen = read([Data, Data, Data], 0).await;
    assert_eq!(seen, [(Outcome::Cancelled, 20)], "dropped unread");
    let seen = read([Data, Failure, Data], ALL).await;
    assert_eq!(seen, [(Outcome::Ignored, 30)]);
}

#[tokio::test(start_paused = true)]
async fn p14_a_body_that_is_dropped_at_its_announced_length_is_no_cancellation() {
    let controller = Recorded::new();
    const LENGTH_12: &[(&str, &str)] = &[("content-length", "12")];
    let seen = read(&controller, Measure::Body, LENGTH_12, [Data; 3], 3).await;
    assert_eq!(seen, [(Outcome::Success, 40)]);
    let seen = read(&controller, Measure::Body, LENGTH_12, [Data; 3], 2).await;
    assert_eq!(seen, [(Outcome::Cancelled, 40)]);
    let seen = read(
        &controller,
        Measure::Body,
        &[("content-length", "0")],
        [Data; 3],
        0,
    )
    .await;
    assert_eq!(seen, [(Outcome::Success, 10)]);

    // Without a header, the body's own length counts.
    let mut service = LoadShed::ratio(1.0)
        .budget(&controller.budget)
        .measure(Measure::Body)
        .layer(holding());
    let mut response = answer(&mut service, get("/"));
    assert!(next_frame(&mut response).is_ready());
    assert_eq!(outcomes(&controller.samples()), [(Outcome::Success, 0)]);
    drop(response);
    assert_eq!(controller.samples(), []);
}

#[tokio::test(start_paused = true)]
async fn p14_a_body_at_its_end_from_the_start_is_measured_to_the_head() {
    let controller = Recorded::new();
    let shed = LoadShed::ratio(1.0)
        .budget(&controller.budget)
        .measure(Measure::Body);
    let _response = answer(&mut shed.layer(answers(head(200, &[]))), get("/"));
    assert_eq!(outcomes(&controller.samples()), [(Outcome::Success, 0)]);
}

#[tokio::test(start_paused = true)]
async fn p14_a_grpc_status_in_the_trailers_counts_where_the_body_is_measured() {
    let controller = Recorded::new();
    for (code, outcome) in [
        ("0", Outcome::Success),
        ("5", Outcome::Success),
        ("1", Outcome::Cancelled),
        ("13", Outcome::Ignored),
        ("8", Outcome::Overload),
        ("14", Outcome::Overload),
        ("4", Outcome::Overload),
    ] {
        let seen = read(
            &controller,
            Measure::Body,
            &[GRPC],
            [Data, Trailers(code)],
            ALL,
        )
        .await;
        assert_eq!(seen, [(outcome, 30)], "{code}");
    }
    // The body does not end at its announced length: trailers follow.
    const GRPC_OF_4: &[(&str, &str)] = &[GRPC, ("content-length", "4")];
    let seen = read(
        &controller,
        Measure::Body,
        GRPC_OF_4,
        [Data, Trailers("8")],
        ALL,
    )
    .await;
    assert_eq!(seen, [(Outcome::Overload, 30)]);
    // A failure in the head counts at once.
    const FAILED: &[(&str, &str)] = &[GRPC, ("grpc-status", "8")];
    let seen = read(&controller, Measure::Body, FAILED, [Data], ALL).await;
    assert_eq!(seen, [(Outcome::Overload, 10)]);
}

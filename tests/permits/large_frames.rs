//! Promise 4: a permit is held until the bytes have left, up to what the server buffers.

use bytes::Bytes;
use http::{Response, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use loadshed::{Budget, LoadShed};
use tokio_test::task;
use tower::{Layer, ServiceExt, service_fn};

use crate::{FullRequest, request};

const PIECE: usize = 64 << 10;

#[tokio::test]
async fn p04_a_large_frame_is_handed_on_in_pieces_and_the_permit_ends_with_the_last() {
    for length in [1, PIECE, PIECE + 1, 3 * PIECE, 10 * PIECE + 7] {
        let pool = Budget::fixed(1);
        let data: Bytes = (0..length).map(|at| at as u8).collect();
        let sent = data.clone();
        let handler = service_fn(move |_: FullRequest| {
            let body = Full::new(sent.clone());
            async { Ok::<_, std::convert::Infallible>(Response::new(body)) }
        });
        let service = LoadShed::ratio(1.0).budget(&pool).layer(handler);
        let mut body = service.oneshot(request()).await.unwrap().into_body();
        let mut received = Vec::new();
        while received.len() < length {
            assert_eq!(pool.in_flight(), 1);
            assert!(!body.is_end_stream());
            let left = (length - received.len()) as u64;
            assert_eq!(body.size_hint().exact(), Some(left));
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(frame.len() <= PIECE, "{}", frame.len());
            // No copy: the piece lies where the frame lay.
            assert_eq!(frame.as_ptr(), data[received.len()..].as_ptr());
            received.extend_from_slice(&frame);
        }
        assert_eq!(pool.in_flight(), 0, "of {length}");
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
        assert_eq!(received, data);
    }
}

#[tokio::test]
async fn p04_trailers_follow_the_last_piece() {
    let pool = Budget::fixed(1);
    let handler = service_fn(|_: FullRequest| async {
        let trailers = async {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            Some(Ok(trailers))
        };
        let body = Full::new(Bytes::from(vec![7; 3 * PIECE])).with_trailers(trailers);
        Ok::<_, std::convert::Infallible>(Response::new(body))
    });
    let service = LoadShed::ratio(1.0).budget(&pool).layer(handler);
    let mut request = request();
    *request.version_mut() = Version::HTTP_2;
    let mut body = Box::pin(service.oneshot(request).await.unwrap().into_body());
    let mut data = 0;
    let trailers = loop {
        assert_eq!(pool.in_flight(), 1);
        let frame: Frame<Bytes> = body.frame().await.unwrap().unwrap();
        match frame.into_data() {
            Ok(piece) => data += piece.len(),
            Err(frame) => break frame.into_trailers().unwrap(),
        }
    };
    assert_eq!((data, trailers.len()), (3 * PIECE, 1));
    assert!(body.frame().await.is_none());
    assert_eq!(pool.in_flight(), 0);
}

#[tokio::test]
async fn p03_a_body_that_is_dropped_between_two_pieces_releases_its_permit() {
    let pool = Budget::fixed(1);
    let handler = service_fn(|_: FullRequest| async {
        let body = Full::new(Bytes::from(vec![7; 3 * PIECE]));
        Ok::<_, std::convert::Infallible>(Response::new(body))
    });
    let service = LoadShed::ratio(1.0).budget(&pool).layer(handler);
    let mut body = service.oneshot(request()).await.unwrap().into_body();
    assert!(task::spawn(body.frame()).poll().is_ready());
    assert_eq!(pool.in_flight(), 1);
    drop(body);
    assert_eq!(pool.in_flight(), 0);
}

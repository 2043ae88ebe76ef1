//! A server for tests of clients, which keeps what arrives.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Requests that arrived, in their order.
pub(super) type Arrived = Arc<Mutex<Vec<Request<Bytes>>>>;

/// Answers each request, by its index, with a status and a body. Hangs where the status is 0.
pub(super) async fn server(
    answer: impl Fn(usize) -> (u16, &'static str) + Clone + Send + 'static,
) -> (SocketAddr, Arrived) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let arrived = Arrived::default();
    let seen = Arc::clone(&arrived);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (seen, answer) = (Arc::clone(&seen), answer.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (seen, answer) = (Arc::clone(&seen), answer.clone());
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.expect("a body").to_bytes();
                    let (status, text) = {
                        let mut seen = seen.lock().expect("unpoisoned");
                        seen.push(Request::from_parts(head, body));
                        answer(seen.len() - 1)
                    };
                    if status == 0 {
                        std::future::pending::<()>().await;
                    }
                    let response = Response::builder().status(status).body(Full::new(Bytes::from(text)));
                    Ok::<_, Infallible>(response.expect("valid"))
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, arrived)
}

//! HTTP to services that are not called by an AWS client: TLS on ring, a bound on time and on size.

use std::{fmt, time::Duration};

use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::time::timeout;

use crate::runtime::{
    network::{Connector, Network},
    tls::NoCertificates,
};

/// A service that did not answer as it should. What it was sent is not part of it: that may be secret.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The answer was not there, or not whole, in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// There is no connection, or it broke.
    #[error("the service cannot be reached")]
    Unreachable(#[source] hyper_util::client::legacy::Error),
    /// The body broke off, or is too large.
    #[error("the answer cannot be read, or has more than {0} bytes")]
    Unreadable(usize, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// Any status but 200, with the beginning of the service's own words.
    #[error("the answer has the status {0}: {1}")]
    Status(StatusCode, String),
}

/// A client of one service.
#[derive(Clone)]
pub struct Https(Client<Connector, Full<Bytes>>);

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Https")
    }
}

/// Bytes of a service's own words that are repeated in an error.
const QUOTED_BYTES_MAX: usize = 200;

impl Https {
    /// A client for many requests to addresses of the scheme of `uri`. Redirects are not followed.
    pub fn new(network: &Network, uri: &Uri) -> Result<Self, NoCertificates> {
        Ok(Self(Client::builder(TokioExecutor::new()).build(network.connector(uri, None)?)))
    }

    /// The same for requests that are minutes apart: each has a connection of its own. One that was kept, while Lambda
    /// had frozen the execution environment, may have died without a sign, and the next request would wait on it in
    /// vain.
    pub fn seldom(network: &Network, uri: &Uri) -> Result<Self, NoCertificates> {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(0);
        Ok(Self(builder.build(network.connector(uri, None)?)))
    }

    /// The body of an answer with status 200, which is there within `time` and has at most `bytes_max` bytes.
    pub async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        time: Duration,
        bytes_max: usize,
    ) -> Result<Bytes, HttpsError> {
        let (status, body) = self.answer(request, time, bytes_max).await?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        Err(HttpsError::Status(status, quoted(&body)))
    }

    /// Status and body of any answer, which is there within `time` and has at most `bytes_max` bytes.
    pub async fn answer(
        &self,
        request: Request<Full<Bytes>>,
        time: Duration,
        bytes_max: usize,
    ) -> Result<(StatusCode, Bytes), HttpsError> {
        let answer = async {
            let response = self.0.request(request).await.map_err(HttpsError::Unreachable)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), bytes_max).collect().await;
            Ok((status, body.map_err(|error| HttpsError::Unreadable(bytes_max, error))?.to_bytes()))
        };
        timeout(time, answer).await.map_err(|_| HttpsError::TimedOut(time))?
    }
}

/// The beginning of a service's own words.
pub fn quoted(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(QUOTED_BYTES_MAX)]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        net::SocketAddr,
        sync::atomic::{AtomicBool, Ordering},
    };

    use hyper::{Response, body::Incoming, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;

    use super::*;

    /// Answers the first request of each connection, and nothing that comes after it: as a connection that has died in
    /// silence.
    async fn service() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let asked = AtomicBool::new(false);
                let answer = service_fn(move |request: Request<Incoming>| {
                    let is_first = !asked.swap(true, Ordering::SeqCst);
                    async move {
                        if !is_first {
                            std::future::pending::<()>().await;
                        }
                        let response = match request.uri().path() {
                            "/moved" => Response::builder().status(301).header("location", "/"),
                            _ => Response::builder(),
                        };
                        Ok::<_, Infallible>(response.body(Full::new(Bytes::from("here"))).expect("valid"))
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        address
    }

    #[tokio::test]
    async fn a_client_for_seldom_requests_waits_on_no_old_connection_and_follows_no_redirect() {
        let uri: Uri = format!("http://{}/", service().await).parse().expect("a URI");
        let https = Https::seldom(&Network::System, &uri).expect("no certificates are needed");
        let get = |uri: &str| {
            let request = Request::get(uri).body(Full::default()).expect("valid");
            https.exchange(request, Duration::from_secs(10), 10)
        };
        for _ in 0..3 {
            assert_eq!(get(&uri.to_string()).await.expect("an answer"), "here");
        }
        let moved = get(&format!("{uri}moved")).await;
        assert!(matches!(moved, Err(HttpsError::Status(StatusCode::MOVED_PERMANENTLY, _))), "{moved:?}");
    }
}

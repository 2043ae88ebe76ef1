//! The HTTP client for servers behind routes, and for the keys of issuers of tokens.

use std::{error::Error, sync::OnceLock, time::Duration};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Request, Response, body::Bytes, http::uri::Scheme};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

/// What is escaped in paths and queries of servers: everything except the unreserved characters of RFC 3986.
pub(crate) const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a server has no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The system has no certificates, so no server can be trusted.
    #[error("no system certificates for https; install ca-certificates")]
    NoCertificates,
    /// It is not there, or does not speak HTTP.
    #[error("not reached")]
    Unreached(#[source] legacy::Error),
    /// Its response ended early.
    #[error("the response broke off")]
    Unread(#[source] Box<dyn Error + Send + Sync>),
    /// Its response is larger than this many bytes.
    #[error("the response has more than {0} bytes")]
    TooLarge(usize),
    /// It took too long.
    #[error("no response within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

/// A client that speaks HTTP and HTTPS.
#[derive(Debug)]
pub(crate) struct HttpClient {
    plain: Client<HttpConnector, Full<Bytes>>,
    /// Made at the first use, with the certificates of the system. `None` if the system has none.
    secure: OnceLock<Option<Client<HttpsConnector<HttpConnector>, Full<Bytes>>>>,
}

impl HttpClient {
    pub(crate) fn new() -> Self {
        Self { plain: Client::builder(TokioExecutor::new()).build_http(), secure: OnceLock::new() }
    }

    /// Sends a request, and reads a response of at most `bytes_max` bytes, all within `timeout`.
    ///
    /// # Errors
    ///
    /// If there is no such response, or the request is for HTTPS and the system has no certificates.
    pub(crate) async fn fetch(
        &self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
        timeout: Duration,
    ) -> Result<Response<Bytes>, FetchError> {
        let response = if request.uri().scheme() == Some(&Scheme::HTTPS) {
            self.secure().ok_or(FetchError::NoCertificates)?.request(request)
        } else {
            self.plain.request(request)
        };
        let fetched = async {
            let (head, body) = response.await.map_err(FetchError::Unreached)?.into_parts();
            let body = Limited::new(body, bytes_max).collect().await.map_err(|error| {
                let is_too_large = error.is::<LengthLimitError>();
                if is_too_large { FetchError::TooLarge(bytes_max) } else { FetchError::Unread(error) }
            })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        tokio::time::timeout(timeout, fetched).await.unwrap_or(Err(FetchError::TimedOut(timeout)))
    }

    fn secure(&self) -> Option<&Client<HttpsConnector<HttpConnector>, Full<Bytes>>> {
        let secure = self.secure.get_or_init(|| {
            let connector = HttpsConnectorBuilder::new().with_native_roots().ok()?.https_only().enable_http1().build();
            Some(Client::builder(TokioExecutor::new()).build(connector))
        });
        secure.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::error::ErrorChain;

    /// Answers each request with five bytes, of nine on the path `/short`, and not at all on `/never`.
    async fn serve() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let read = stream.read(&mut head).await.expect("a request");
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                if head.contains(" /never ") {
                    open.push(stream);
                    continue;
                }
                let length = if head.contains(" /short ") { 9 } else { 5 };
                let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\nhello");
                stream.write_all(response.as_bytes()).await.expect("sent");
            }
        });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn a_response_that_is_none_has_the_reason_and_its_cause() {
        let client = HttpClient::new();
        let fetch = async |address: String, bytes_max: usize, timeout: u64| {
            let mut request = Request::new(Full::new(Bytes::new()));
            *request.uri_mut() = address.parse().expect("an address");
            client.fetch(request, bytes_max, Duration::from_millis(timeout)).await
        };
        let server = serve().await;
        let whole = fetch(format!("{server}/"), 5, 20_000).await.expect("a response");
        assert_eq!(whole.body(), "hello");
        let large = fetch(format!("{server}/"), 4, 20_000).await.expect_err("too large");
        assert!(matches!(large, FetchError::TooLarge(4)), "{large:?}");
        let short = fetch(format!("{server}/short"), 9, 20_000).await.expect_err("too short");
        assert!(matches!(short, FetchError::Unread(_)), "{short:?}");
        let late = fetch(format!("{server}/never"), 9, 10).await.expect_err("too late");
        assert_eq!(late.to_string(), "no response within 10 ms");
        let nobody = fetch("http://127.0.0.1:1/".to_owned(), 9, 20_000).await.expect_err("not there");
        let said = ErrorChain(&nobody).to_string();
        assert!(said.starts_with("not reached: ") && said.contains("refused"), "{said}");
    }
}

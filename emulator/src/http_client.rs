//! The HTTP client for servers behind routes, and for the keys of issuers of tokens.

use std::sync::OnceLock;

use http_body_util::Full;
use hyper::{Request, body::Bytes, http::uri::Scheme};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, ResponseFuture, connect::HttpConnector},
    rt::TokioExecutor,
};

/// The system has no certificates, so no server can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no system certificates for https; install ca-certificates")]
pub(crate) struct NoCertificates;

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

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// If it is for HTTPS and the system has no certificates.
    pub(crate) fn send(&self, request: Request<Full<Bytes>>) -> Result<ResponseFuture, NoCertificates> {
        if request.uri().scheme() != Some(&Scheme::HTTPS) {
            return Ok(self.plain.request(request));
        }
        let secure = self.secure.get_or_init(|| {
            let connector = HttpsConnectorBuilder::new().with_native_roots().ok()?.https_only().enable_http1().build();
            Some(Client::builder(TokioExecutor::new()).build(connector))
        });
        Ok(secure.as_ref().ok_or(NoCertificates)?.request(request))
    }
}

//! The HTTP client for servers behind routes.

use std::sync::OnceLock;

use http_body_util::Full;
use hyper::{Request, body::Bytes, http::uri::Scheme};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, ResponseFuture, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::response::IntegrationError;

/// The HTTP client of a gateway.
#[derive(Debug)]
pub(super) struct IntegrationClient {
    plain: Client<HttpConnector, Full<Bytes>>,
    /// Made at the first use, with the certificates of the system. `None` if the system has none.
    secure: OnceLock<Option<Client<HttpsConnector<HttpConnector>, Full<Bytes>>>>,
}

impl IntegrationClient {
    pub(super) fn new() -> Self {
        Self { plain: Client::builder(TokioExecutor::new()).build_http(), secure: OnceLock::new() }
    }

    pub(super) fn send(&self, request: Request<Full<Bytes>>) -> Result<ResponseFuture, IntegrationError> {
        if request.uri().scheme() != Some(&Scheme::HTTPS) {
            return Ok(self.plain.request(request));
        }
        let secure = self.secure.get_or_init(|| {
            let connector = HttpsConnectorBuilder::new().with_native_roots().ok()?.https_only().enable_http1().build();
            Some(Client::builder(TokioExecutor::new()).build(connector))
        });
        let secure = secure.as_ref().ok_or_else(|| {
            let uri = request.uri();
            tracing::error!(%uri, "no system certificates for an HTTPS integration; install ca-certificates");
            IntegrationError::Internal("no system certificates for an HTTPS integration".into())
        })?;
        Ok(secure.request(request))
    }
}

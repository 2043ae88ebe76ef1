//! Functions behind another program's Lambda Invoke API, such as `cargo lambda watch` or `sam local start-lambda`.

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, Uri, body::Bytes};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use serde_json::Value;

use crate::{
    http_client::{self, KEPT_MAX},
    invocation::InvokeError,
    json,
    template::Function,
};

/// An HTTP client without TLS: the endpoint is on this machine.
pub(super) type InvokeClient = Client<HttpConnector, Full<Bytes>>;

/// Builds the client that all functions share.
pub(super) fn client() -> InvokeClient {
    http_client::builder(KEPT_MAX).build_http()
}

/// A function that runs elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    client: InvokeClient,
    endpoint: Uri,
    /// The names to try: `cargo lambda watch` uses the binary, SAM the logical id, Lambda the name.
    names: Vec<String>,
}

impl Remote {
    pub(super) fn new(client: InvokeClient, endpoint: &Uri, name: &str, function: &Function) -> Self {
        let mut names: Vec<String> = function.binary.iter().cloned().collect();
        for other in [&function.logical_id, name] {
            if !names.iter().any(|known| known == other) {
                names.push(other.to_owned());
            }
        }
        Self { client, endpoint: endpoint.clone(), names }
    }

    /// Invokes the function by the first name that the endpoint knows.
    pub(super) async fn invoke(&self, payload: Bytes) -> Result<Bytes, InvokeError> {
        let mut unknown = None;
        for name in &self.names {
            match self.invoke_as(name, payload.clone()).await {
                Err(error @ InvokeError::UnknownFunction(_)) => unknown = Some(error),
                answer => return answer,
            }
        }
        Err(unknown.unwrap_or_else(|| InvokeError::UnknownFunction(self.names.join(", "))))
    }

    async fn invoke_as(&self, name: &str, payload: Bytes) -> Result<Bytes, InvokeError> {
        let unreachable = || InvokeError::Unreachable(self.endpoint.to_string());
        let uri =
            format!("{}/2015-03-31/functions/{name}/invocations", self.endpoint.to_string().trim_end_matches('/'));
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header("content-type", "application/json")
            .header("x-amz-invocation-type", "RequestResponse")
            .body(Full::new(payload))
            .map_err(|_| unreachable())?;
        let response = self.client.request(request).await.map_err(|_| unreachable())?;
        let status = response.status();
        let failed = response.headers().contains_key("x-amz-function-error");
        let body = response.into_body().collect().await.map_err(|_| unreachable())?.to_bytes();
        match status {
            StatusCode::NOT_FOUND => Err(InvokeError::UnknownFunction(name.to_owned())),
            // cargo lambda watch returns 500 for an error; Lambda returns 200 with the header.
            status if failed || !status.is_success() => Err(function_error(&body)),
            _ => Ok(body),
        }
    }
}

fn function_error(body: &Bytes) -> InvokeError {
    let payload = json::read_answer(body).unwrap_or_default();
    let text = |key: &str| payload.get(key).and_then(Value::as_str).map(str::to_owned);
    InvokeError::FunctionError {
        error_type: text("errorType").unwrap_or_else(|| "Unhandled".to_owned()),
        error_message: text("errorMessage").unwrap_or_else(|| String::from_utf8_lossy(body).into_owned()),
    }
}

//! Clients of the gateway under test: handshakes, HTTP requests and calls of the AWS client.

use std::{collections::BTreeMap, time::Duration};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::{Credentials, provider::ProvideCredentials};
use aws_sdk_apigatewaymanagement::{
    Client as Management,
    config::{SharedCredentialsProvider, retry::RetryConfig},
    error::ProvideErrorMetadata,
    primitives::Blob,
};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use clock::system_time;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, Uri,
    body::{Bytes, Incoming},
    header::{HeaderMap, HeaderName, HeaderValue},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use serde_json::{Map, Value};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};

use crate::case::{Api, InvalidToken, Operation};

/// Name of the header with the token.
const TOKEN_HEADER: &str = "X-Conformance";

/// A WebSocket.
pub(crate) type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// The name of the service in signatures.
const SERVICE: &str = "execute-api";

/// Largest frame that is accepted: more than a post may hold.
const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Addresses of a gateway, and what its API needs from clients.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// Address of the WebSocket, with the stage. Its scheme is `http` or `https`.
    pub(crate) socket: Uri,
    /// Address of the management API, to which `/@connections` is appended.
    pub(crate) management: Uri,
    /// Address of the HTTP API, if it is there.
    pub(crate) http_api: Option<Uri>,
    /// Address of the REST API with its stage, if it is there.
    pub(crate) rest_api: Option<Uri>,
    /// Region in signatures.
    pub(crate) region: String,
    /// The template's parameter `Token`.
    pub(crate) token: String,
    /// The template's other parameters, if they differ from the defaults.
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Address {
    /// The address of an API beside the WebSocket API, if it is there.
    pub(crate) const fn of_api(&self, api: Api) -> Option<&Uri> {
        match api {
            Api::Http => self.http_api.as_ref(),
            Api::Rest => self.rest_api.as_ref(),
        }
    }
}

/// Clients of a gateway.
pub(crate) struct GatewayClient {
    pub(crate) address: Address,
    /// Longest wait for anything that the gateway should do.
    pub(crate) wait: Duration,
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    credentials: Credentials,
    sdk: Management,
}

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The request of the case is invalid.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The gateway did not respond.
    #[error("no response from {0}")]
    Unreachable(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The gateway did not respond in time.
    #[error("no response within {0:?}")]
    TimedOut(Duration),
    /// The response to the handshake does not fit its key.
    #[error("invalid Sec-WebSocket-Accept in the response to the handshake: {0:?}")]
    InvalidAccept(Option<HeaderValue>),
}

/// A response, with header names in lower case.
#[derive(Clone, Debug)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) headers: Value,
    pub(crate) body: String,
}

/// A request, before it is signed.
#[derive(Clone, Debug, Default)]
pub(crate) struct HttpRequest {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) signed: bool,
}

impl GatewayClient {
    /// Creates the clients. Without `credentials`, they come from the environment, as for any AWS client.
    ///
    /// `kept` TCP connections are used for more than one request. With 0, each handshake is the first request of its
    /// connection, as with most clients.
    pub(crate) async fn new(
        address: Address,
        credentials: Option<Credentials>,
        wait: Duration,
        kept: usize,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let aws_http = aws_smithy_http_client::Builder::new().build_http();
        let https = aws_smithy_http_client::Builder::new()
            .tls_provider(aws_smithy_http_client::tls::Provider::Rustls(
                aws_smithy_http_client::tls::rustls_provider::CryptoMode::Ring,
            ))
            .build_https();
        let credentials = match credentials {
            Some(credentials) => credentials,
            None => {
                let sdk = aws_config::from_env().http_client(https.clone()).load().await;
                let provider = sdk
                    .credentials_provider()
                    .ok_or("no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")?;
                provider.provide_credentials().await?
            }
        };
        let secure = address.management.scheme_str() == Some("https");
        let config = aws_sdk_apigatewaymanagement::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(address.region.clone()))
            .endpoint_url(address.management.to_string())
            .credentials_provider(SharedCredentialsProvider::new(credentials.clone()))
            .http_client(if secure { https } else { aws_http })
            // The case sees each response of the gateway.
            .retry_config(RetryConfig::disabled())
            .build();
        let connector = HttpsConnectorBuilder::new().with_native_roots()?.https_or_http().enable_http1().build();
        let http = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(kept)
            .http1_title_case_headers(true)
            .build(connector);
        Ok(Self { address, wait, http, credentials, sdk: Management::from_conf(config) })
    }

    /// Returns a handshake that the authorizer accepts.
    pub(crate) fn handshake(&self) -> HttpRequest {
        HttpRequest {
            method: "GET".to_owned(),
            uri: self.address.socket.to_string(),
            headers: self.token(None),
            body: Vec::new(),
            signed: self.address.parameters.get("Authorization").is_some_and(|kind| kind == "AWS_IAM"),
        }
    }

    /// The header with the token, or with an invalid one.
    pub(crate) fn token(&self, invalid: Option<InvalidToken>) -> Vec<(String, String)> {
        let token = match invalid {
            None => self.address.token.clone(),
            Some(InvalidToken::Absent) => return Vec::new(),
            Some(InvalidToken::Empty) => String::new(),
            Some(InvalidToken::Wrong) => format!("{}x", self.address.token),
        };
        vec![(TOKEN_HEADER.to_owned(), token)]
    }

    /// Performs a handshake. Returns a socket if the gateway accepts it.
    pub(crate) async fn connect(
        &self,
        mut request: HttpRequest,
    ) -> Result<(HttpResponse, Option<Socket>), RequestError> {
        let key = generate_key();
        let own = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", &key),
        ];
        request.headers.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let mut response = self.send(request).await?;
        if response.status() != hyper::StatusCode::SWITCHING_PROTOCOLS {
            return Ok((self.read(response).await?, None));
        }
        let accept = response.headers().get("sec-websocket-accept");
        if accept.is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err(RequestError::InvalidAccept(accept.cloned()));
        }
        let upgrade = hyper::upgrade::on(&mut response);
        let upgraded = tokio::time::timeout(self.wait, upgrade).await.map_err(|_| RequestError::TimedOut(self.wait))?;
        let upgraded = upgraded.map_err(|error| RequestError::Unreachable("the upgrade".to_owned(), error.into()))?;
        let config =
            WebSocketConfig::default().max_frame_size(Some(FRAME_BYTES_MAX)).max_message_size(Some(FRAME_BYTES_MAX));
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await;
        let response = HttpResponse { status: 101, headers: headers(response.headers()), body: String::new() };
        Ok((response, Some(socket)))
    }

    /// Sends an HTTP request.
    pub(crate) async fn call(&self, request: HttpRequest) -> Result<HttpResponse, RequestError> {
        let response = self.send(request).await?;
        self.read(response).await
    }

    /// Calls the AWS client. Returns `ok`, or the code of the error.
    pub(crate) async fn sdk(&self, operation: Operation, id: &str, data: &str) -> Result<String, RequestError> {
        fn code<T, E: ProvideErrorMetadata, R>(
            result: Result<T, aws_sdk_apigatewaymanagement::error::SdkError<E, R>>,
        ) -> String {
            match result {
                Ok(_) => "ok".to_owned(),
                Err(error) => error.code().unwrap_or("an error without a code").to_owned(),
            }
        }
        let result = async {
            match operation {
                Operation::Post => {
                    code(self.sdk.post_to_connection().connection_id(id).data(Blob::new(data)).send().await)
                }
                Operation::Get => code(self.sdk.get_connection().connection_id(id).send().await),
                Operation::Delete => code(self.sdk.delete_connection().connection_id(id).send().await),
            }
        };
        tokio::time::timeout(self.wait, result).await.map_err(|_| RequestError::TimedOut(self.wait))
    }

    async fn send(&self, request: HttpRequest) -> Result<Response<Incoming>, RequestError> {
        let response = tokio::time::timeout(self.wait, self.http.request(self.build(&request)?)).await;
        let response = response.map_err(|_| RequestError::TimedOut(self.wait))?;
        response.map_err(|error| RequestError::Unreachable(request.uri, error.into()))
    }

    async fn read(&self, response: Response<Incoming>) -> Result<HttpResponse, RequestError> {
        let (head, body) = response.into_parts();
        let body = tokio::time::timeout(self.wait, body.collect()).await;
        let body = body.map_err(|_| RequestError::TimedOut(self.wait))?;
        let body = body.map_err(|error| RequestError::Unreachable("the body".to_owned(), error.into()))?.to_bytes();
        Ok(HttpResponse {
            status: head.status.as_u16(),
            headers: headers(&head.headers),
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    /// Builds a request, and signs it if it asks for that.
    fn build(&self, unsigned: &HttpRequest) -> Result<Request<Full<Bytes>>, RequestError> {
        let invalid = |error: &dyn std::fmt::Display| RequestError::Invalid(error.to_string());
        let body = Full::from(unsigned.body.clone());
        let mut request = Request::builder()
            .method(unsigned.method.as_str())
            .uri(&unsigned.uri)
            .body(body)
            .map_err(|error| invalid(&error))?;
        for (name, value) in &unsigned.headers {
            let name = HeaderName::try_from(name).map_err(|error| invalid(&error))?;
            request.headers_mut().append(name, HeaderValue::try_from(value).map_err(|error| invalid(&error))?);
        }
        if unsigned.signed {
            let identity = self.credentials.clone().into();
            let params = v4::SigningParams::builder()
                .identity(&identity)
                .region(&self.address.region)
                .name(SERVICE)
                .time(system_time())
                .settings(SigningSettings::default())
                .build()
                .map_err(|error| invalid(&error))?;
            let uri = request.uri().to_string();
            // Only the host and the date are signed, because proxies change other headers.
            let signable =
                SignableRequest::new(&unsigned.method, &uri, std::iter::empty(), SignableBody::Bytes(&unsigned.body));
            let signable = signable.map_err(|error| invalid(&error))?;
            let (instructions, _) = sign(signable, &params.into()).map_err(|error| invalid(&error))?.into_parts();
            for (name, value) in instructions.headers() {
                let name = HeaderName::try_from(name).map_err(|error| invalid(&error))?;
                request.headers_mut().append(name, HeaderValue::try_from(value).map_err(|error| invalid(&error))?);
            }
        }
        Ok(request)
    }
}

/// Headers as a JSON object. Repeated headers are joined.
fn headers(headers: &HeaderMap) -> Value {
    let mut map = Map::new();
    for name in headers.keys() {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        map.insert(name.as_str().to_owned(), Value::from(values.join(", ")));
    }
    Value::Object(map)
}

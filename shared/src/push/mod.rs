//! Posting to connections through the API Gateway management API, and publishing on the Event API beside it.
//!
//! Posts use a small client of our own, because an alert is little else than posts: with the AWS SDK one to 10,000 took
//! twice as long (`docs/performance.md`). The SDK does the rarer calls.

mod events;
mod pool;
mod signature;
#[cfg(test)]
mod test_server;

use std::{fmt, str::FromStr, sync::Arc};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider},
};
use aws_sdk_apigatewaymanagement::{
    Client as SdkClient,
    config::{http::HttpResponse, retry::RetryConfig, timeout::TimeoutConfig},
    error::SdkError,
};
use aws_types::SdkConfig;
use clock::system_time;
use http::{
    HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, HOST},
    uri::PathAndQuery,
};
use http_body_util::Full;
use hyper::body::Bytes;
use percent_encoding::utf8_percent_encode;
use serde::Serialize;
use tokio::time::timeout;

pub use self::events::{EventPublisher, EventsEndpoint};
use self::{
    pool::Pool,
    signature::{RESERVED, Signer, sha256_hex},
};
use crate::{
    error::{ErrorChain, InternalError},
    limits::{LOOK_TIMEOUT, POST_ATTEMPT_TIMEOUT, POST_CONNECT_TIMEOUT},
    model::connection::ConnectionId,
    runtime::{network::Network, tls::NoCertificates},
};

/// The service in the variable that names the endpoint, with its stage: `AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI`.
pub const SERVICE: &str = "APIGATEWAYMANAGEMENTAPI";

/// The service for which posts are signed.
const SIGNED_SERVICE: &str = "execute-api";

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// The outcome of one attempt of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostOutcome {
    /// The gateway took it.
    Sent,
    /// The gateway says that the connection does not exist (any more).
    Gone,
    /// The gateway refuses this caller, or knows no such path. It will refuse every other post too.
    Forbidden,
    /// The account's rate, or the client's buffer, is exhausted for now.
    Throttled,
    /// It may succeed at another time.
    Transient(Cause),
    /// It will never succeed.
    Refused,
}

/// Why a post did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The account's rate, or the client's buffer, was exhausted at every attempt.
    Throttled,
    /// No answer in time.
    TimedOut,
    /// The endpoint could not be reached.
    Unreachable,
    /// The gateway failed.
    Unavailable,
    /// The gateway refused this caller, after it had taken other posts.
    Forbidden,
    /// Any other answer.
    Rejected,
    /// The connection was said to be gone, and could not be shown to be.
    Unconfirmed,
}

impl Cause {
    /// Whether the gateway is the cause. Of some that is uncertain: see [`Self::may_be_of_the_client`].
    pub fn is_of_the_gateway(self) -> bool {
        matches!(self, Self::Throttled | Self::TimedOut | Self::Unreachable | Self::Unavailable | Self::Forbidden)
    }

    /// Whether a client that does not read its socket may also be the cause.
    pub fn may_be_of_the_client(self) -> bool {
        matches!(self, Self::Throttled | Self::TimedOut)
    }
}

/// Whether a connection exists: the gateway's answer to a GET or a DELETE of it. Not to be confused with what the
/// subscriptions table keeps of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    Open,
    Gone,
    /// The account's rate is exhausted for now.
    Throttled,
    /// The gateway refuses this caller. It will refuse every other question too.
    Forbidden,
    /// There was no clear answer.
    Unknown,
}

/// What is posted: the same bytes to many.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Bytes,
    sha256: Arc<str>,
}

impl Frame {
    /// Hashes the bytes, once for all posts.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { sha256: sha256_hex(&bytes).into(), bytes }
    }
}

/// Posts frames to connections, one attempt at a time.
#[derive(Clone, Debug)]
pub struct Pusher {
    pool: Arc<Pool>,
    endpoint: Endpoint,
    region: String,
    credentials: Option<SharedCredentialsProvider>,
    sdk: SdkClient,
}

/// Where the management API is, and what comes before `/@connections` in its paths.
#[derive(Clone, Debug)]
pub struct Endpoint {
    address: Uri,
    host: HeaderValue,
    base: String,
}

/// The address cannot be that of a management API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid address {0:?}: expected https://{{api}}.execute-api.{{region}}.amazonaws.com/{{stage}}")]
pub struct InvalidEndpoint(String);

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = || InvalidEndpoint(text.to_owned());
        let address: Uri = text.parse().map_err(|_| invalid())?;
        let (Some(_), Some(authority)) = (address.scheme(), address.authority()) else { return Err(invalid()) };
        Ok(Self {
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| invalid())?,
            base: address.path().trim_end_matches('/').to_owned(),
            address,
        })
    }
}

impl Pusher {
    /// Makes a client for `endpoint`, with the region and credentials of `sdk`.
    ///
    /// # Errors
    ///
    /// If the endpoint is `https://` and the system has no certificates to trust.
    pub fn new(sdk: &SdkConfig, network: &Network, endpoint: Endpoint) -> Result<Self, NoCertificates> {
        let connector = network.connector(&endpoint.address, Some(POST_CONNECT_TIMEOUT))?;
        let config = aws_sdk_apigatewaymanagement::config::Builder::from(sdk)
            .timeout_config(TimeoutConfig::builder().operation_timeout(LOOK_TIMEOUT).build())
            .retry_config(RetryConfig::disabled())
            .build();
        Ok(Self {
            pool: Arc::new(Pool::new(connector, endpoint.address.clone())),
            endpoint,
            region: sdk.region().map(ToString::to_string).unwrap_or_default(),
            credentials: sdk.credentials_provider(),
            sdk: SdkClient::from_conf(config),
        })
    }

    /// Prepares for many posts with the same credentials.
    pub async fn session(&self) -> Result<Session, InternalError> {
        let (credentials, token) =
            credentials(self.credentials.as_ref(), "getting credentials for the management API").await?;
        let host = String::from_utf8_lossy(self.endpoint.host.as_bytes()).into_owned();
        let signer = Signer::new(credentials, SIGNED_SERVICE, self.region.clone(), host, system_time());
        Ok(Session { pusher: self.clone(), signer: Arc::new(signer), token })
    }
}

/// Credentials, and the token that goes with temporary ones.
async fn credentials(
    provider: Option<&SharedCredentialsProvider>,
    doing: &'static str,
) -> Result<(Credentials, Option<HeaderValue>), InternalError> {
    let provider = provider.ok_or_else(|| InternalError::new(doing, "there are none"))?;
    let credentials = provider.provide_credentials().await.map_err(|error| InternalError::new(doing, error))?;
    let token = credentials.session_token().map(HeaderValue::from_str).transpose();
    let token = token.map_err(|error| InternalError::new(doing, error))?;
    Ok((credentials, token))
}

/// Posts with one set of credentials, for one alert.
#[derive(Clone)]
pub struct Session {
    pusher: Pusher,
    signer: Arc<Signer>,
    /// Goes with temporary credentials.
    token: Option<HeaderValue>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("endpoint", &self.pusher.endpoint).finish_non_exhaustive()
    }
}

impl Session {
    /// Posts once. Every end is a value: a post never fails an alert.
    pub async fn post(&self, connection: &ConnectionId, frame: &Frame) -> PostOutcome {
        let request = match self.request(connection, frame) {
            Ok(request) => request,
            Err(error) => {
                tracing::error!(%connection, %error, "post cannot be written");
                return PostOutcome::Refused;
            }
        };
        match timeout(POST_ATTEMPT_TIMEOUT, self.pusher.pool.exchange(request)).await {
            Err(_) => PostOutcome::Transient(Cause::TimedOut),
            Ok(Err(error)) => {
                tracing::debug!(%connection, error = %ErrorChain(&error), "management API unreachable");
                PostOutcome::Transient(Cause::Unreachable)
            }
            Ok(Ok((status, body))) => {
                let outcome_of = outcome_of(status);
                if matches!(outcome_of, PostOutcome::Refused | PostOutcome::Forbidden) {
                    let body = String::from_utf8_lossy(&body);
                    tracing::warn!(%connection, status = status.as_u16(), %body, "post refused");
                }
                outcome_of
            }
        }
    }

    /// Asks whether a connection is there. Does not retry: the caller keeps to a rate.
    pub async fn get_connection(&self, connection: &ConnectionId) -> ConnectionState {
        let asked = self.pusher.sdk.get_connection().connection_id(connection.as_str()).send().await;
        let (state_of, error) = state_of(asked);
        if let Some(error) = error {
            tracing::warn!(%connection, error = %ErrorChain(&error), "connection could not be looked up");
        }
        state_of
    }

    /// Closes a connection, and says whether it was there. Once, too.
    pub async fn close(&self, connection: &ConnectionId) -> ConnectionState {
        let asked = self.pusher.sdk.delete_connection().connection_id(connection.as_str()).send().await;
        let (state_of, error) = state_of(asked);
        if let Some(error) = error {
            tracing::warn!(%connection, error = %ErrorChain(&error), "gone connection could not be closed");
        }
        state_of
    }

    fn request(&self, connection: &ConnectionId, frame: &Frame) -> Result<Request<Full<Bytes>>, http::Error> {
        let Endpoint { host, base, .. } = &self.pusher.endpoint;
        let path = format!("{base}/@connections/{}", utf8_percent_encode(connection.as_str(), RESERVED));
        let (authorization, date) = self.signer.sign(&path, &frame.sha256, system_time());
        let mut request = Request::new(Full::new(frame.bytes.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = PathAndQuery::try_from(path)?.into();
        let headers = request.headers_mut();
        headers.insert(HOST, host.clone());
        headers.insert(AUTHORIZATION, HeaderValue::try_from(authorization)?);
        headers.insert(X_AMZ_DATE, HeaderValue::from_maybe_shared(date)?);
        if let Some(token) = &self.token {
            headers.insert(X_AMZ_SECURITY_TOKEN, token.clone());
        }
        Ok(request)
    }
}

/// What an answer says of the connection that it is about, and the error that has to be told.
fn state_of<T, E>(asked: Result<T, SdkError<E, HttpResponse>>) -> (ConnectionState, Option<SdkError<E, HttpResponse>>) {
    let Err(error) = asked else { return (ConnectionState::Open, None) };
    match error.raw_response().map(|response| response.status().as_u16()) {
        Some(410) => (ConnectionState::Gone, None),
        Some(429) => (ConnectionState::Throttled, None),
        Some(401 | 403 | 404) => (ConnectionState::Forbidden, Some(error)),
        _ => (ConnectionState::Unknown, Some(error)),
    }
}

fn outcome_of(status: StatusCode) -> PostOutcome {
    match status {
        StatusCode::GONE => PostOutcome::Gone,
        // On a custom domain a path that leads nowhere is 404.
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => PostOutcome::Forbidden,
        StatusCode::TOO_MANY_REQUESTS => PostOutcome::Throttled,
        status if status.is_success() => PostOutcome::Sent,
        status if status.is_server_error() => PostOutcome::Transient(Cause::Unavailable),
        _ => PostOutcome::Refused,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use aws_config::BehaviorVersion;
    use aws_sdk_apigatewaymanagement::{config::Credentials, primitives::Blob};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::mpsc,
    };

    use super::{
        test_server::{Arrived, server},
        *,
    };

    /// A management API that answers everything with one status, and hangs where that is 0.
    async fn gateway(status: u16) -> (SocketAddr, Arrived) {
        server(move |_| (status, "")).await
    }

    fn config(address: SocketAddr, token: Option<&str>) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(aws_config::Region::new("eu-central-1"))
            .endpoint_url(format!("http://{address}/prod"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                "key",
                "secret",
                token.map(str::to_owned),
                None,
                "test",
            )))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build()
    }

    async fn session(address: SocketAddr, token: Option<&str>) -> Session {
        let endpoint = format!("http://{address}/prod/").parse().expect("an address");
        Pusher::new(&config(address, token), &Network::System, endpoint)
            .expect("no TLS")
            .session()
            .await
            .expect("credentials")
    }

    fn connection() -> ConnectionId {
        "eHrdFcnvvHcCE-w=".parse().expect("an id")
    }

    #[tokio::test]
    async fn every_status_has_its_answer_and_the_aws_client_agrees_on_what_succeeded() {
        let table = [
            (200, PostOutcome::Sent),
            (204, PostOutcome::Sent),
            (400, PostOutcome::Refused),
            (401, PostOutcome::Forbidden),
            (403, PostOutcome::Forbidden),
            (404, PostOutcome::Forbidden),
            (410, PostOutcome::Gone),
            (413, PostOutcome::Refused),
            (429, PostOutcome::Throttled),
            (500, PostOutcome::Transient(Cause::Unavailable)),
            (502, PostOutcome::Transient(Cause::Unavailable)),
            (503, PostOutcome::Transient(Cause::Unavailable)),
            (504, PostOutcome::Transient(Cause::Unavailable)),
        ];
        for (status, expected) in table {
            let (address, _) = gateway(status).await;
            let outcome_of = session(address, None).await.post(&connection(), &Frame::new("{}")).await;
            assert_eq!(outcome_of, expected, "{status}");
            let sdk = aws_sdk_apigatewaymanagement::config::Builder::from(&config(address, None))
                .retry_config(RetryConfig::disabled())
                .build();
            let sdk = SdkClient::from_conf(sdk).post_to_connection();
            let sent = sdk.connection_id(connection().as_str()).data(Blob::new("{}")).send().await;
            let status_of_error =
                sent.as_ref().err().and_then(|error| error.raw_response().map(|raw| raw.status().as_u16()));
            assert_eq!(
                (sent.is_ok(), status_of_error),
                (outcome_of == PostOutcome::Sent, (outcome_of != PostOutcome::Sent).then_some(status))
            );
        }
    }

    #[tokio::test]
    async fn a_post_is_what_the_aws_client_would_send() {
        let (address, arrived) = gateway(200).await;
        session(address, Some("token")).await.post(&connection(), &Frame::new("frame")).await;
        let sdk = SdkClient::new(&config(address, Some("token"))).post_to_connection();
        sdk.connection_id(connection().as_str()).data(Blob::new("frame")).send().await.expect("sent");
        let arrived = arrived.lock().expect("unpoisoned");
        let [own, theirs] = arrived.as_slice() else { panic!("{arrived:?}") };
        let [of_own, of_theirs] = [own, theirs].map(|request| (request.method(), request.uri(), request.body()));
        assert_eq!(of_own, of_theirs);
        assert_eq!(own.uri(), "/prod/@connections/eHrdFcnvvHcCE-w%3D");
        let is_signed = |name| own.headers().contains_key(name);
        assert!(["authorization", "x-amz-date"].into_iter().all(is_signed), "{own:?}");
        let [of_own, of_theirs] = [own, theirs].map(|request| request.headers().get("x-amz-security-token"));
        assert_eq!((of_own.is_some(), of_own), (true, of_theirs), "with the token");
    }

    #[tokio::test]
    async fn a_gateway_that_hangs_or_is_not_there_is_told_apart() {
        let (hanging, _) = gateway(0).await;
        let outcome_of = session(hanging, None).await.post(&connection(), &Frame::new("{}")).await;
        assert_eq!(outcome_of, PostOutcome::Transient(Cause::TimedOut));
        let nowhere = ([127, 0, 0, 1], 1).into();
        let outcome_of = session(nowhere, None).await.post(&connection(), &Frame::new("{}")).await;
        assert_eq!(outcome_of, PostOutcome::Transient(Cause::Unreachable));
    }

    /// A management API that takes every post, and leaves each connection after as many without a word. It says when
    /// one has been left, and how many there were.
    async fn fickle_gateway(posts_per_connection: usize) -> (SocketAddr, mpsc::UnboundedReceiver<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (left, leaving) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for number in 1.. {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let left = left.clone();
                tokio::spawn(async move {
                    for _ in 0..posts_per_connection {
                        let mut request = Vec::new();
                        while !request.ends_with(b"frame") && stream.read_buf(&mut request).await.expect("open") > 0 {}
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.expect("open");
                    }
                    drop(stream);
                    left.send(number).expect("somebody waits");
                });
            }
        });
        (address, leaving)
    }

    #[tokio::test]
    async fn a_connection_is_used_again_and_replaced_when_the_gateway_has_left_it() {
        let (other, _) = gateway(200).await;
        let (address, mut leaving) = fickle_gateway(3).await;
        let (session, other) = (session(address, None).await, session(other, None).await);
        for connections in 1..=3 {
            for _ in 0..3 {
                assert_eq!(session.post(&connection(), &Frame::new("frame")).await, PostOutcome::Sent);
            }
            assert_eq!(leaving.recv().await, Some(connections));
            // By the time that something else was read, it is known that the connection has ended.
            assert_eq!(other.post(&connection(), &Frame::new("{}")).await, PostOutcome::Sent);
        }
    }

    #[tokio::test]
    async fn looking_and_closing_tell_open_from_gone_and_from_not_known_in_one_request_each() {
        let table = [
            (200, ConnectionState::Open),
            (204, ConnectionState::Open),
            (410, ConnectionState::Gone),
            (429, ConnectionState::Throttled),
            (403, ConnectionState::Forbidden),
            (500, ConnectionState::Unknown),
        ];
        for (status, expected) in table {
            let (address, arrived) = gateway(status).await;
            let session = session(address, None).await;
            assert_eq!(session.get_connection(&connection()).await, expected, "{status}");
            assert_eq!(session.close(&connection()).await, expected, "{status}");
            let path = "/prod/@connections/eHrdFcnvvHcCE-w%3D";
            let asked: Vec<_> =
                arrived.lock().expect("unpoisoned").iter().map(|it| format!("{} {}", it.method(), it.uri())).collect();
            assert_eq!(asked, ["GET", "DELETE"].map(|method| format!("{method} {path}")), "{status}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "prod", "/prod", "execute-api"] {
            assert_eq!(text.parse::<Endpoint>().expect_err(text), InvalidEndpoint(text.to_owned()));
        }
    }
}

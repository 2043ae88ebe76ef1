//! Publishing on the Event API, from where AppSync sends an event to every subscriber of its channel.
//!
//! Source: AppSync Events developer guide, "Publish events via HTTP".

use std::str::FromStr;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_types::SdkConfig;
use clock::system_time;
use http::{
    HeaderValue, Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{
    X_AMZ_DATE, X_AMZ_SECURITY_TOKEN, credentials,
    signature::{Signer, sha256_hex},
};
use crate::{
    error::{ErrorChain, InternalError},
    limits::{EVENT_ANSWER_BYTES_MAX, EVENT_ATTEMPT_TIMEOUT, EVENT_ATTEMPTS_MAX, EVENT_BACKOFF},
    runtime::{
        backoff::Backoff,
        https::{Https, HttpsError, quoted},
        network::Network,
        tls::NoCertificates,
    },
};

/// The service for which publications are signed.
const SERVICE: &str = "appsync";

/// Publishes events, signed with the credentials of the function.
#[derive(Debug)]
pub struct EventPublisher {
    https: Https,
    endpoint: EventsEndpoint,
    region: String,
    credentials: Option<SharedCredentialsProvider>,
}

/// Where events are published.
#[derive(Clone, Debug)]
pub struct EventsEndpoint {
    address: Uri,
    host: HeaderValue,
}

/// The address cannot be that of an Event API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid address {0:?}: expected https://{{id}}.appsync-api.{{region}}.amazonaws.com/event")]
pub struct InvalidEventsEndpoint(String);

impl FromStr for EventsEndpoint {
    type Err = InvalidEventsEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEventsEndpoint> {
        let invalid = || InvalidEventsEndpoint(text.to_owned());
        let address: Uri = text.parse().map_err(|_| invalid())?;
        let (Some(_), Some(authority)) = (address.scheme(), address.authority()) else { return Err(invalid()) };
        Ok(Self { host: HeaderValue::from_str(authority.as_str()).map_err(|_| invalid())?, address })
    }
}

/// An event that the Event API did not take.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    /// It did not answer, or the answer could not be read to its end.
    #[error("no answer of the Event API")]
    Unanswered(#[source] HttpsError),
    /// Any status but 200, with the beginning of its own words.
    #[error("the Event API answered {0}: {1}")]
    Status(StatusCode, String),
    /// It took the request and not the event.
    #[error("the Event API could not publish the event ({code}): {message}")]
    Failed { code: String, message: String },
    /// An answer of another form, with its beginning.
    #[error("the Event API answered something else: {0}")]
    Unreadable(String),
}

impl NotTaken {
    /// Whether another attempt may end in another way: not where the request itself is refused.
    fn may_pass(&self) -> bool {
        match self {
            Self::Status(status, _) => !status.is_client_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            Self::Unanswered(_) | Self::Failed { .. } | Self::Unreadable(_) => true,
        }
    }
}

/// What is read of an answer with status 200.
#[derive(Deserialize)]
struct Answer {
    failed: Vec<Failure>,
}

/// Other implementations name these fields in other ways.
#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl EventPublisher {
    /// Makes a client for `endpoint`, with the region and credentials of `sdk`.
    ///
    /// # Errors
    ///
    /// If the endpoint is `https://` and the system has no certificates to trust.
    pub fn new(sdk: &SdkConfig, network: &Network, endpoint: EventsEndpoint) -> Result<Self, NoCertificates> {
        Ok(Self {
            https: Https::seldom(network, &endpoint.address)?,
            endpoint,
            region: sdk.region().map(ToString::to_string).unwrap_or_default(),
            credentials: sdk.credentials_provider(),
        })
    }

    /// Publishes one event on a channel, in up to [`EVENT_ATTEMPTS_MAX`] attempts. An attempt without an answer may
    /// have succeeded: then subscribers get the event twice.
    ///
    /// # Errors
    ///
    /// If there are no credentials, or the last attempt failed.
    pub async fn publish(&self, channel: &str, event: &str) -> Result<(), InternalError> {
        let doing = "publishing on the Event API";
        let body = Bytes::from(json!({"channel": channel, "events": [event]}).to_string());
        let mut backoff = Backoff::doubling(EVENT_BACKOFF);
        for attempt in 1.. {
            let request = self.request(&body).await?;
            let Err(not_taken) = self.attempt(request).await else { return Ok(()) };
            if attempt >= EVENT_ATTEMPTS_MAX || !not_taken.may_pass() {
                return Err(InternalError::new(doing, not_taken));
            }
            tracing::debug!(channel, attempt, error = %ErrorChain(&not_taken), "event not taken yet");
            backoff.pause().await;
        }
        Ok(())
    }

    async fn attempt(&self, request: Request<Full<Bytes>>) -> Result<(), NotTaken> {
        let answer = self.https.answer(request, EVENT_ATTEMPT_TIMEOUT, EVENT_ANSWER_BYTES_MAX).await;
        let (status, body) = answer.map_err(NotTaken::Unanswered)?;
        if status != StatusCode::OK {
            return Err(NotTaken::Status(status, quoted(&body)));
        }
        // It says 200 also if it published nothing.
        let Answer { failed } = serde_json::from_slice(&body).map_err(|_| NotTaken::Unreadable(quoted(&body)))?;
        match failed.into_iter().next() {
            None => Ok(()),
            Some(Failure { code, message }) => Err(NotTaken::Failed { code, message }),
        }
    }

    /// A signed request. It is signed anew for each attempt.
    async fn request(&self, body: &Bytes) -> Result<Request<Full<Bytes>>, InternalError> {
        let (credentials, token) =
            credentials(self.credentials.as_ref(), "getting credentials for the Event API").await?;
        let EventsEndpoint { address, host } = &self.endpoint;
        let now = system_time();
        let name = String::from_utf8_lossy(host.as_bytes()).into_owned();
        let signer = Signer::new(credentials, SERVICE, self.region.clone(), name, now);
        let (authorization, date) = signer.sign(address.path(), &sha256_hex(body), now);
        let written = || {
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = address.clone();
            let headers = request.headers_mut();
            headers.insert(HOST, host.clone());
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(AUTHORIZATION, HeaderValue::try_from(authorization)?);
            headers.insert(X_AMZ_DATE, HeaderValue::from_maybe_shared(date)?);
            if let Some(token) = token {
                headers.insert(X_AMZ_SECURITY_TOKEN, token);
            }
            Ok::<_, http::Error>(request)
        };
        written().map_err(|error| InternalError::new("signing a publication on the Event API", error))
    }
}

#[cfg(test)]
mod tests;

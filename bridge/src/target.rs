//! Publishes messages: through the publish API, or by invoking the publish function.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use aws_config::{SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider},
};
use aws_sdk_lambda::{Client, primitives::Blob, types::InvocationType};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use clock::{Clock, system_time};
use http::{HeaderName, HeaderValue, Request, Uri};
use http_body_util::Full;
use shared::{
    auth::webhook::SigningSecrets,
    error::{ErrorChain, InternalError},
    runtime::{https::Https, network::Network, tls::NoCertificates},
};
use tokio::{sync::Mutex, time::timeout};

use crate::{
    limits::{ANSWER_BYTES_MAX, CREDENTIALS_LEFT_MIN, CREDENTIALS_TIMEOUT},
    message::Message,
    outcome::PublishOutcome,
};

/// The service name in signatures of requests to an API.
const SIGNED_SERVICE: &str = "execute-api";

/// Why a target is invalid.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The address is invalid.
    #[error("invalid address `{0}`: expected one such as https://…/publish")]
    Address(Uri),
    /// The system has no trusted certificates.
    #[error(transparent)]
    Certificates(#[from] NoCertificates),
    /// The region of the signature is unknown.
    #[error("no region to sign for: the address has none, set AWS_REGION")]
    Region,
    /// AWS credentials are not configured.
    #[error("no AWS credentials: set them in variables, or in the profile that AWS_PROFILE names")]
    Credentials,
}

/// How an HTTP request is signed.
#[derive(Debug)]
pub(crate) enum Signature {
    /// Not at all. The emulator accepts that.
    None,
    /// As a webhook.
    Webhook(SigningSecrets),
    /// For IAM.
    Iam(Iam),
}

/// Publishes, one attempt at a time.
#[derive(Debug)]
pub(crate) struct Target(Transport);

#[derive(Debug)]
enum Transport {
    Http(Box<Http>),
    Function { name: String, client: Client },
}

impl Target {
    /// Publishes to the publish API at `address`.
    pub(crate) fn http(
        address: Uri,
        signature: Signature,
        attempt_timeout: Duration,
        clock: Clock,
    ) -> Result<Self, TargetError> {
        if !matches!(address.scheme_str(), Some("http" | "https")) || address.host().is_none() {
            return Err(TargetError::Address(address));
        }
        let https = Https::new(&Network::System, &address)?;
        Ok(Self(Transport::Http(Box::new(Http { address, https, signature, attempt_timeout, clock }))))
    }

    /// Invokes the publish function of this name or ARN.
    pub(crate) fn function(name: String, sdk: &SdkConfig, attempt_timeout: Duration) -> Self {
        let time = TimeoutConfig::builder().operation_timeout(attempt_timeout).build();
        // The queue retries, for both transports.
        let config = aws_sdk_lambda::config::Builder::from(sdk)
            .retry_config(RetryConfig::disabled())
            .timeout_config(time)
            .build();
        Self(Transport::Function { name, client: Client::from_conf(config) })
    }

    /// Tries once to publish a message.
    pub(crate) async fn publish(&self, message: &Message) -> PublishOutcome {
        let attempt = match &self.0 {
            Transport::Http(http) => http.post(message).await,
            Transport::Function { name, client } => invoke(message, name, client).await,
        };
        attempt.unwrap_or_else(|failure| PublishOutcome::unavailable(ErrorChain(&failure).to_string()))
    }
}

/// The publish API.
#[derive(Debug)]
struct Http {
    address: Uri,
    https: Https,
    signature: Signature,
    attempt_timeout: Duration,
    clock: Clock,
}

impl Http {
    async fn post(&self, message: &Message) -> Result<PublishOutcome, InternalError> {
        let doing = "publishing over HTTP";
        let mut request = Request::post(self.address.clone()).header("content-type", "application/json; charset=utf-8");
        match &self.signature {
            Signature::None => {}
            Signature::Webhook(secrets) => {
                let (id, at) = (message.header_key(), self.clock.now().secs());
                request = request
                    .header("webhook-signature", secrets.sign(&id, at, &message.body))
                    .header("webhook-id", id)
                    .header("webhook-timestamp", at);
            }
            Signature::Iam(iam) => {
                for (name, value) in iam.headers(&self.address, &message.body).await? {
                    request = request.header(name, value);
                }
            }
        }
        let request =
            request.body(Full::new(message.body.clone())).map_err(|error| InternalError::new(doing, error))?;
        let answer = self.https.answer(request, self.attempt_timeout, ANSWER_BYTES_MAX).await;
        let (status, body) = answer.map_err(|error| InternalError::new(doing, error))?;
        Ok(PublishOutcome::of_http(status, &body))
    }
}

async fn invoke(message: &Message, function: &str, client: &Client) -> Result<PublishOutcome, InternalError> {
    let output = client
        .invoke()
        .function_name(function)
        .invocation_type(InvocationType::RequestResponse)
        .payload(Blob::new(message.body.clone()))
        .send()
        .await
        .map_err(|error| InternalError::new("invoking the publish function", error))?;
    let payload = output.payload.map(Blob::into_inner).unwrap_or_default();
    Ok(PublishOutcome::of_invocation(output.function_error.is_some(), &payload))
}

/// Loads the AWS configuration of this machine: region, credentials and endpoints, with TLS on ring.
pub(crate) async fn sdk() -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    aws_config::from_env().http_client(http).load().await
}

/// Signs requests (SigV4) to an API protected by IAM.
pub(crate) struct Iam {
    region: String,
    provider: SharedCredentialsProvider,
    last: Mutex<Option<Credentials>>,
}

impl fmt::Debug for Iam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iam({})", self.region)
    }
}

impl Iam {
    /// Signs for the region in the address, or else that of `sdk`, with its credentials.
    pub(crate) fn new(address: &Uri, sdk: &SdkConfig) -> Result<Self, TargetError> {
        let region = region_of(address.host().unwrap_or_default())
            .map(str::to_owned)
            .or_else(|| sdk.region().map(ToString::to_string))
            .ok_or(TargetError::Region)?;
        let provider = sdk.credentials_provider().ok_or(TargetError::Credentials)?;
        Ok(Self { region, provider, last: Mutex::new(None) })
    }

    /// Returns valid credentials. While renewal fails, the last ones are used until they expire.
    async fn credentials(&self, now: SystemTime) -> Result<Credentials, InternalError> {
        let doing = "getting AWS credentials";
        let mut last = self.last.lock().await;
        let left = |credentials: &&Credentials, min| credentials.expiry().is_none_or(|expiry| now + min < expiry);
        if let Some(credentials) = last.as_ref().filter(|credentials| left(credentials, CREDENTIALS_LEFT_MIN)) {
            return Ok(credentials.clone());
        }
        let failure = match timeout(CREDENTIALS_TIMEOUT, self.provider.provide_credentials()).await {
            Ok(Ok(fresh)) => return Ok(last.insert(fresh).clone()),
            Ok(Err(error)) => InternalError::new(doing, error),
            Err(error) => InternalError::new(doing, error),
        };
        last.as_ref().filter(|credentials| left(credentials, Duration::ZERO)).cloned().ok_or(failure)
    }

    async fn headers(&self, address: &Uri, body: &[u8]) -> Result<Vec<(HeaderName, HeaderValue)>, InternalError> {
        let doing = "signing a request";
        // The system's clock, because the service compares the date with its own.
        let now = system_time();
        let identity = self.credentials(now).await?.into();
        let settings = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SIGNED_SERVICE)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| InternalError::new(doing, error))?;
        let address = address.to_string();
        let signable = SignableRequest::new("POST", &address, std::iter::empty(), SignableBody::Bytes(body));
        let signable = signable.map_err(|error| InternalError::new(doing, error))?;
        let signed = sign(signable, &settings.into()).map_err(|error| InternalError::new(doing, error))?;
        let (instructions, _) = signed.into_parts();
        let header = |(name, value): (&str, &str)| {
            let name = HeaderName::try_from(name).map_err(|error| InternalError::new(doing, error))?;
            Ok((name, HeaderValue::try_from(value).map_err(|error| InternalError::new(doing, error))?))
        };
        instructions.headers().map(header).collect()
    }
}

/// Returns the region in a host such as `{api}.execute-api.{region}.amazonaws.com`.
fn region_of(host: &str) -> Option<&str> {
    host.split_once(".execute-api.")?.1.split('.').next()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_credential_types::provider::{error::CredentialsError, future};

    use super::*;

    #[test]
    fn the_region_of_a_signature_is_that_of_the_address() {
        assert_eq!(region_of("abc123.execute-api.cn-north-1.amazonaws.com.cn"), Some("cn-north-1"));
        assert_eq!(region_of("alerts.example.com"), None);
    }

    /// Returns credentials that expire, then fails, then never answers.
    #[derive(Debug)]
    struct Provider(AtomicUsize, SystemTime);

    impl ProvideCredentials for Provider {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(async {
                match self.0.fetch_add(1, Ordering::SeqCst) {
                    0 => Ok(Credentials::new("id", "secret", None, Some(self.1), "test")),
                    1 => Err(CredentialsError::provider_error("unavailable")),
                    _ => std::future::pending().await,
                }
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_that_cannot_be_renewed_are_used_to_their_end() {
        let start = system_time();
        let after = |secs| start + Duration::from_secs(secs);
        let provider = SharedCredentialsProvider::new(Provider(AtomicUsize::new(0), after(60)));
        let iam = Iam { region: "eu-central-1".to_owned(), provider, last: Mutex::new(None) };
        // The first is new, the second is young, the third is kept after an error, the fourth after a timeout.
        for secs in [0, 49, 50, 59] {
            assert!(iam.credentials(after(secs)).await.is_ok(), "{secs}");
        }
        assert!(iam.credentials(after(60)).await.is_err());
    }

    #[test]
    fn an_address_without_a_host_is_refused() {
        for address in ["/publish", "ftp://example.com/", "example.com"] {
            let address: Uri = address.parse().expect("a URI");
            let target = Target::http(address, Signature::None, Duration::from_secs(1), Clock::System);
            assert!(matches!(target, Err(TargetError::Address(_))));
        }
    }
}

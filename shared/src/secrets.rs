//! Secrets, from the Parameter Store of AWS Systems Manager: never in a template, an environment or a log.
//!
//! The one operation that is needed is called by hand: the AWS client of this service has some hundred and forty.
//!
//! Source: Systems Manager API reference, "GetParameter".

use std::{collections::BTreeMap, fmt, sync::Arc};

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4::SigningParams,
};
use http::{Request, Uri};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use crate::{
    clock::{Clock, Timestamp, system_time},
    environment::Reader,
    error::{Chain, Failure},
    function::Start,
    https::Https,
    limits::{SECRET_AGE_MAX, SECRET_ANSWER_BYTES_MAX, SECRET_KEPT_MAX, SECRET_TIMEOUT},
};

/// Environment variable that leads elsewhere than to the service of the region. AWS clients read it too.
const ENDPOINT_VARIABLE: &str = "AWS_ENDPOINT_URL_SSM";

/// A text that shows itself to nobody by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Reads parameters, and keeps each for five minutes: a secret that was replaced counts after that time.
#[derive(Debug)]
pub struct Secrets {
    https: Https,
    endpoint: Uri,
    region: String,
    credentials: Option<SharedCredentialsProvider>,
    clock: Clock,
    kept: Mutex<BTreeMap<String, (Secret, Timestamp)>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    parameter: Parameter,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parameter {
    value: String,
}

impl Secrets {
    /// The service that a function's environment leads to.
    pub fn of_function(start: &Start, environment: &mut Reader<'_>) -> Option<Self> {
        let region = start.sdk.region().map(ToString::to_string).unwrap_or_default();
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let named = start.environment.get(ENDPOINT_VARIABLE).filter(|endpoint| !endpoint.is_empty());
        let endpoint = named.map_or_else(|| format!("https://ssm.{region}.{suffix}"), str::to_owned);
        let endpoint: Uri = environment.understood(ENDPOINT_VARIABLE, endpoint.parse())?;
        let https = environment.understood(ENDPOINT_VARIABLE, Https::new(&endpoint))?;
        let credentials = start.sdk.credentials_provider();
        Some(Self { https, endpoint, region, credentials, clock: start.clock.clone(), kept: Mutex::default() })
    }

    /// The value of a parameter. One that was read before serves for an hour where the service does not answer.
    pub async fn get(&self, name: &str) -> Result<Secret, Failure> {
        let mut kept = self.kept.lock().await;
        let now = self.clock.now();
        let known = kept.get(name).cloned();
        if let Some((secret, at)) = &known
            && now.since(*at) < SECRET_AGE_MAX
        {
            return Ok(secret.clone());
        }
        match (self.read(name).await, known) {
            (Ok(secret), _) => {
                kept.insert(name.to_owned(), (secret.clone(), now));
                Ok(secret)
            }
            (Err(failure), Some((secret, at))) if now.since(at) < SECRET_KEPT_MAX => {
                tracing::warn!(parameter = name, error = %Chain(&failure), "secret not read again, the old one serves");
                Ok(secret)
            }
            (Err(failure), _) => Err(failure),
        }
    }

    async fn read(&self, name: &str) -> Result<Secret, Failure> {
        const DOING: &str = "reading a secret parameter";
        let request = self.request(name).await.map_err(|error| Failure::new(DOING, error))?;
        let answer = self.https.exchange(request, SECRET_TIMEOUT, SECRET_ANSWER_BYTES_MAX).await;
        let answer = answer.map_err(|error| Failure::new(DOING, error))?;
        let answer: Answer = serde_json::from_slice(&answer).map_err(|error| {
            // What the parser quotes may be the secret.
            Failure::new(DOING, format!("the answer is not understood, at line {}", error.line()))
        })?;
        Ok(answer.parameter.value.into())
    }

    async fn request(&self, name: &str) -> Result<Request<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
        let provider = self.credentials.as_ref().ok_or("there are no credentials")?;
        let identity = provider.provide_credentials().await?.into();
        let body = json!({"Name": name, "WithDecryption": true}).to_string();
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "AmazonSSM.GetParameter")];
        let mut request = Request::post(&self.endpoint);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("ssm")
            .time(system_time())
            .settings(SigningSettings::default())
            .build()?;
        let uri = self.endpoint.to_string();
        let signable = SignableRequest::new("POST", &uri, headers.into_iter(), SignableBody::Bytes(body.as_bytes()))?;
        let (instructions, _) = sign(signable, &params.into())?.into_parts();
        let mut request = request.body(Full::new(Bytes::from(body)))?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret = Secret::from("hush".to_owned());
        assert_eq!((format!("{secret:?}").as_str(), secret.reveal()), ("Secret", "hush"));
    }
}

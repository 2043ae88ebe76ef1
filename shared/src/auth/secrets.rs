//! Secrets, from the Parameter Store of AWS Systems Manager: never in a template, an environment or a log.
//!
//! The one operation that is needed is called by hand: the AWS client of this service has some hundred and forty.
//!
//! Source: Systems Manager API reference, "GetParameter".

use std::{error::Error, str::FromStr, sync::Arc};

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4::SigningParams,
};
use clock::system_time;
use futures_util::FutureExt;
use http::{Request, Uri};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::{
    error::InternalError,
    limits::{SECRET_AGE_MAX, SECRET_ANSWER_BYTES_MAX, SECRET_KEPT_MAX, SECRET_TIMEOUT},
    runtime::{
        environment::Reader,
        function::StartContext,
        https::Https,
        refreshed::{Fetched, Refreshed, Terms},
    },
};

/// The service in the variable that leads elsewhere than to the region's,
/// [`crate::runtime::environment::Environment::endpoint_url`].
const SERVICE: &str = "SSM";

/// That variable, as a problem with its address is reported.
const ENDPOINT_VARIABLE: &str = "AWS_ENDPOINT_URL_SSM";

const TERMS: Terms = Terms {
    doing: "reading a secret parameter",
    age_max: SECRET_AGE_MAX,
    kept_max: SECRET_KEPT_MAX,
    timeout: SECRET_TIMEOUT,
};

/// A secret in a parameter, read as a `T`. One that was replaced counts after five minutes, and a text that cannot
/// be read never replaces one that was: it counts as a failed fetch.
#[derive(Debug)]
pub struct SecretParameter<T>(Refreshed<T>);

impl<T> SecretParameter<T>
where
    T: FromStr<Err: Error + Send + Sync + 'static> + Clone + Send + 'static,
{
    /// The parameter of this name, in the service that a function's environment leads to. Errors of `T` must not repeat
    /// the text.
    pub fn from_env(start: &StartContext, environment: &mut Reader<'_>, parameter: String) -> Option<Self> {
        let region = start.sdk.region().map(ToString::to_string).unwrap_or_default();
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let named = start.environment.endpoint_url(SERVICE);
        let endpoint = named.map_or_else(|| format!("https://ssm.{region}.{suffix}"), str::to_owned);
        let endpoint: Uri = environment.understood(ENDPOINT_VARIABLE, endpoint.parse())?;
        let https = environment.understood(ENDPOINT_VARIABLE, Https::seldom(&start.network, &endpoint))?;
        let credentials = start.sdk.credentials_provider();
        let name = parameter.clone();
        let store = Arc::new(ParameterStore { https, endpoint, region, credentials });
        let read = move || {
            let (store, parameter) = (Arc::clone(&store), parameter.clone());
            async move { Ok(store.read(&parameter).await?.parse()?) }.boxed()
        };
        Some(Self(Refreshed::new(TERMS, name, start.clock.clone(), read)))
    }

    /// Returns the secret. Fails if it cannot be read and none that was read within an hour is there.
    pub async fn get(&self) -> Result<T, InternalError> {
        self.0.get().await
    }
}

/// The service that holds parameters.
struct ParameterStore {
    https: Https,
    endpoint: Uri,
    region: String,
    credentials: Option<SharedCredentialsProvider>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetParameterOutput {
    parameter: Parameter,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parameter {
    value: String,
}

impl ParameterStore {
    async fn read(&self, name: &str) -> Fetched<String> {
        let request = self.request(name).await?;
        let answer = self.https.exchange(request, SECRET_TIMEOUT, SECRET_ANSWER_BYTES_MAX).await?;
        let answer: GetParameterOutput = serde_json::from_slice(&answer).map_err(|error| {
            // What the parser quotes may be the secret.
            format!("the answer is not understood, at line {}", error.line())
        })?;
        Ok(answer.parameter.value)
    }

    async fn request(&self, name: &str) -> Fetched<Request<Full<Bytes>>> {
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

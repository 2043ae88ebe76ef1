//! What clients present, and what they want to do with it.

use std::collections::BTreeMap;

use hyper::{
    HeaderMap, Method,
    header::{CONNECTION, HeaderName, HeaderValue, UPGRADE},
};
use serde_json::Value;

use crate::template::AuthMode;

/// What a signature in a header begins with.
const SIGNATURE: &str = "AWS4-HMAC-SHA256";

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation<'a> {
    pub(super) name: &'static str,
    pub(super) namespace: Option<&'a str>,
    pub(super) channel: Option<&'a str>,
}

/// The values of a client by name, in lower case: from an authorization object, or from the headers of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Credentials(BTreeMap<String, String>);

impl Credentials {
    /// Reads an authorization object. What is not a text is left out, as fields that a client adds are.
    pub(super) fn of_object(object: &Value) -> Option<Self> {
        let fields = object.as_object()?.iter();
        let texts = fields.filter_map(|(name, value)| Some((name.to_ascii_lowercase(), value.as_str()?.to_owned())));
        Some(Self(texts.collect()))
    }

    pub(super) fn of_headers(headers: &HeaderMap) -> Self {
        let texts =
            headers.iter().filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
        Self(texts.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The kind of authorization that they are for, of those that are allowed.
    pub(super) fn mode(&self, allowed: &[AuthMode]) -> Option<AuthMode> {
        let authorization = self.get("authorization");
        let is_signed = authorization.is_some_and(|value| value.starts_with(SIGNATURE));
        let presents = |mode: &AuthMode| match mode {
            AuthMode::ApiKey => self.get("x-api-key").is_some(),
            AuthMode::Iam => is_signed,
            AuthMode::Lambda => authorization.is_some() && !is_signed,
            // Nothing here can check it.
            AuthMode::Token => false,
        };
        allowed.iter().copied().find(presents)
    }

    /// The request that a client has signed: AppSync takes each operation of a socket for a POST of `/event`.
    pub(super) fn signed_request(&self) -> hyper::Request<()> {
        let mut request = hyper::Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = hyper::Uri::from_static("/event");
        let headers = self
            .0
            .iter()
            .filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?)));
        request.headers_mut().extend(headers);
        request
    }
}

/// The headers of a request as authorizers get them.
pub(super) fn header_object(headers: &HeaderMap) -> Value {
    let own = headers.iter().filter(|(name, _)| **name != CONNECTION && **name != UPGRADE);
    let pairs = own.filter_map(|(name, value)| Some((name.to_string(), Value::from(value.to_str().ok()?))));
    Value::Object(pairs.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credentials_choose_a_kind_that_is_allowed_and_names_have_no_case() {
        let of = |object: Value| Credentials::of_object(&object).expect("an object");
        let both = of(json!({"X-API-Key": "k", "Authorization": "t", "payload": {"a": 1}}));
        assert_eq!(both.mode(&[AuthMode::Lambda, AuthMode::ApiKey]), Some(AuthMode::Lambda));
        assert_eq!(both.mode(&[AuthMode::ApiKey]), Some(AuthMode::ApiKey));
        assert_eq!(both.mode(&[AuthMode::Iam, AuthMode::Token]), None);
        let signed = of(json!({"authorization": "AWS4-HMAC-SHA256 Credential=x"}));
        assert_eq!(signed.mode(&[AuthMode::Lambda, AuthMode::Iam]), Some(AuthMode::Iam));
        assert_eq!(of(json!({"authorization": ""})).mode(&[AuthMode::Lambda]), None);
        assert_eq!(Credentials::of_object(&json!("text")), None);
    }
}

//! The response of an integration, or why it has none.

use std::borrow::Cow;

use hyper::StatusCode;
use serde_json::Value;

/// Characters of a body that a line of the log shows at most.
const SHOWN_BODY_CHARS_MAX: usize = 1_000;

/// The response of a backend: a server, a function or MOCK.
#[derive(Clone, Debug)]
pub(super) struct BackendResponse {
    pub(super) status: u16,
    /// Headers with names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

/// Why an integration has no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum IntegrationError {
    /// The function failed, or its response is invalid. Says why, for the log.
    Internal(Cow<'static, str>),
    /// The function did not respond in time.
    TimedOut,
}

impl IntegrationError {
    /// What the client is told.
    pub(super) const fn message(&self) -> &'static str {
        match self {
            Self::Internal(_) => "Internal server error",
            Self::TimedOut => "Endpoint request timed out",
        }
    }
}

/// Returns the status of a proxy response, which is a number or a text with one. One of 1xx is none, because it ends no
/// response.
pub(crate) fn status(connect_response: &Value) -> Option<StatusCode> {
    let code = connect_response.get("statusCode")?;
    let code = code.as_u64().or_else(|| code.as_str()?.parse().ok())?;
    StatusCode::from_u16(u16::try_from(code).ok()?).ok().filter(|status| !status.is_informational())
}

/// Returns the beginning of a proxy response's body, for the log.
pub(super) fn shown_body(response: &Value) -> String {
    let body = response.get("body").and_then(Value::as_str).unwrap_or_default();
    body.chars().take(SHOWN_BODY_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_response_with_a_status_counts() {
        assert_eq!(status(&json!({"statusCode": 200})), Some(StatusCode::OK));
        assert_eq!(status(&json!({"statusCode": "401"})), Some(StatusCode::UNAUTHORIZED));
        let interim = [100, 101, 103, 199].map(|code| json!({"statusCode": code}));
        let others = [json!(null), json!({}), json!({"statusCode": 7}), json!("ok"), json!({"statusCode": null})];
        for bad in interim.into_iter().chain(others) {
            assert_eq!(status(&bad), None, "{bad}");
        }
    }
}

//! Decides what a response of publish means for its message. Pure.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use shared::runtime::https::quoted;

/// The outcome of one attempt to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublishOutcome {
    /// The message is in the log.
    Published {
        /// Its sequence number.
        seq: u64,
        /// Whether an earlier attempt or another bridge had published it.
        duplicate: bool,
    },
    /// The service does not publish it, for this reason. Not an error.
    Withheld(String),
    /// It can never be published, for this reason.
    Refused(String),
    /// A retry may succeed.
    Unavailable {
        /// Why the attempt failed.
        reason: String,
        /// When to retry, if the service says so.
        after: Option<Duration>,
    },
}

/// Codes that concern the credentials of the bridge, not the message. Messages wait until the credentials are renewed.
const CODES_OF_THE_PUBLISHER: [&str; 2] = ["unauthorized", "forbidden"];

/// A response of publish, as `docs/protocol.md` defines it.
#[derive(Deserialize)]
#[serde(untagged)]
enum PublishResponse {
    Published { seq: u64, duplicate: bool },
    Withheld { published: bool, reason: String },
    Refused { error: ResponseError },
}

#[derive(Deserialize)]
struct ResponseError {
    code: String,
    message: String,
    retryable: bool,
    retry_after_ms: Option<u64>,
}

impl PublishOutcome {
    /// Returns the outcome of an attempt without a valid response.
    pub(crate) fn unavailable(reason: String) -> Self {
        Self::Unavailable { reason, after: None }
    }

    /// Returns the outcome of an HTTP response. Other responses than those of publish are from a proxy.
    pub(crate) fn of_http(status: StatusCode, body: &[u8]) -> Self {
        match read(body) {
            Some(outcome @ (Self::Published { .. } | Self::Withheld(_))) if status == StatusCode::OK => outcome,
            Some(outcome @ (Self::Refused(_) | Self::Unavailable { .. }))
                if status.is_client_error() || status.is_server_error() =>
            {
                outcome
            }
            _ => Self::unavailable(format!("{status}, not a response of publish: {}", quoted(body))),
        }
    }

    /// Returns the outcome of an invocation. `failed` says that the function itself failed.
    pub(crate) fn of_invocation(failed: bool, payload: &[u8]) -> Self {
        let answer = if failed { None } else { read(payload) };
        answer.unwrap_or_else(|| {
            // The message of the error says what failed. The rest of the report is a stack trace.
            let message = serde_json::from_slice(payload)
                .ok()
                .and_then(|report: Value| Some(report.get("errorMessage")?.as_str()?.to_owned()));
            Self::unavailable(message.unwrap_or_else(|| format!("not a response of publish: {}", quoted(payload))))
        })
    }
}

fn read(body: &[u8]) -> Option<PublishOutcome> {
    Some(match serde_json::from_slice(body).ok()? {
        PublishResponse::Published { seq, duplicate } => PublishOutcome::Published { seq, duplicate },
        PublishResponse::Withheld { published: false, reason } => PublishOutcome::Withheld(reason),
        PublishResponse::Withheld { published: true, .. } => return None,
        PublishResponse::Refused { error: ResponseError { code, message, retryable, retry_after_ms } } => {
            let reason = format!("{code}: {message}");
            if retryable || CODES_OF_THE_PUBLISHER.contains(&code.as_str()) {
                PublishOutcome::Unavailable { reason, after: retry_after_ms.map(Duration::from_millis) }
            } else {
                PublishOutcome::Refused(reason)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use shared::error::{ApiError, Code};

    use super::*;

    fn http(status: u16, body: &str) -> PublishOutcome {
        PublishOutcome::of_http(StatusCode::from_u16(status).expect("a status"), body.as_bytes())
    }

    fn is_unavailable(outcome: PublishOutcome) -> bool {
        matches!(outcome, PublishOutcome::Unavailable { .. })
    }

    const PUBLISHED: &str =
        r#"{"id":"a","region":"PL","seq":3,"epoch":1,"duplicate":true,"published":true,"audience":"~12","eta_ms":3}"#;
    const WITHHELD: &str = r#"{"published":false,"reason":"below_threshold"}"#;

    #[test]
    fn an_answer_is_final_in_either_way() {
        for outcome in [http(200, PUBLISHED), PublishOutcome::of_invocation(false, PUBLISHED.as_bytes())] {
            assert_eq!(outcome, PublishOutcome::Published { seq: 3, duplicate: true });
        }
        for outcome in [http(200, WITHHELD), PublishOutcome::of_invocation(false, WITHHELD.as_bytes())] {
            assert_eq!(outcome, PublishOutcome::Withheld("below_threshold".to_owned()));
        }
    }

    #[test]
    fn a_message_is_given_up_only_when_the_service_says_that_the_message_is_wrong() {
        let refused = |code: Code| {
            let body = serde_json::json!({"error": ApiError::new(code, "why").body()}).to_string();
            let outcome = http(code.http_status(), &body);
            assert_eq!(outcome, PublishOutcome::of_invocation(false, body.as_bytes()));
            outcome
        };
        for code in [
            Code::BadJson,
            Code::NotAnObject,
            Code::UnknownType,
            Code::MissingField,
            Code::InvalidField,
            Code::InvalidRegion,
            Code::TooLarge,
            Code::IdempotencyConflict,
            Code::TooManyRegions,
        ] {
            assert!(matches!(refused(code), PublishOutcome::Refused(reason) if reason.ends_with(": why")), "{code:?}");
        }
        for code in [Code::Unauthorized, Code::Forbidden, Code::RateLimited, Code::OutcomeUnknown, Code::Unavailable] {
            assert!(is_unavailable(refused(code)), "{code:?}");
        }
    }

    #[test]
    fn a_conflict_is_final_and_an_unknown_outcome_is_tried_again_with_the_same_key() {
        let answered = |status: u16, code: &str, retryable: bool| {
            let body =
                serde_json::json!({"error": {"code": code, "message": "why", "retryable": retryable}}).to_string();
            let outcome = http(status, &body);
            assert_eq!(outcome, PublishOutcome::of_invocation(false, body.as_bytes()));
            outcome
        };
        for code in ["idempotency_conflict", "too_many_regions"] {
            assert_eq!(answered(409, code, false), PublishOutcome::Refused(format!("{code}: why")));
        }
        assert_eq!(
            answered(503, "outcome_unknown", true),
            PublishOutcome::unavailable("outcome_unknown: why".to_owned())
        );
    }

    #[test]
    fn a_service_that_says_when_to_come_back_is_heard() {
        let body = r#"{"error":{"code":"rate_limited","message":"too many","retryable":true,"retry_after_ms":100}}"#;
        let expected = PublishOutcome::Unavailable {
            reason: "rate_limited: too many".to_owned(),
            after: Some(Duration::from_millis(100)),
        };
        assert_eq!(http(429, body), expected);
        assert_eq!(PublishOutcome::of_invocation(false, body.as_bytes()), expected);
    }

    #[test]
    fn anything_else_is_tried_again() {
        for (status, body) in [
            (429, r#"{"message":"Too Many Requests"}"#),
            (403, r#"{"message":"Forbidden"}"#),
            (404, r#"{"message":"Not Found"}"#),
            (400, "no JSON"),
            (503, ""),
            (200, "<html>"),
            (200, r#"{"published":true}"#),
            (502, PUBLISHED),
            (301, WITHHELD),
        ] {
            assert!(is_unavailable(http(status, body)), "{status} {body}");
        }
        let failure = br#"{"errorType":"Failure","errorMessage":"reading the head of a region failed: gone"}"#;
        let expected = PublishOutcome::unavailable("reading the head of a region failed: gone".to_owned());
        assert_eq!(PublishOutcome::of_invocation(true, failure), expected);
        assert!(is_unavailable(PublishOutcome::of_invocation(true, PUBLISHED.as_bytes())));
        assert!(is_unavailable(PublishOutcome::of_invocation(false, b"null")));
    }
}

//! What an answer of publish means for the message. Pure.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use shared::runtime::https::quoted;

/// What became of one attempt to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is in the log.
    Published {
        /// Its place in the log of its region.
        seq: u64,
        /// Whether it was there already, by an earlier attempt or another bridge.
        duplicate: bool,
    },
    /// The service does not want it, with the reason: no error.
    Withheld(String),
    /// It can never be published, with the reason.
    Refused(String),
    /// The same may succeed later.
    Unavailable {
        /// What came instead of an answer that is final.
        reason: String,
        /// When to try again, where the service says so.
        after: Option<Duration>,
    },
}

/// Codes of refusals that are about whoever publishes and not about what is published: credentials are renewed, and messages
/// are not to be lost until then.
const CODES_OF_THE_PUBLISHER: [&str; 2] = ["unauthorized", "forbidden"];

/// Answers of publish, as `docs/protocol.md` has them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Published { seq: u64, duplicate: bool },
    Withheld { published: bool, reason: String },
    Refused { error: Error },
}

#[derive(Deserialize)]
struct Error {
    code: String,
    message: String,
    retryable: bool,
    retry_after_ms: Option<u64>,
}

impl Verdict {
    /// There is no answer of publish.
    pub(crate) fn unavailable(reason: String) -> Self {
        Self::Unavailable { reason, after: None }
    }

    /// What an answer over HTTP means. What is not an answer of publish is of something between, or of another address.
    pub(crate) fn of_http(status: StatusCode, body: &[u8]) -> Self {
        match read(body) {
            Some(verdict @ (Self::Published { .. } | Self::Withheld(_))) if status == StatusCode::OK => verdict,
            Some(verdict @ (Self::Refused(_) | Self::Unavailable { .. }))
                if status.is_client_error() || status.is_server_error() =>
            {
                verdict
            }
            _ => Self::unavailable(format!("{status}, which is no answer of publish: {}", quoted(body))),
        }
    }

    /// What the result of an invocation means. A function that failed is not an answer.
    pub(crate) fn of_invocation(failed: bool, payload: &[u8]) -> Self {
        let answer = if failed { None } else { read(payload) };
        answer.unwrap_or_else(|| {
            // The message of the error says what failed; what else the runtime reports is a stack trace.
            let message = serde_json::from_slice(payload)
                .ok()
                .and_then(|report: Value| Some(report.get("errorMessage")?.as_str()?.to_owned()));
            Self::unavailable(message.unwrap_or_else(|| format!("no answer of publish: {}", quoted(payload))))
        })
    }
}

fn read(body: &[u8]) -> Option<Verdict> {
    Some(match serde_json::from_slice(body).ok()? {
        Answer::Published { seq, duplicate } => Verdict::Published { seq, duplicate },
        Answer::Withheld { published: false, reason } => Verdict::Withheld(reason),
        Answer::Withheld { published: true, .. } => return None,
        Answer::Refused { error: Error { code, message, retryable, retry_after_ms } } => {
            let reason = format!("{code}: {message}");
            if retryable || CODES_OF_THE_PUBLISHER.contains(&code.as_str()) {
                Verdict::Unavailable { reason, after: retry_after_ms.map(Duration::from_millis) }
            } else {
                Verdict::Refused(reason)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use shared::error::{Code, Refusal};

    use super::*;

    fn http(status: u16, body: &str) -> Verdict {
        Verdict::of_http(StatusCode::from_u16(status).expect("a status"), body.as_bytes())
    }

    fn is_unavailable(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Unavailable { .. })
    }

    const PUBLISHED: &str =
        r#"{"id":"a","region":"PL","seq":3,"epoch":1,"duplicate":true,"published":true,"audience":"~12","eta_ms":3}"#;
    const WITHHELD: &str = r#"{"published":false,"reason":"below_threshold"}"#;

    #[test]
    fn an_answer_is_final_in_either_way() {
        for verdict in [http(200, PUBLISHED), Verdict::of_invocation(false, PUBLISHED.as_bytes())] {
            assert_eq!(verdict, Verdict::Published { seq: 3, duplicate: true });
        }
        for verdict in [http(200, WITHHELD), Verdict::of_invocation(false, WITHHELD.as_bytes())] {
            assert_eq!(verdict, Verdict::Withheld("below_threshold".to_owned()));
        }
    }

    #[test]
    fn a_message_is_given_up_only_when_the_service_says_that_the_message_is_wrong() {
        let refused = |code: Code| {
            let body = serde_json::json!({"error": Refusal::new(code, "why").body()}).to_string();
            let verdict = http(code.http_status(), &body);
            assert_eq!(verdict, Verdict::of_invocation(false, body.as_bytes()));
            verdict
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
            assert!(matches!(refused(code), Verdict::Refused(reason) if reason.ends_with(": why")), "{code:?}");
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
            let verdict = http(status, &body);
            assert_eq!(verdict, Verdict::of_invocation(false, body.as_bytes()));
            verdict
        };
        for code in ["idempotency_conflict", "too_many_regions"] {
            assert_eq!(answered(409, code, false), Verdict::Refused(format!("{code}: why")));
        }
        assert_eq!(answered(503, "outcome_unknown", true), Verdict::unavailable("outcome_unknown: why".to_owned()));
    }

    #[test]
    fn a_service_that_says_when_to_come_back_is_heard() {
        let body = r#"{"error":{"code":"rate_limited","message":"too many","retryable":true,"retry_after_ms":100}}"#;
        let expected = Verdict::Unavailable {
            reason: "rate_limited: too many".to_owned(),
            after: Some(Duration::from_millis(100)),
        };
        assert_eq!(http(429, body), expected);
        assert_eq!(Verdict::of_invocation(false, body.as_bytes()), expected);
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
        let expected = Verdict::unavailable("reading the head of a region failed: gone".to_owned());
        assert_eq!(Verdict::of_invocation(true, failure), expected);
        assert!(is_unavailable(Verdict::of_invocation(true, PUBLISHED.as_bytes())));
        assert!(is_unavailable(Verdict::of_invocation(false, b"null")));
    }
}

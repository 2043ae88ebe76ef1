//! What somebody may subscribe to and read.

use std::{fmt, str::FromStr};

use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use serde_json::Value;

use crate::{
    error::{ApiError, Code},
    limits::{REGION_BYTES_MAX, REGION_PATTERNS_MAX},
    model::audience::{ALL, Audience, Region},
};

/// Field of the authorizer's context that carries the [`Regions`] that may be watched.
pub const REGIONS_FIELD: &str = "regions";

/// The same for those that may be published for.
pub const PUBLISH_FIELD: &str = "publish";

/// Field of the authorizer's context that says who it is.
pub const USER_FIELD: &str = "user";

/// Field of the authorizer's context with the name under which others see it.
pub const NAME_FIELD: &str = "name";

/// Whether tokens are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authorization {
    /// No tokens are checked.
    #[default]
    Off,
    /// A client without a token is anonymous and may have every region. An invalid token is refused.
    Optional,
    Required,
}

/// A text that names no such mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {0:?}: expected off, optional or required")]
pub struct InvalidAuthorization(String);

impl Authorization {
    /// Environment variable that says it.
    pub const VARIABLE: &str = "AUTHORIZATION";
}

impl FromStr for Authorization {
    type Err = InvalidAuthorization;

    fn from_str(text: &str) -> Result<Self, InvalidAuthorization> {
        match text {
            "off" => Ok(Self::Off),
            "optional" => Ok(Self::Optional),
            "required" => Ok(Self::Required),
            other => Err(InvalidAuthorization(other.to_owned())),
        }
    }
}

/// What the authorizer said about a client in a field of its context.
pub fn authorizer_field<'a>(event: &'a ApiGatewayWebsocketProxyRequest, field: &str) -> Option<&'a str> {
    event.request_context.authorizer.fields.get(field)?.as_str().filter(|text| !text.is_empty())
}

/// Which regions are allowed: names, beginnings of names such as `E*`, or `*` for all. Upper case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regions(Vec<String>);

/// A pattern that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pattern of regions is a name such as PL, a beginning such as E*, or *; there are at most {REGION_PATTERNS_MAX}"
)]
pub struct InvalidRegions;

impl Regions {
    /// Every region, and `ALL`.
    pub fn all() -> Self {
        Self(vec!["*".to_owned()])
    }

    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Reads a list of patterns.
    pub fn of_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidRegions> {
        let patterns: Vec<String> = patterns.into_iter().map(|pattern| pattern.trim().to_ascii_uppercase()).collect();
        let name_or_all = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => is_beginning(beginning),
            None => pattern.parse::<Region>().is_ok(),
        };
        let valid = patterns.len() <= REGION_PATTERNS_MAX && patterns.iter().all(name_or_all);
        valid.then_some(Self(patterns)).ok_or(InvalidRegions)
    }

    /// What the authorizer said of the connection that an event is about. Where it was not asked, everything is allowed
    /// when authorization is off, and nothing when it is not: the connection is older than the authorization.
    pub fn of_event(event: &ApiGatewayWebsocketProxyRequest, authorization: Authorization) -> Self {
        match (authorization, event.request_context.authorizer.fields.get(REGIONS_FIELD)) {
            (Authorization::Off, _) => Self::all(),
            (_, Some(Value::String(text))) => text.parse().unwrap_or_else(|InvalidRegions| Self::none()),
            _ => Self::none(),
        }
    }

    /// The regions that a client may publish for: what the authorizer said, and nothing when it is off.
    pub fn published_by(event: &ApiGatewayWebsocketProxyRequest, authorization: Authorization) -> Self {
        match (authorization, authorizer_field(event, PUBLISH_FIELD)) {
            (Authorization::Off, _) | (_, None) => Self::none(),
            (_, Some(text)) => text.parse().unwrap_or_else(|InvalidRegions| Self::none()),
        }
    }

    /// Whether somebody may have what is sent to an audience. `ALL` takes the pattern `*`.
    pub fn allow(&self, audience: &Audience) -> bool {
        let name = match audience {
            Audience::Region(region) => region.as_str(),
            Audience::All | Audience::Everyone | Audience::Room(_) => {
                return self.0.iter().any(|pattern| pattern == "*");
            }
        };
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        })
    }

    /// Whether there is any region that somebody may have.
    pub fn allow_any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Checks that each audience is allowed.
    ///
    /// # Errors
    ///
    /// For the first one that is not, as a value of `field`.
    pub fn check(&self, audiences: &[Audience], field: &str) -> Result<(), ApiError> {
        match audiences.iter().find(|audience| !self.allow(audience)) {
            None => Ok(()),
            Some(audience) => {
                Err(ApiError::of_field(Code::Forbidden, field, format!("the token does not allow {}", audience.key())))
            }
        }
    }
}

fn is_beginning(text: &str) -> bool {
    text.len() < REGION_BYTES_MAX
        && text != ALL
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Patterns joined by commas: a context carries no lists.
impl fmt::Display for Regions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl FromStr for Regions {
    type Err = InvalidRegions;

    fn from_str(text: &str) -> Result<Self, InvalidRegions> {
        Self::of_patterns(text.split(',').filter(|pattern| !pattern.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn regions(patterns: &[&str]) -> Regions {
        Regions::of_patterns(patterns.iter().copied()).expect("patterns")
    }

    #[test]
    fn patterns_allow_what_they_name_and_nothing_else() {
        let allows = |patterns: &[&str], name: &str| regions(patterns).allow(&name.parse().expect("an audience"));
        for (patterns, name) in [
            (&["PL"][..], "PL"),
            (&["pl"], "PL"),
            (&["DE", "E*"], "EU"),
            (&["PL-*"], "PL-MUSIC"),
            (&["PL*"], "PLX"),
            (&["*"], "ALL"),
        ] {
            assert!(allows(patterns, name), "{patterns:?} {name}");
        }
        for (patterns, name) in [
            (&["PL"][..], "PLX"),
            (&["PL"], "PL-MUSIC"),
            (&["PL-*"], "PL"),
            (&["PL"], "DE"),
            (&["E*"], "PL"),
            (&["A*", "AL*"], "ALL"),
            (&[], "PL"),
        ] {
            assert!(!allows(patterns, name), "{patterns:?} {name}");
        }
    }

    #[test]
    fn a_refusal_names_the_field_and_the_region() {
        let audiences = ["PL", "DE"].map(|name| name.parse().expect("an audience"));
        let refusal = regions(&["PL"]).check(&audiences, "regions").expect_err("not allowed");
        assert_eq!((refusal.code, refusal.code.http_status()), (Code::Forbidden, 403));
        assert_eq!(
            (refusal.field.as_deref(), refusal.message.as_str()),
            (Some("regions"), "the token does not allow DE")
        );
        assert!(!refusal.code.retryable());
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "P", "*L", "E**", "P,L", "@everyone", "ALL", "ALL*", "A234567890123456*"] {
            assert_eq!(Regions::of_patterns([bad]), Err(InvalidRegions), "{bad}");
        }
        assert!(Regions::of_patterns(vec!["PL"; REGION_PATTERNS_MAX + 1]).is_err());
    }

    #[test]
    fn without_a_word_of_the_authorizer_nothing_is_allowed_unless_it_is_off() {
        let event = ApiGatewayWebsocketProxyRequest::default();
        assert_eq!(Regions::of_event(&event, Authorization::Off), Regions::all());
        assert_eq!(Regions::of_event(&event, Authorization::Optional), Regions::none());
        assert_eq!(Regions::of_event(&event, Authorization::Required), Regions::none());
    }

    proptest! {
        #[test]
        fn the_text_of_a_context_means_the_same(
            patterns in proptest::collection::vec("[A-Z][A-Z0-9]{1,8}[*]?|[*]", 0..9),
        ) {
            // `ALL` is not the name of a region.
            prop_assume!(!patterns.iter().any(|pattern| pattern.starts_with("ALL")));
            let regions = Regions::of_patterns(patterns.iter().map(String::as_str)).expect("patterns");
            prop_assert_eq!(regions.to_string().parse(), Ok(regions));
        }
    }
}

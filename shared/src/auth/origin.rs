//! Pages that may connect. A browser says of which origin a page is; any other client says nothing, or what it
//! likes.
//!
//! Browsers apply no same-origin policy to WebSockets: any page can open one, in the name of whoever looks at it.
//!
//! Source: RFC 6455, section 10.2.

use std::{convert::Infallible, str::FromStr};

use crate::error::{ApiError, Code};

/// Origins that may connect, as for CORS: exact, `*`, `https://*` or `http://*`. An empty list allows every origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins(Vec<String>);

/// Reads a list that is separated by commas.
impl FromStr for AllowedOrigins {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let origins = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        Ok(Self(origins.map(str::to_owned).collect()))
    }
}

impl AllowedOrigins {
    /// Environment variable that holds the list.
    pub const VARIABLE: &str = "ALLOWED_ORIGINS";

    /// Checks the origin of a page. Programs send none and pass.
    ///
    /// # Errors
    ///
    /// If the list does not have the origin.
    pub fn check(&self, origin: Option<&str>) -> Result<(), ApiError> {
        let Some(origin) = origin else { return Ok(()) };
        let allows = |allowed: &String| match allowed.as_str() {
            "*" => true,
            "https://*" | "http://*" => origin.starts_with(allowed.trim_end_matches('*')),
            exact => exact == origin,
        };
        if self.0.is_empty() || self.0.iter().any(allows) {
            return Ok(());
        }
        Err(ApiError::of_field(Code::Forbidden, "Origin", "pages of this origin may not connect"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_origins_pass_and_those_that_only_look_alike_do_not() {
        let passes = |list: &str, origin: Option<&str>| {
            let list: AllowedOrigins = list.parse().unwrap_or_default();
            list.check(origin).is_ok()
        };
        let page = Some("https://a.example");
        for list in ["", " , ", "*", "https://*", "https://a.example", "https://b.example, https://a.example"] {
            assert!(passes(list, page), "{list:?}");
        }
        for list in ["https://b.example", "http://*", "https://a.example:444", "a.example"] {
            assert!(!passes(list, page), "{list:?}");
            assert!(passes(list, None), "no browser");
        }
        for origin in ["null", "", "http://a.example", "https://a.example.evil.example", "https://xa.example"] {
            assert!(!passes("https://a.example", Some(origin)), "{origin:?}");
        }
        let refusal = AllowedOrigins(vec!["x".to_owned()]).check(page).expect_err("not listed");
        assert_eq!((refusal.code.http_status(), refusal.field.as_deref()), (403, Some("Origin")));
    }
}

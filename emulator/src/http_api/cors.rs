//! CORS as in HTTP APIs: the gateway handles preflight requests that no route takes, and sets the headers of all other
//! responses.

use std::sync::LazyLock;

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN,
    },
};

use crate::{http::Body, template::Cors};

/// Lets a page read, with a token if it has one. The caller decides for which origins.
pub(super) static READING: LazyLock<Cors> = LazyLock::new(|| {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Cors {
        origins: texts(&["http://*", "https://*"]),
        methods: texts(&["GET"]),
        // The wildcard does not cover `authorization`. Source: Fetch, "CORS non-wildcard request-header name".
        headers: texts(&["authorization", "*"]),
        exposed: texts(&["*"]),
        ..Cors::default()
    }
});

impl Cors {
    /// Responds to a preflight request that no route takes. `None` for other requests.
    pub(crate) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        if !is_preflight(request.method(), request.headers()) {
            return None;
        }
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        self.apply(request.method(), request.headers(), response.headers_mut());
        Some(response)
    }

    /// Replaces the CORS headers of a function by the configured ones.
    pub(crate) fn apply(&self, method: &Method, request: &HeaderMap, response: &mut HeaderMap) {
        let said: Vec<HeaderName> =
            response.keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
        for name in said {
            response.remove(name);
        }
        if self.allow(request, response) && is_preflight(method, request) {
            set_list(response, ACCESS_CONTROL_ALLOW_METHODS, &self.methods);
            set_list(response, ACCESS_CONTROL_ALLOW_HEADERS, &self.headers);
            if let Some(secs) = self.max_age_secs {
                response.insert(ACCESS_CONTROL_MAX_AGE, secs.into());
            }
        }
    }

    /// Sets the headers that every response to an allowed origin has. Returns whether the origin is allowed.
    fn allow(&self, request: &HeaderMap, response: &mut HeaderMap) -> bool {
        let Some(origin) = request.get(ORIGIN) else { return false };
        let Some(allowed) = self.allowed(origin) else { return false };
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            response.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        set_list(response, ACCESS_CONTROL_EXPOSE_HEADERS, &self.exposed);
        true
    }

    /// Returns whether the origin and method of a request are allowed.
    pub(crate) fn allows(&self, method: &Method, request: &HeaderMap) -> bool {
        let allows = |allowed: &String| allowed == "*" || allowed.eq_ignore_ascii_case(method.as_str());
        self.methods.iter().any(allows) && self.allows_origin(request)
    }

    /// Returns whether the origin of a request is allowed.
    pub(crate) fn allows_origin(&self, request: &HeaderMap) -> bool {
        request.get(ORIGIN).is_some_and(|origin| self.allowed(origin).is_some())
    }

    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.origins.iter().any(|allowed| allowed == "*") {
            return Some(HeaderValue::from_static("*"));
        }
        let text = origin.to_str().ok()?;
        let allows = |allowed: &String| match allowed.as_str() {
            "https://*" | "http://*" => text.starts_with(allowed.trim_end_matches('*')),
            exact => exact == text,
        };
        self.origins.iter().any(allows).then(|| origin.clone())
    }
}

fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS && headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

fn set_list(headers: &mut HeaderMap, name: HeaderName, values: &[String]) {
    if let (false, Ok(value)) = (values.is_empty(), HeaderValue::from_str(&values.join(","))) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str]) -> Cors {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Cors {
            origins: owned(origins),
            methods: owned(&["GET", "PUT"]),
            headers: owned(&["x-a"]),
            exposed: owned(&["etag"]),
            max_age_secs: Some(60),
            credentials: false,
        }
    }

    #[test]
    fn a_request_of_a_page_is_allowed_by_its_origin_and_method() {
        let check = |cors: &Cors, method: Method, origin: &'static str, allowed: bool| {
            let headers = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))]);
            assert_eq!(cors.allows(&method, &headers), allowed, "{method} from {origin}");
        };
        let page = cors(&["https://a.example"]);
        check(&page, Method::PUT, "https://a.example", true);
        check(&page, Method::POST, "https://a.example", false);
        check(&page, Method::PUT, "https://evil.example", false);
        check(&Cors { methods: vec!["*".to_owned()], ..cors(&["*"]) }, Method::POST, "https://b.example", true);
        assert!(!page.allows(&Method::PUT, &HeaderMap::new()), "without an origin");
    }

    fn preflight(cors: &Cors, headers: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        let mut request = Request::builder().method("OPTIONS");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = cors.preflight(&request.body(()).expect("valid"))?;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        let text = |value: &HeaderValue| value.to_str().expect("text").to_owned();
        Some(response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect())
    }

    #[test]
    fn a_preflight_reaches_no_function() {
        let asked = ("access-control-request-method", "GET");
        let origin = ("origin", "https://a.example");
        let answer = preflight(&cors(&["https://b.example", "https://a.example"]), &[origin, asked]).expect("answered");
        let expected = [
            ("access-control-allow-origin", "https://a.example"),
            ("access-control-expose-headers", "etag"),
            ("access-control-allow-methods", "GET,PUT"),
            ("access-control-allow-headers", "x-a"),
            ("access-control-max-age", "60"),
        ];
        assert_eq!(answer, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(preflight(&cors(&["https://b.example"]), &[origin, asked]), Some(Vec::new()), "nothing is allowed");
        assert_eq!(preflight(&cors(&["*"]), &[origin]), None, "not a preflight");
        assert_eq!(preflight(&cors(&["*"]), &[asked]), None, "not a preflight");
    }

    #[test]
    fn origins_are_exact_or_any_or_any_of_a_scheme() {
        let check = |allowed: &str, origin: &'static str, answer: Option<&str>| {
            let allowed = cors(&[allowed]).allowed(&HeaderValue::from_static(origin));
            assert_eq!(allowed.as_ref().map(|value| value.to_str().expect("text")), answer, "{origin}");
        };
        check("*", "https://a.example", Some("*"));
        check("https://*", "https://a.example", Some("https://a.example"));
        check("https://*", "http://a.example", None);
        check("http://*", "http://a.example", Some("http://a.example"));
        check("https://a.example", "https://a.example.evil", None);
        check("https://a.example", "https://xa.example", None);
    }

    #[test]
    fn cors_headers_of_a_function_are_replaced() {
        let request = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static("https://a.example"))]);
        let own = || HeaderMap::from_iter([(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))]);
        let mut response = own();
        cors(&["https://a.example"]).apply(&Method::GET, &request, &mut response);
        assert_eq!(response[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
        let mut response = own();
        cors(&["https://b.example"]).apply(&Method::GET, &request, &mut response);
        assert!(response.is_empty());
    }

    #[test]
    fn the_answer_of_a_function_to_a_preflight_has_all_headers_of_one() {
        let request = HeaderMap::from_iter([
            (ORIGIN, HeaderValue::from_static("https://a.example")),
            (ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT")),
        ]);
        let mut response = HeaderMap::new();
        cors(&["https://a.example"]).apply(&Method::OPTIONS, &request, &mut response);
        assert_eq!(response[ACCESS_CONTROL_ALLOW_METHODS], "GET,PUT");
        assert_eq!(response[ACCESS_CONTROL_ALLOW_HEADERS], "x-a");
        let mut response = HeaderMap::new();
        cors(&["https://a.example"]).apply(&Method::PUT, &request, &mut response);
        assert!(!response.contains_key(ACCESS_CONTROL_ALLOW_METHODS), "no preflight");
    }
}

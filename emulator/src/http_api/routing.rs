//! Which route a request takes: the one whose path says most about it.
//!
//! Source: API Gateway developer guide, "Create routes for HTTP APIs"; for REST APIs LocalStack's recordings of the
//! service (`test_lambda_aws_proxy_integration`).

use percent_encoding::percent_decode_str;

use crate::template::{ANY, DEFAULT, HttpApi, HttpApiKind, HttpRoute, parameter};

/// How much a route says of a request: what each of its segments is, and whether it names the method. The greater, the
/// better.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fit {
    segments: Vec<Segment>,
    names_method: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    /// `{name+}`, all that is left.
    Rest,
    /// `{name}`.
    Parameter,
    Text,
}

impl Fit {
    /// Whether the route says what the first segment of the path is.
    pub(super) fn names_beginning(&self) -> bool {
        // Before the first slash there is nothing.
        self.segments.get(1) == Some(&Segment::Text)
    }
}

/// Parameters of a path with their values.
type Parameters = Vec<(String, String)>;

/// A route that fits a request.
#[derive(Clone, Debug)]
pub(super) struct Match<'a> {
    pub(super) route: &'a HttpRoute,
    /// Values of the path parameters: decoded in HTTP APIs, as the client wrote them in REST APIs.
    pub(super) parameters: Parameters,
    pub(super) fit: Fit,
}

/// The best route of an API for a method and a path without the stage. Of two that fit alike, the first.
pub(super) fn best<'a>(api: &'a HttpApi, method: &str, path: &str) -> Option<Match<'a>> {
    let mut best: Option<Match<'a>> = None;
    for route in &api.routes {
        let names_method = route.method == method;
        if !names_method && route.method != ANY {
            continue;
        }
        let Some((segments, parameters)) = fits(&route.path, path, api.kind) else { continue };
        let fit = Fit { segments, names_method };
        if best.as_ref().is_none_or(|best| fit > best.fit) {
            best = Some(Match { route, parameters, fit });
        }
    }
    best
}

/// The rest of a path below the stage of an API, if the path begins with one. In REST APIs several slashes after the
/// stage are one.
pub(super) fn below_stage<'a>(api: &HttpApi, path: &'a str) -> Option<&'a str> {
    if api.stage == DEFAULT {
        return None;
    }
    let rest = path.strip_prefix('/')?.strip_prefix(api.stage.as_str())?;
    let repeated = match api.kind {
        HttpApiKind::Rest => rest.bytes().take_while(|byte| *byte == b'/').count().saturating_sub(1),
        HttpApiKind::Http => 0,
    };
    match &rest[repeated..] {
        "" => Some("/"),
        rest => rest.starts_with('/').then_some(rest),
    }
}

/// Compares the path of a route with that of a request. In REST APIs a slash at the end does not count. In HTTP APIs a
/// parameter at the end takes what is after it, which is nothing: `/{name}` is also for `/`.
fn fits(own: &str, asked: &str, kind: HttpApiKind) -> Option<(Vec<Segment>, Parameters)> {
    if own == DEFAULT {
        return Some((Vec::new(), Vec::new()));
    }
    let trimmed = |path: &'_ str| match kind {
        HttpApiKind::Rest => path.trim_end_matches('/').len(),
        HttpApiKind::Http => path.len(),
    };
    let (own, asked) = (&own[..trimmed(own)], &asked[..trimmed(asked)]);
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let value_of = |text: &str| match kind {
        HttpApiKind::Rest => text.to_owned(),
        HttpApiKind::Http => decoded(text),
    };
    let mut asked = asked.split('/').peekable();
    let (mut segments, mut parameters) = (Vec::new(), Vec::new());
    for own in own.split('/') {
        match (parameter(own), asked.next()?) {
            (Some(_), "") if kind == HttpApiKind::Rest || asked.peek().is_some() => return None,
            (Some((name, true)), first) => {
                let rest = std::iter::once(first).chain(asked).collect::<Vec<_>>().join("/");
                parameters.push((name.to_owned(), value_of(&rest)));
                segments.push(Segment::Rest);
                return Some((segments, parameters));
            }
            (Some((name, false)), value) => {
                parameters.push((name.to_owned(), value_of(value)));
                segments.push(Segment::Parameter);
            }
            (None, value) if own == value || decoded(value) == own => segments.push(Segment::Text),
            (None, _) => return None,
        }
    }
    asked.next().is_none().then_some((segments, parameters))
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;
    use crate::template::{Template, TemplateInputs};

    /// An API with these routes, each a method and a path.
    fn api(kind: &str, routes: &[&str]) -> HttpApi {
        let event = |(index, route): (usize, &&str)| {
            let (method, path) = route.split_once(' ').unwrap_or(("ANY", route));
            let place = if path == "$default" { String::new() } else { format!("Method: {method}, Path: '{path}'") };
            format!("      E{index}: {{ Type: {kind}, Properties: {{ {place} }} }}\n")
        };
        let events: String = routes.iter().enumerate().map(event).collect();
        let text = format!(
            "Resources:\n  Ws: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, \
             RouteSelectionExpression: $request.body.a }} }}\n  F:\n    Type: AWS::Serverless::Function\n    \
             Properties:\n     Events:\n{events}"
        );
        Template::parse(&text, &TemplateInputs::default()).expect("valid").http_apis.remove(0)
    }

    fn chosen(api: &HttpApi, method: &str, path: &str) -> Option<String> {
        best(api, method, path).map(|found| found.route.key())
    }

    fn check(api: &HttpApi, cases: &[(&str, &str, &str)]) {
        for (method, path, expected) in cases {
            let expected = (!expected.is_empty()).then(|| (*expected).to_owned());
            assert_eq!(chosen(api, method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn the_most_specific_route_wins_as_in_the_documented_example() {
        let documented = ["GET /pets/dog/1", "GET /pets/dog/{id}", "GET /pets/{proxy+}", "ANY /{proxy+}", "$default"];
        check(
            &api("HttpApi", &documented),
            &[
                ("GET", "/pets/dog/1", "GET /pets/dog/1"),
                ("GET", "/pets/dog/2", "GET /pets/dog/{id}"),
                ("GET", "/pets/cat/1", "GET /pets/{proxy+}"),
                ("POST", "/test/5", "ANY /{proxy+}"),
                ("GET", "/", "ANY /{proxy+}"),
            ],
        );
    }

    #[test]
    fn a_method_wins_over_any_and_a_path_over_a_method() {
        check(
            &api("HttpApi", &["ANY /a", "GET /a", "GET /{proxy+}", "delete /a/{b}"]),
            &[
                ("GET", "/a", "GET /a"),
                ("POST", "/a", "ANY /a"),
                ("GET", "/b", "GET /{proxy+}"),
                ("POST", "/b", ""),
                ("DELETE", "/a/x", "DELETE /a/{b}"),
            ],
        );
    }

    #[test]
    fn parameters_are_one_segment_and_decoded_and_a_greedy_one_is_the_rest() {
        let api = api("HttpApi", &["GET /x/{a}/{b}", "GET /files/{path+}", "GET /über"]);
        let of = |path: &str| best(&api, "GET", path).map(|found| found.parameters);
        let pairs =
            |pairs: &[(&str, &str)]| Some(pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect());
        assert_eq!(of("/x/PL/a%20b%2Fc"), pairs(&[("a", "PL"), ("b", "a b/c")]));
        assert_eq!(of("/files/a/b%20c/d"), pairs(&[("path", "a/b c/d")]));
        assert_eq!(of("/%C3%BCber"), pairs(&[]));
        for other in ["/x/PL", "/x//7", "/x/PL/7/8", "/files", "/files//a", "/", ""] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn parameters_of_rest_apis_are_as_the_client_wrote_them() {
        let api = api("Api", &["GET /x/{a}", "ANY /files/{path+}"]);
        let of = |path: &str| best(&api, "GET", path).map(|found| found.parameters[0].1.clone()).expect(path);
        for (path, value) in [("/x/a%2Bb%20c+d@e", "a%2Bb%20c+d@e"), ("/files/a%2B//b/", "a%2B//b")] {
            assert_eq!(of(path), value);
        }
    }

    #[test]
    fn a_parameter_at_the_end_may_be_empty_in_http_apis_only() {
        let routes = ["GET /{id}", "GET /files/{path+}", "GET /x/{a}/{b}"];
        check(
            &api("HttpApi", &routes),
            &[("GET", "/", "GET /{id}"), ("GET", "/files/", "GET /files/{path+}"), ("GET", "/x/PL/", "GET /x/{a}/{b}")],
        );
        let empty = best(&api("HttpApi", &routes), "GET", "/x/PL/").map(|found| found.parameters);
        assert_eq!(empty, Some(vec![("a".to_owned(), "PL".to_owned()), ("b".to_owned(), String::new())]));
        check(&api("Api", &routes), &[("GET", "/", ""), ("GET", "/files/", "GET /{id}"), ("GET", "/x/PL/", "")]);
    }

    #[test]
    fn a_slash_at_the_end_counts_in_http_apis_and_not_in_rest_apis() {
        check(&api("HttpApi", &["GET /a"]), &[("GET", "/a/", ""), ("GET", "/a", "GET /a")]);
        check(
            &api("Api", &["GET /a", "ANY /{proxy+}", "GET /"]),
            &[("GET", "/a/", "GET /a"), ("GET", "/b/c/", "ANY /{proxy+}"), ("GET", "/", "GET /"), ("POST", "/", "")],
        );
    }

    #[test]
    fn the_stage_is_a_whole_segment() {
        let api = api("Api", &["GET /a"]);
        assert_eq!(api.stage, "Prod");
        for (path, below) in [
            ("/Prod/a", Some("/a")),
            ("/Prod", Some("/")),
            ("/Prod/", Some("/")),
            ("/Product", None),
            ("/Prod//a//b", Some("/a//b")),
            ("/Prod//", Some("/")),
        ] {
            assert_eq!(below_stage(&api, path), below, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_compared_and_parameters_are_what_was_escaped(
            path in "(/[a-z%/.{}+é]{0,8}){0,4}",
            first in "[ -~é]{1,9}",
            rest in prop::collection::vec("[ -~é]{0,5}", 0..4),
        ) {
            let api = api("HttpApi", &["GET /a/{b}/{c+}", "GET /{d}", "$default"]);
            prop_assert!(best(&api, "GET", &path).is_some());
            let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let asked: String = rest.iter().map(|part| format!("/{}", escaped(part))).collect();
            let found = best(&api, "GET", &format!("/a/{}/x{asked}", escaped(&first))).expect("a route");
            let whole = std::iter::once("x").chain(rest.iter().map(String::as_str)).collect::<Vec<_>>().join("/");
            prop_assert_eq!(found.parameters, [("b".to_owned(), first), ("c".to_owned(), whole)]);
        }
    }
}

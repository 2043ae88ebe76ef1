//! Paths of routes that API Gateway refuses. Such a route is not served here either.
//!
//! Source: API Gateway developer guide, "Create routes for HTTP APIs" and "Set up a proxy integration with a proxy
//! resource", and the errors that users quote: awslabs/aws-api-gateway-developer-portal issue 424 and
//! serverless-nextjs/serverless-next.js issue 208 for characters, issue 206 of the latter for parameters of one place
//! in REST APIs, KensioSoftware/yulin pull request 307 for those in HTTP APIs.

use std::collections::{BTreeSet, HashMap};

use super::model::{DEFAULT, HttpApi, HttpApiKind, RouteBackend};

/// Marks the routes with such paths.
pub(super) fn refuse(api: &mut HttpApi) {
    let mut tree = Tree::default();
    let reasons: Vec<Option<String>> = api
        .routes
        .iter()
        .map(|route| match route.path.as_str() {
            DEFAULT => None,
            path => problem(path, api.kind).or_else(|| tree.add(path, api.kind)),
        })
        .collect();
    for (route, reason) in api.routes.iter_mut().zip(reasons) {
        if let Some(reason) = reason {
            route.backend = RouteBackend::Unserved(format!("API Gateway refuses its path, {reason}"));
        }
    }
}

/// Returns the name of a parameter, `{name}` or `{name+}`, and whether it is the rest of the path. `None` if a segment
/// is text.
pub(crate) fn parameter(segment: &str) -> Option<(&str, bool)> {
    let inner = segment.strip_prefix('{')?.strip_suffix('}')?;
    Some(inner.strip_suffix('+').map_or((inner, false), |name| (name, true)))
}

/// What is wrong with a path by itself.
fn problem(path: &str, kind: HttpApiKind) -> Option<String> {
    let Some(segments) = path.strip_prefix('/') else { return Some("which does not begin with a slash".to_owned()) };
    let mut names = BTreeSet::new();
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        let (text, is_rest) = parameter(segment).unwrap_or((segment, false));
        if text.contains(['{', '}']) {
            return Some(format!("whose braces in `{segment}` do not enclose a whole segment, as in /a/{{b}}"));
        }
        let is_parameter = text.len() < segment.len();
        if is_parameter && text.is_empty() {
            return Some("which has a parameter without a name".to_owned());
        }
        if is_parameter && !names.insert(text) {
            return Some(format!("which has the parameter {{{text}}} twice"));
        }
        if is_rest && segments.peek().is_some() {
            return Some(format!("which goes on after {segment}, the rest of a path"));
        }
        let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || ['.', '_', '-', ':'].contains(&letter);
        if kind == HttpApiKind::Rest && !text.chars().all(is_allowed) {
            return Some(format!("whose segment `{segment}` has other characters than letters, digits, ., _, - and :"));
        }
    }
    None
}

/// The segments of all paths of an API, each with a number for what is below it. The root is 0.
#[derive(Default)]
struct Tree<'a> {
    below: HashMap<(usize, &'a str), usize>,
    /// The parameter of a place, by whether it is the rest of a path.
    parameters: HashMap<(usize, bool), &'a str>,
}

impl<'a> Tree<'a> {
    /// Adds a path. Says what is wrong with it beside the others: a place has one parameter, whatever follows it. In
    /// HTTP APIs it may have one more for the rest of the path.
    fn add(&mut self, path: &'a str, kind: HttpApiKind) -> Option<String> {
        let mut place = 0;
        for segment in path.split('/').skip(1) {
            if let Some((_, is_rest)) = parameter(segment) {
                let known = *self.parameters.entry((place, is_rest && kind == HttpApiKind::Http)).or_insert(segment);
                if known != segment {
                    return Some(format!("whose {segment} is in the place of {known} of another route"));
                }
            }
            let next = self.below.len() + 1;
            place = *self.below.entry((place, segment)).or_insert(next);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use crate::template::{Template, TemplateInputs};

    /// Routes of an API that are not served, with the reasons.
    fn refused(kind: &str, paths: &[&str]) -> (Vec<(String, String)>, Vec<String>) {
        let event = |(index, path): (usize, &&str)| {
            format!("      E{index}: {{ Type: {kind}, Properties: {{ Method: get, Path: '{path}' }} }}\n")
        };
        let events: String = paths.iter().enumerate().map(event).collect();
        let text = format!(
            "Resources:\n  Ws: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, \
             RouteSelectionExpression: $request.body.a }} }}\n  F:\n    Type: AWS::Serverless::Function\n    \
             Properties:\n     Events:\n{events}"
        );
        let template = Template::parse(&text, &TemplateInputs::default()).expect("valid");
        let routes = template.http_apis.iter().flat_map(|api| &api.routes);
        let refused = routes.filter_map(|route| Some((route.path.clone(), route.unserved()?.to_owned()))).collect();
        (refused, template.notes)
    }

    #[test]
    fn a_path_that_api_gateway_refuses_is_not_served_and_noted() {
        for (kinds, path, part) in [
            (&["HttpApi", "Api"][..], "/a{b}c", "whose braces in `a{b}c`"),
            (&["HttpApi", "Api"], "/{a}{b}", "whose braces in `{a}{b}`"),
            (&["HttpApi", "Api"], "/{a", "whose braces in `{a`"),
            (&["HttpApi", "Api"], "/{}", "without a name"),
            (&["HttpApi", "Api"], "/x/{+}", "without a name"),
            (&["HttpApi", "Api"], "/{a}/{a}", "which has the parameter {a} twice"),
            (&["HttpApi", "Api"], "/{a}/{a+}", "which has the parameter {a} twice"),
            (&["HttpApi", "Api"], "/{p+}/x", "which goes on after {p+}"),
            (&["HttpApi", "Api"], "a", "which does not begin with a slash"),
            (&["Api"], "/a b", "whose segment `a b` has other characters"),
            (&["Api"], "/{a~}", "whose segment `{a~}` has other characters"),
        ] {
            for kind in kinds {
                let (routes, notes) = refused(kind, &["/fine", path]);
                let [(refused, reason)] = routes.as_slice() else { panic!("{kind} {path}: {routes:?}") };
                assert_eq!(refused, path);
                assert!(reason.contains(part), "{kind} {path}: {reason}");
                let note = format!(
                    "GET {path} of Serverless{}Api is not served: {reason}",
                    if *kind == "Api" { "Rest" } else { "Http" }
                );
                assert!(notes.contains(&note), "{note}: {notes:?}");
            }
        }
    }

    #[test]
    fn a_place_has_one_parameter() {
        let paths = ["/a/{id}", "/a/{id}/x", "/b/{name}", "/a/{name}/y", "/a/{rest+}", "/{any+}"];
        let of = |kind: &str| refused(kind, &paths).0.into_iter().map(|(path, _)| path).collect::<Vec<_>>();
        assert_eq!(of("HttpApi"), ["/a/{name}/y"]);
        assert_eq!(of("Api"), ["/a/{name}/y", "/a/{rest+}"]);
        let reason = refused("HttpApi", &paths).0.remove(0).1;
        assert_eq!(reason, "API Gateway refuses its path, whose {name} is in the place of {id} of another route");
    }

    #[test]
    fn what_api_gateway_takes_is_served() {
        for kind in ["HttpApi", "Api"] {
            let paths = ["/", "/a/", "/a.b_c-d:e/{id}", "/{proxy+}", "/A1/{a_b.c-d}/{rest+}"];
            assert_eq!(refused(kind, &paths).0, [], "{kind}");
        }
        assert_eq!(refused("HttpApi", &["/a b", "/über/{a~}"]).0, []);
    }
}

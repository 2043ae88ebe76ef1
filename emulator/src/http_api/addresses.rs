//! The addresses of APIs, as the program prints them.

use std::collections::BTreeSet;

use crate::template::{DEFAULT, HttpApi, HttpRoute, parameter};

/// The address of an API, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpApiAddress {
    /// The kind and the logical id of the API.
    pub api: String,
    /// The host name that leads to it alone, where another API takes requests for its path.
    pub host: Option<String>,
    /// The path of its stage.
    pub path: String,
}

/// The addresses of APIs. One API at the root of the address needs no line of its own.
pub(crate) fn addresses(apis: &[HttpApi]) -> Vec<HttpApiAddress> {
    let served: Vec<&HttpApi> = apis.iter().filter(|api| !api.routes.is_empty()).collect();
    if let [only] = served.as_slice()
        && only.stage == DEFAULT
    {
        return Vec::new();
    }
    let address_of = |api: &&HttpApi| {
        let is_shared = api.stage == DEFAULT && served.iter().any(|other| shares_paths(api, other));
        HttpApiAddress {
            api: format!("the {} {}", api.kind.name(), api.name),
            host: is_shared.then(|| format!("{}.localhost", api.name)),
            path: if api.stage == DEFAULT { "/".to_owned() } else { format!("/{}", api.stage) },
        }
    };
    served.iter().map(address_of).collect()
}

/// Whether another API takes paths of routes of this one: both have a route for any beginning, or for the same path.
fn shares_paths(api: &HttpApi, other: &HttpApi) -> bool {
    let is_open = |route: &HttpRoute| {
        route.path == DEFAULT || route.path.split('/').nth(1).is_some_and(|first| parameter(first).is_some())
    };
    let own: BTreeSet<&str> = api.routes.iter().map(|route| route.path.as_str()).collect();
    let is_open_itself = api.routes.iter().any(is_open);
    let shares = |route: &HttpRoute| own.contains(route.path.as_str()) || (is_open_itself && is_open(route));
    api.api_id != other.api_id && other.routes.iter().any(shares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{Template, TemplateInputs};

    #[test]
    fn an_api_whose_requests_another_one_takes_has_its_own_host_name() {
        let of = |http: &str, rest: &str| {
            let events = format!(
                "A: {{ Type: HttpApi, Properties: {{ {http} }} }}, B: {{ Type: Api, Properties: {{ {rest} }} }}"
            );
            let text = format!(
                "Resources:\n  Ws: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, \
                 RouteSelectionExpression: $request.body.a }} }}\n  F: {{ Type: AWS::Serverless::Function, \
                 Properties: {{ Events: {{ {events} }} }} }}\n"
            );
            let template = Template::parse(&text, &TemplateInputs::default()).expect("valid");
            addresses(&template.http_apis).into_iter().map(|address| (address.host, address.path)).collect::<Vec<_>>()
        };
        let own = Some("ServerlessHttpApi.localhost".to_owned());
        for (http, rest, host) in [
            ("", "Path: '/{proxy+}', Method: any", own.clone()),
            ("Path: '/{id}', Method: get", "Path: '/{proxy+}', Method: any", own.clone()),
            ("Path: /a, Method: get", "Path: /a, Method: post", own),
            ("Path: /a, Method: get", "Path: '/{proxy+}', Method: any", None),
            ("", "Path: /a, Method: any", None),
        ] {
            let expected = [(host, "/".to_owned()), (None, "/Prod".to_owned())];
            assert_eq!(of(http, rest), expected, "{http} {rest}");
        }
    }
}

//! Throttles of stages: `DefaultRouteSettings` and `RouteSettings`, the same for WebSocket and HTTP APIs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{error::TemplateError, resources::Resource, scalar};

/// What the settings of a route may have.
const KEYS: [&str; 5] =
    ["DataTraceEnabled", "DetailedMetricsEnabled", "LoggingLevel", "ThrottlingBurstLimit", "ThrottlingRateLimit"];

/// Rate limit of a route.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Throttle {
    /// `ThrottlingRateLimit`: requests per second.
    pub(crate) per_second: f64,
    /// `ThrottlingBurstLimit`: requests at once.
    pub(crate) burst: f64,
}

/// The throttles of one stage.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Throttles {
    /// For routes without their own.
    pub(crate) default: Option<Throttle>,
    /// For single routes, by route key.
    pub(crate) routes: BTreeMap<String, Throttle>,
}

impl Throttles {
    /// The throttle of a route.
    pub(crate) fn of(&self, route: &str) -> Option<Throttle> {
        self.routes.get(route).copied().or(self.default)
    }

    /// Reads the throttles of a stage, or of an API in SAM's form: both have the same properties.
    pub(super) fn read(stage: &Resource<'_>) -> Result<Self, TemplateError> {
        let properties = stage.object(&["DefaultRouteSettings", "RouteSettings"]);
        Self::of_properties(&properties).map_err(|reason| stage.error(reason))
    }

    /// Reads them from properties. An error is what is wrong.
    pub(super) fn of_properties(properties: &Value) -> Result<Self, String> {
        let default = properties.get("DefaultRouteSettings");
        let default = default.map(|settings| throttle("DefaultRouteSettings", settings)).transpose()?.flatten();
        let mut routes = BTreeMap::new();
        let of_routes = match properties.get("RouteSettings") {
            None | Some(Value::Null) => None,
            Some(settings) => Some(settings.as_object().ok_or_else(|| no_object("RouteSettings"))?),
        };
        for (key, settings) in of_routes.into_iter().flatten() {
            let own = throttle(&format!("RouteSettings of {key}"), settings)?;
            routes.extend(own.map(|own| (key.clone(), own)));
        }
        Ok(Self { default, routes })
    }
}

fn no_object(what: &str) -> String {
    format!("invalid settings in {what}: expected an object")
}

/// The throttle of these settings, if they have a rate. The default burst is one second's worth.
fn throttle(what: &str, settings: &Value) -> Result<Option<Throttle>, String> {
    let unknown = match settings {
        Value::Null => None,
        Value::Object(settings) => settings.keys().find(|key| !KEYS.contains(&key.as_str())),
        _ => return Err(no_object(what)),
    };
    if let Some(key) = unknown {
        return Err(format!("unknown {key} in {what}: write one of {}", KEYS.join(", ")));
    }
    let number = |name: &'static str| {
        let Some(value) = settings.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
        let number = scalar::as_text(value)
            .unwrap_or_default()
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite() && *number >= 0.0);
        number.map(Some).ok_or_else(|| format!("invalid {name} in {what}: expected a number of at least 0"))
    };
    let burst = number("ThrottlingBurstLimit")?;
    let throttle = |per_second: f64| Throttle { per_second, burst: burst.unwrap_or_else(|| per_second.ceil()) };
    Ok(number("ThrottlingRateLimit")?.map(throttle))
}

#[cfg(test)]
mod tests {
    use crate::template::{Template, TemplateInputs};

    use super::*;

    fn throttle(per_second: f64, burst: f64) -> Throttle {
        Throttle { per_second, burst }
    }

    fn read(resources: &str) -> Result<Template, String> {
        let text = format!("Parameters:\n  Rate: {{ Type: Number, Default: 20 }}\nResources:\n{resources}");
        Template::parse(&text, &TemplateInputs::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_stage_throttles_its_routes_by_their_keys_with_numbers_that_may_come_from_parameters() {
        let stage = |settings: &str| {
            format!(
                "  Api: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, \
                 RouteSelectionExpression: $request.body.a }} }}\n  \
                Stage: {{ Type: AWS::ApiGatewayV2::Stage, Properties: {{ ApiId: !Ref Api, StageName: p, {settings} }} \
                }}\n"
            )
        };
        let of = |settings: &str| read(&stage(settings)).map(|template| template.sockets.throttles);
        let read =
            of("DefaultRouteSettings: { ThrottlingRateLimit: 0.5, ThrottlingBurstLimit: 3, DataTraceEnabled: true }, \
             RouteSettings: { $connect: { ThrottlingRateLimit: !Ref Rate, ThrottlingBurstLimit: !Ref Rate }, \
             say: { ThrottlingRateLimit: 2.5 }, quiet: { LoggingLevel: 'OFF' } }");
        let routes = [("$connect".to_owned(), throttle(20.0, 20.0)), ("say".to_owned(), throttle(2.5, 3.0))].into();
        assert_eq!(read, Ok(Throttles { default: Some(throttle(0.5, 3.0)), routes }));
        assert_eq!(of("StageVariables: {}"), Ok(Throttles::default()));
        assert_eq!(
            of("RouteSettings: { say: { ThrottlingRateLimit: -1 } }"),
            Err("line 5: Stage: invalid ThrottlingRateLimit in RouteSettings of say: expected a number of at least 0"
                .to_owned())
        );
        assert_eq!(
            of("DefaultRouteSettings: { ThrottlingRateLimit: 1, ThrottlingBurstLimit: many }"),
            Err("line 5: Stage: invalid ThrottlingBurstLimit in DefaultRouteSettings: expected a number of at least 0"
                .to_owned())
        );
        for (settings, reason) in [
            ("DefaultRouteSettings: 1", "invalid settings in DefaultRouteSettings: expected an object"),
            ("RouteSettings: { say: [1] }", "invalid settings in RouteSettings of say: expected an object"),
            (
                "DefaultRouteSettings: { ThrottlingRate: 1 }",
                "unknown ThrottlingRate in DefaultRouteSettings: write one of DataTraceEnabled, \
                 DetailedMetricsEnabled, LoggingLevel, ThrottlingBurstLimit, ThrottlingRateLimit",
            ),
            ("RouteSettings: [1]", "invalid settings in RouteSettings: expected an object"),
            (
                "DefaultRouteSettings: { ThrottlingRateLimit: [1] }",
                "invalid ThrottlingRateLimit in DefaultRouteSettings: expected a number of at least 0",
            ),
        ] {
            assert_eq!(of(settings), Err(format!("line 5: Stage: {reason}")));
        }
    }

    #[test]
    fn apis_in_sam_s_form_throttle_too() {
        let template = read(
            "  Ws: { Type: AWS::Serverless::WebSocketApi, Properties: { RouteSelectionExpression: $request.body.a, \
             Routes: { a: { FunctionArn: x } }, RouteSettings: { a: { ThrottlingRateLimit: 1 } } } }\n  \
             Http: { Type: AWS::Serverless::HttpApi, Properties: { RouteSettings: { \"GET /x\": { ThrottlingRateLimit: \
             7 } } } }\n  \
             Raw: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: HTTP } }\n  \
             Of: { Type: AWS::ApiGatewayV2::Stage, Properties: { ApiId: !Ref Raw, DefaultRouteSettings: { \
             ThrottlingRateLimit: 9 } } }\n",
        )
        .expect("valid");
        assert_eq!(template.sockets.throttles.of("a"), Some(throttle(1.0, 1.0)));
        let of = |name: &str, route: &str| {
            let api = template.http_apis.iter().find(|api| api.name == name).expect("an API");
            api.throttles.of(route)
        };
        assert_eq!(of("Http", "GET /x"), Some(throttle(7.0, 7.0)));
        assert_eq!(of("Raw", "GET /x"), Some(throttle(9.0, 9.0)));
    }
}

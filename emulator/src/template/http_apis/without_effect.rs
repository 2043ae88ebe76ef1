//! What templates say of HTTP and REST APIs that has no effect here: one note for each kind, with the names.

use std::collections::BTreeSet;

use super::{
    model::{HttpApi, HttpApiKind},
    sam::implicit_name,
};
use crate::template::{
    resources::{Resource, Resources},
    unknown::listed,
    yaml::YamlNode,
};

/// A kind of setting.
struct Setting {
    /// What a note says before and after the names.
    note: [&'static str; 2],
    /// Where it is: a type of resources, and the path of a property. `*` is any key, `Key=value` a text.
    places: &'static [(&'static str, &'static [&'static str])],
}

const SETTINGS: [Setting; 7] = [
    Setting {
        note: ["DisableExecuteApiEndpoint of", "has no effect here"],
        places: &[
            ("AWS::Serverless::Api", &["DisableExecuteApiEndpoint"]),
            ("AWS::Serverless::HttpApi", &["DisableExecuteApiEndpoint"]),
            ("AWS::ApiGateway::RestApi", &["DisableExecuteApiEndpoint"]),
            ("AWS::ApiGatewayV2::Api", &["DisableExecuteApiEndpoint"]),
        ],
    },
    Setting {
        note: ["request validators of", "have no effect here: invalid requests are passed on"],
        places: &[
            ("AWS::ApiGateway::Method", &["RequestValidatorId"]),
            ("AWS::Serverless::Function", &["Events", "*", "Properties", "RequestModel"]),
            ("AWS::Serverless::Api", &["DefinitionBody", "x-amazon-apigateway-request-validator"]),
            ("AWS::Serverless::Api", &["DefinitionBody", "paths", "*", "*", "x-amazon-apigateway-request-validator"]),
            ("AWS::ApiGateway::RestApi", &["Body", "x-amazon-apigateway-request-validator"]),
            ("AWS::ApiGateway::RestApi", &["Body", "paths", "*", "*", "x-amazon-apigateway-request-validator"]),
        ],
    },
    Setting {
        note: ["usage plans", "have no effect here: any API key will do"],
        places: &[("AWS::ApiGateway::UsagePlan", &[]), ("AWS::Serverless::Api", &["Auth", "UsagePlan"])],
    },
    Setting {
        note: ["throttles and caches of the REST APIs' stages", "have no effect here"],
        places: &[
            ("AWS::ApiGateway::Stage", &["MethodSettings"]),
            ("AWS::ApiGateway::Stage", &["CacheClusterEnabled"]),
            ("AWS::ApiGateway::Deployment", &["StageDescription", "MethodSettings"]),
            ("AWS::Serverless::Api", &["MethodSettings"]),
            ("AWS::Serverless::Api", &["CacheClusterEnabled"]),
        ],
    },
    Setting {
        note: ["base paths of", "have no effect here: ask without them"],
        places: &[
            ("AWS::ApiGateway::BasePathMapping", &["BasePath"]),
            ("AWS::ApiGatewayV2::ApiMapping", &["ApiMappingKey"]),
            ("AWS::Serverless::Api", &["Domain", "BasePath"]),
            ("AWS::Serverless::HttpApi", &["Domain", "BasePath"]),
        ],
    },
    Setting {
        note: ["function URLs of", "are not served"],
        places: &[("AWS::Serverless::Function", &["FunctionUrlConfig"]), ("AWS::Lambda::Url", &[])],
    },
    Setting {
        note: ["events of type Api of the state machines", "are not served"],
        places: &[("AWS::Serverless::StateMachine", &["Events", "*", "Type=Api"])],
    },
];

/// The notes of a template with these APIs.
pub(super) fn notes(root: &YamlNode, resources: &Resources<'_>, apis: &[HttpApi]) -> Vec<String> {
    SETTINGS.iter().filter_map(|setting| setting.noted(root, resources, apis)).collect()
}

impl Setting {
    fn noted(&self, root: &YamlNode, resources: &Resources<'_>, apis: &[HttpApi]) -> Option<String> {
        let mut names = BTreeSet::new();
        for (kind, path) in self.places {
            let given = resources.of_type(kind).filter(|resource| has_property(resource, path));
            names.extend(given.map(|resource| resource.logical_id.clone()));
            // The APIs that SAM makes have the properties of `Globals` alone.
            let (name, section) = match *kind {
                "AWS::Serverless::Api" => (implicit_name(HttpApiKind::Rest), "Api"),
                "AWS::Serverless::HttpApi" => (implicit_name(HttpApiKind::Http), "HttpApi"),
                _ => continue,
            };
            let globals = root.get("Globals").and_then(|globals| globals.get(section));
            if apis.iter().any(|api| api.name == name) && globals.is_some_and(|globals| has(globals, path)) {
                names.insert(name.to_owned());
            }
        }
        let [before, after] = self.note;
        (!names.is_empty()).then(|| format!("{before} {} {after}", listed(&names)))
    }
}

fn has_property(resource: &Resource<'_>, path: &[&str]) -> bool {
    match path {
        [] => true,
        [property, rest @ ..] => resource.node(property).is_some_and(|node| has(node, rest)),
    }
}

fn has(node: &YamlNode, path: &[&str]) -> bool {
    let Some((key, rest)) = path.split_first() else { return node.text() != Some("false") };
    match key.split_once('=') {
        Some((key, text)) => node.get(key).and_then(YamlNode::text) == Some(text),
        None if *key == "*" => node.entries().iter().any(|(_, entry)| has(entry, rest)),
        None => node.get(key).is_some_and(|entry| has(entry, rest)),
    }
}

#[cfg(test)]
mod tests {
    use crate::template::{Template, TemplateInputs};

    #[test]
    fn each_kind_of_setting_without_an_effect_is_one_note() {
        let text = r#"
Globals: { Api: { MethodSettings: [{ ThrottlingRateLimit: 1 }] } }
Resources:
  Ws:
    Type: AWS::ApiGatewayV2::Api
    Properties: { ProtocolType: WEBSOCKET, RouteSelectionExpression: $request.body.a }
  Closed: { Type: AWS::Serverless::Api, Properties: { StageName: v1 } }
  Raw:
    Type: AWS::ApiGateway::RestApi
    Properties:
      DisableExecuteApiEndpoint: true
      Body: { paths: { /a: { get: { x-amazon-apigateway-request-validator: all } } } }
  Open: { Type: AWS::Serverless::HttpApi, Properties: { DisableExecuteApiEndpoint: false, Domain: { BasePath: [/b] } } }
  Plan: { Type: AWS::ApiGateway::UsagePlan }
  F: { Type: AWS::Serverless::Function, Properties: { FunctionUrlConfig: { AuthType: NONE } } }
  Machine: { Type: AWS::Serverless::StateMachine, Properties: { Events: { A: { Type: Api }, B: { Type: Schedule } } } }
  Timed: { Type: AWS::Serverless::StateMachine, Properties: { Events: { B: { Type: Schedule } } } }
"#;
        let notes = Template::parse(text, &TemplateInputs::default()).expect("valid").notes;
        for expected in [
            "DisableExecuteApiEndpoint of Raw has no effect here",
            "request validators of Raw have no effect here: invalid requests are passed on",
            "usage plans Plan have no effect here: any API key will do",
            "throttles and caches of the REST APIs' stages Closed have no effect here",
            "base paths of Open have no effect here: ask without them",
            "function URLs of F are not served",
            "events of type Api of the state machines Machine are not served",
        ] {
            assert_eq!(notes.iter().filter(|note| *note == expected).count(), 1, "{expected}: {notes:?}");
        }
        let implicit = |function: &str| {
            let text = format!(
                "Globals: {{ Api: {{ DisableExecuteApiEndpoint: true }}, HttpApi: {{ Domain: {{ BasePath: [/b] }} }} \
                 }}\nResources:\n  Ws: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ \
                 ProtocolType: WEBSOCKET, RouteSelectionExpression: $request.body.a }} }}\n  Own: {{ Type: \
                 AWS::Serverless::Api, Properties: {{ StageName: v1 }} }}\n{function}"
            );
            Template::parse(&text, &TemplateInputs::default()).expect("valid").notes
        };
        let event = "{ Path: /a, Method: get }";
        let notes = implicit(&format!(
            "  F: {{ Type: AWS::Serverless::Function, Properties: {{ Events: {{ A: {{ Type: Api, Properties: {event} \
             }}, B: {{ Type: HttpApi, Properties: {event} }} }} }} }}\n"
        ));
        assert!(notes.iter().any(|note| note.starts_with("base paths of ServerlessHttpApi have")), "{notes:?}");
        assert!(!implicit("").iter().any(|note| note.contains("ServerlessRestApi")), "there is none");
        assert!(
            notes.iter().any(|note| note.starts_with("DisableExecuteApiEndpoint of Own, ServerlessRestApi has")),
            "{notes:?}"
        );
    }
}

//! The service's template as the emulator reads it, and the relations between its limits.

use std::time::Duration;

use apigw_local::{Options, RuleTarget, ScheduleExpression, Template, TemplateInputs, TemplateSource};
use local::Service;
use serde_json::{Value, json};
use shared::limits::{CANARY_CLOSE_MAX, CANARY_TIME_MAX, DISPATCH_GRACE, REDRIVE_VISIBILITY_SECS};

fn scored(source: &str) -> Value {
    json!({"source": source, "detail-type": "Video Went Viral"})
}

#[test]
fn the_project_s_own_template_is_understood() {
    let parameters = TemplateInputs::with_parameters([("ScoreThreshold", "90")]);
    let template = Template::load(&Service::template(), &parameters).expect("our own template");
    let names: Vec<_> = template.functions.keys().map(String::as_str).collect();
    let functions = ["Alerts", "Connect", "Deliver", "Disconnect", "Publish", "Recover", "Subscribe"];
    assert_eq!(names, functions.map(|function| format!("{function}Function")));
    let publish = &template.functions["PublishFunction"];
    assert!(publish.timeout < DISPATCH_GRACE, "recover must not dispatch what publish is about to");
    let queues: Vec<_> = template.queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(queues, ["UnpublishedQueue", "UndeliveredQueue"]);
    let recover = &template.functions["RecoverFunction"];
    assert!(recover.timeout.as_secs() < REDRIVE_VISIBILITY_SECS as u64, "recover must not receive a message twice");
    let [schedule] = template.schedules.as_slice() else { panic!("{:?}", template.schedules) };
    let every = |secs| ScheduleExpression::Rate(Duration::from_secs(secs));
    assert_eq!((schedule.function.as_str(), &schedule.times), ("RecoverFunction", &every(60)));
    assert_eq!(publish.binary.as_deref(), Some("publish"));
    assert_eq!(publish.environment["SCORE_THRESHOLD"], "90");
    assert_eq!(publish.environment["DELIVER_FUNCTION"], "DeliverFunction");
    assert_eq!(template.functions["DeliverFunction"].timeout.as_secs(), 900);
    assert_eq!(template.tables.keys().collect::<Vec<_>>(), ["AlertsTable", "SubscriptionsTable"]);
    let [rule] = template.rules.as_slice() else { panic!("{:?}", template.rules) };
    assert_eq!((rule.bus.as_str(), &rule.target), ("default", &RuleTarget::Function("PublishFunction".to_owned())));
    assert!(rule.pattern.matches(&scored("viral-alerts.scorer.local")));
    assert!(!rule.pattern.matches(&scored("viral-alerts.scorer.next")), "of another stack");
    let takes_back = json!({"source": "viral-alerts.scorer.local", "detail-type": "Remove Alert"});
    assert!(rule.pattern.matches(&takes_back));
    assert_eq!(template.notes, Vec::<String>::new());
}

#[test]
fn the_numbers_of_functions_are_set_by_the_parameters_that_their_errors_name() {
    let numbers = [
        ("ALERTS_PER_MINUTE", "AlertsPerMinute", "7"),
        ("CONNECTIONS_PER_ADDRESS", "ConnectionsPerAddress", "8"),
        ("CONNECTIONS_PER_USER", "ConnectionsPerUser", "9"),
        ("EVENTS_SHARE", "EventsShare", "10"),
        ("MESSAGES_PER_SECOND", "MessagesPerSecond", "11"),
        ("PUSH_RATE", "PushRate", "112.5"),
        ("REGIONS_MAX", "RegionsMax", "13.0"),
        ("REPEAT_RISE", "RepeatRise", "1.4"),
        ("REPEAT_WINDOW", "RepeatWindow", "15"),
        ("SCORE_THRESHOLD", "ScoreThreshold", "16.5"),
    ];
    let parameters = numbers.map(|(_, parameter, value)| (parameter, value));
    let parameters = TemplateInputs::with_parameters(parameters.into_iter().chain([("Delivery", "both")]));
    let template = Template::load(&Service::template(), &parameters).expect("our own template");
    for (variable, parameter, value) in numbers {
        let of_function = |function: &apigw_local::Function| function.environment.get(variable).cloned();
        let set: Vec<String> = template.functions.values().filter_map(of_function).collect();
        assert!(!set.is_empty() && set.iter().all(|set| set == value), "{parameter} does not set {variable}: {set:?}");
    }
}

/// The parameters of type `Number` that set a variable of a function, with their bounds.
fn numbers_of_functions(template: &str) -> Vec<(&str, f64, f64)> {
    let parameters = template.split_once("\nParameters:").and_then(|(_, rest)| rest.split_once("\n\nMappings:"));
    let (parameters, rest) = parameters.expect("parameters, and mappings after them");
    let mut found = Vec::new();
    let mut name = "";
    for (at, line) in parameters.lines().enumerate() {
        if let Some(parameter) = line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) {
            name = parameter.trim_end_matches(':');
        }
        let is_set = || rest.lines().any(|line| line.ends_with(&format!(": !Ref {name}")) && is_variable(line));
        if line == "    Type: Number" && is_set() {
            let bound = |key: &str| {
                let mut own = parameters.lines().skip(at + 1).take_while(|line| line.starts_with("    "));
                let value = own.find_map(|line| line.trim().strip_prefix(key));
                value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} has no {key}"))
            };
            found.push((name, bound("MinValue: "), bound("MaxValue: ")));
        }
    }
    found
}

/// Whether a line of the template sets an environment variable.
fn is_variable(line: &str) -> bool {
    let name = line.trim().split(':').next().unwrap_or_default();
    !name.is_empty() && name.chars().all(|it| it.is_ascii_uppercase() || it == '_')
}

#[tokio::test]
async fn each_number_that_the_template_takes_for_a_function_is_one_that_the_function_starts_with() {
    let TemplateSource::Text { text, .. } = Service::template() else { panic!("a text") };
    let numbers = numbers_of_functions(text);
    assert!(numbers.len() >= 10, "{numbers:?}");
    let start = async |value: &dyn Fn(f64, f64) -> f64| {
        let values = numbers.iter().map(|(name, min, max)| ((*name).to_owned(), value(*min, *max).to_string()));
        let others = [("Delivery", "both"), ("FeedUrl", "https://127.0.0.1:1")];
        let others = others.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let parameters = values.chain(others).collect();
        let options = Options { parameters, ..Options::on_free_ports(Service::template()) };
        Service::start(&options).await.expect("each number is within the bounds of the template")
    };
    for value in [|min, _| min, |min, _| min + 0.3, |_, max| max - 0.3, |_, max| max] {
        start(&value).await.stop().await;
    }
    for (name, min, max) in &numbers {
        for value in [min - 0.3, max + 0.3] {
            let parameters = TemplateInputs::with_parameters([(*name, value.to_string().as_str())]);
            assert!(Template::load(&Service::template(), &parameters).is_err(), "{name} may be {value}");
        }
    }
}

#[test]
fn a_source_of_events_that_a_parameter_names_is_that_of_the_rule_and_of_the_scorer() {
    let parameters = [("ScorerSource", "viral-alerts.scorer"), ("FeedUrl", "https://feed")];
    let parameters = TemplateInputs::with_parameters(parameters);
    let template = Template::load(&Service::template(), &parameters).expect("our own template");
    let [rule] = template.rules.as_slice() else { panic!("{:?}", template.rules) };
    assert!(rule.pattern.matches(&scored("viral-alerts.scorer")));
    assert!(!rule.pattern.matches(&scored("viral-alerts.scorer.local")));
    assert_eq!(template.functions["ScorerFunction"].environment["SCORER_SOURCE"], "viral-alerts.scorer");
}

#[test]
fn the_scorer_is_there_when_a_feed_is() {
    let parameters = TemplateInputs::with_parameters([("FeedUrl", "https://feed")]);
    let template = Template::load(&Service::template(), &parameters).expect("our own template");
    let scorer = &template.functions["ScorerFunction"];
    assert_eq!(scorer.environment["SCORES_TABLE"], "ScoresTable");
    assert_eq!(scorer.environment["SCORE_THRESHOLD"], "85");
    assert_eq!(scorer.environment["SCORER_SOURCE"], "viral-alerts.scorer.local");
    assert!(template.tables.contains_key("ScoresTable"));
    let of_scorer = template.schedules.iter().find(|schedule| schedule.function == "ScorerFunction");
    assert_eq!(of_scorer.expect("a schedule").times, ScheduleExpression::Rate(Duration::from_secs(300)));
}

#[test]
fn the_canary_is_there_when_it_is_switched_on_and_never_meets_itself() {
    let parameters = TemplateInputs::with_parameters([("Canary", "on")]);
    let template = Template::load(&Service::template(), &parameters).expect("our own template");
    let canary = &template.functions["CanaryFunction"];
    assert_eq!(canary.environment["PUBLISH_FUNCTION"], "PublishFunction");
    let address = &canary.environment["SOCKET_URL"];
    assert!(address.starts_with("wss://") && address.ends_with("/prod"), "{address}");
    assert!(
        canary.timeout > CANARY_TIME_MAX + CANARY_CLOSE_MAX,
        "a run must report a missing alert before its timeout"
    );
    let of_canary = template.schedules.iter().find(|schedule| schedule.function == "CanaryFunction");
    let every_minute = Duration::from_secs(60);
    assert_eq!(of_canary.expect("a schedule").times, ScheduleExpression::Rate(every_minute));
    assert!(canary.timeout < every_minute && canary.async_retries == 0);
    assert_eq!(template.notes, Vec::<String>::new());
}

#[test]
fn with_an_event_api_deliver_publishes_there_and_clients_are_told_of_it() {
    let of = |parameters: &[(&'static str, &'static str)]| {
        let parameters = TemplateInputs::with_parameters(parameters.iter().copied());
        Template::load(&Service::template(), &parameters).expect("our own template")
    };
    let template = of(&[("Delivery", "both"), ("EventsShare", "25")]);
    assert!(template.functions.contains_key("AuthorizeFunction"), "AppSync lets in nobody by itself");
    let publish = &template.functions["DeliverFunction"].environment["EVENTS_PUBLISH_URL"];
    assert!(publish.starts_with("https://") && publish.ends_with(".amazonaws.com/event"), "{publish}");
    for function in ["AlertsFunction", "SubscribeFunction"] {
        let environment = &template.functions[function].environment;
        let (url, host) = (&environment["EVENTS_URL"], &environment["EVENTS_HOST"]);
        assert!(url.starts_with("wss://") && url.ends_with(".amazonaws.com/event/realtime"), "{function}: {url}");
        assert_eq!(format!("https://{host}/event"), *publish, "{function}");
        assert_eq!(environment["EVENTS_SHARE"], "25", "{function}");
    }
    // Who subscribes on the Event API is not known.
    let falls_back =
        |template: &Template| template.functions["DeliverFunction"].environment["FALLBACK_TO_EVERYONE"].clone();
    let without = of(&[]);
    assert_eq!([falls_back(&template), falls_back(&without)], ["false", "true"]);
    assert_eq!(template.notes, Vec::<String>::new());
    for (name, function) in &without.functions {
        for variable in ["EVENTS_PUBLISH_URL", "EVENTS_URL", "EVENTS_HOST"] {
            assert!(!function.environment.contains_key(variable), "{name} has {variable}");
        }
    }
}

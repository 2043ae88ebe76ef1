//! The ways in which a publication arrives: by HTTP, over a socket, by event, by invocation, and from the synthetic
//! canary; and those in which one is taken back: by HTTP, by event, and by invocation.

use std::borrow::Cow;

use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};
use shared::{
    auth::access::Regions,
    error::{ApiError, Code},
    limits::CANARY_RUN_BYTES_MAX,
    model::{
        audience::Audience,
        publication::{IdempotencyKey, Publication, PublisherId},
        publications::{Publications, is_of_a_publisher},
    },
    publish::removal::RemovalRequest,
};

/// Headers that may carry the idempotency key, the first that is there counts. HTTP APIs lower-case header names.
const KEY_HEADERS: [&str; 2] = ["idempotency-key", "webhook-id"];

/// The header that carries it where requests are signed: the others are not part of what is signed.
const SIGNED_KEY_HEADERS: [&str; 1] = ["webhook-id"];

/// The route whose requests are signed as webhooks, as the service names it.
const WEBHOOK_ROUTE: &str = "POST /webhook";

/// The field of an invocation by the canary.
const CANARY_FIELD: &str = "canary";

/// The route by which an alert is taken back, as the service names it.
const REMOVAL_ROUTE: &str = "DELETE /alerts/{region}/{seq}";

/// The one parameter of that route.
const EPOCH: &str = "epoch";

/// The type of events that take an alert back.
const REMOVAL_DETAIL_TYPE: &str = "Remove Alert";

/// The field of an invocation that takes an alert back.
const REMOVE: &str = "remove";

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// An HTTP client, through the HTTP API.
    Http,
    /// EventBridge, or whoever invoked the function.
    Invocation,
}

/// A publication, and who asks for it.
#[derive(Debug)]
pub(crate) struct PublishRequest {
    /// Who waits for the answer.
    pub(crate) caller: Caller,
    /// Who publishes.
    pub(crate) publisher: PublisherId,
    /// What is published, or why it cannot be.
    pub(crate) publications: Result<Publications, ApiError>,
}

/// That an alert is to be taken back, and who asks for it.
#[derive(Debug)]
pub(crate) struct RemovalEvent {
    /// Who waits for the answer.
    pub(crate) caller: Caller,
    /// Whose allowance it takes.
    pub(crate) publisher: PublisherId,
    /// Who it is, for the log: an ARN where the request is signed, or the source of the event.
    pub(crate) by: String,
    /// Which alert, or why none can be.
    pub(crate) request: Result<RemovalRequest, ApiError>,
}

/// Reads an event that takes an alert back. None for any other event.
pub(crate) fn removal(event: &Value) -> Option<RemovalEvent> {
    let of_fields = |value: &Value| match value {
        Value::Object(fields) => RemovalRequest::from_fields(fields),
        _ => Err(ApiError::new(Code::NotAnObject, "what is to be removed must be an object with region and seq")),
    };
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    if event.pointer("/requestContext/http").is_some() {
        if text("/requestContext/routeKey") != Some(REMOVAL_ROUTE) {
            return None;
        }
        let part = |name: &str| text(&format!("/pathParameters/{name}")).unwrap_or_default();
        let request = epoch(event).and_then(|epoch| RemovalRequest::of_path(part("region"), part("seq"), epoch));
        return Some(RemovalEvent {
            caller: Caller::Http,
            publisher: http_publisher(event),
            by: text("/requestContext/authorizer/iam/userArn").unwrap_or("unsigned").to_owned(),
            request,
        });
    }
    if event.get("detail-type").is_some() {
        let source = text("/source").unwrap_or_default();
        return (text("/detail-type") == Some(REMOVAL_DETAIL_TYPE)).then(|| RemovalEvent {
            caller: Caller::Invocation,
            publisher: PublisherId::new("event", source),
            by: source.to_owned(),
            request: of_fields(event.get("detail").unwrap_or_default()),
        });
    }
    let remove = event.as_object().and_then(|fields| of_its_own(fields, REMOVE))?;
    Some(RemovalEvent {
        caller: Caller::Invocation,
        publisher: PublisherId::new("invocation", ""),
        by: "invocation".to_owned(),
        request: of_fields(remove),
    })
}

/// The field that says what an invocation is for, unless a publisher wrote it. Beside it may be the id that a redrive
/// adds, and fields of a later form.
fn of_its_own<'a>(fields: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    fields.get(field).filter(|_| !is_of_a_publisher(fields))
}

/// The log that a request names. A misspelt parameter is refused, or an alert would be taken back from any log.
fn epoch(event: &Value) -> Result<Option<&str>, ApiError> {
    let Some(parameters) = event.get("queryStringParameters").and_then(Value::as_object) else { return Ok(None) };
    if let Some(unknown) = parameters.keys().find(|name| *name != EPOCH) {
        return Err(ApiError::of_field(Code::InvalidField, unknown, format!("expected no parameter but {EPOCH}")));
    }
    Ok(parameters.get(EPOCH).and_then(Value::as_str))
}

/// Reads an event of HTTP, of EventBridge, or whatever somebody invoked the function with in the invocation
/// `request_id`.
pub(crate) fn parse(event: Value, request_id: &str) -> PublishRequest {
    if event.pointer("/requestContext/http").is_some() {
        return PublishRequest { caller: Caller::Http, publisher: http_publisher(&event), publications: http(&event) };
    }
    let (publisher, publications) = match event {
        Value::Object(mut fields) if fields.contains_key("detail-type") => {
            let source = fields.get("source").and_then(Value::as_str).unwrap_or_default();
            (PublisherId::new("event", source), eventbridge(&mut fields))
        }
        // Only a direct invocation has this form: neither a request, nor a message, nor an event can.
        Value::Object(fields) => match of_its_own(&fields, CANARY_FIELD) {
            Some(run) => (PublisherId::new("canary", ""), canary(run)),
            None => (PublisherId::new("invocation", ""), invocation(fields, request_id)),
        },
        _ => {
            let refusal = ApiError::new(Code::NotAnObject, "the event must be an object");
            (PublisherId::new("invocation", ""), Err(refusal))
        }
    };
    PublishRequest { caller: Caller::Invocation, publisher, publications }
}

/// Who signed a request, or that somebody did who shares the secret of webhooks. Without a signature, as on a laptop,
/// all are one.
fn http_publisher(event: &Value) -> PublisherId {
    let signer = event.pointer("/requestContext/authorizer/iam/userId").and_then(Value::as_str);
    match signer {
        _ if is_webhook(event) => PublisherId::new("webhook", ""),
        // The id of a role is followed by the name of a session, which anybody may choose who takes the role.
        Some(id) => PublisherId::new("iam", id.split(':').next().unwrap_or_default()),
        None => PublisherId::new("http", ""),
    }
}

/// The message that an event of the WebSocket API is about. None for any other event.
pub(crate) fn message(event: &Value) -> Option<ApiGatewayWebsocketProxyRequest> {
    event.pointer("/requestContext/connectionId")?;
    serde_json::from_value(event.clone()).ok()
}

/// Reads a message of a client that may publish for some regions.
pub(crate) fn socket(body: &str, allowed: &Regions) -> Result<Publication, ApiError> {
    let publication = Publication::from_bytes(body.as_bytes())?;
    allowed.check(&[Audience::Region(publication.region.clone())], "region")?;
    Ok(publication)
}

/// Whether an event is a request that has to be signed.
pub(crate) fn is_webhook(event: &Value) -> bool {
    event.pointer("/requestContext/routeKey").is_some_and(|route| route == WEBHOOK_ROUTE)
}

/// The body of a request, as it was sent.
pub(crate) fn body(event: &Value) -> Result<Cow<'_, [u8]>, ApiError> {
    let text = event.get("body").and_then(Value::as_str).unwrap_or_default();
    if !event.get("isBase64Encoded").and_then(Value::as_bool).unwrap_or_default() {
        return Ok(Cow::Borrowed(text.as_bytes()));
    }
    BASE64_STANDARD.decode(text).map(Cow::Owned).map_err(|error| {
        ApiError::new(Code::BadJson, format!("the body is not the base64 that the event says: {error}"))
    })
}

fn http(event: &Value) -> Result<Publications, ApiError> {
    let mut publications = Publications::from_bytes(&body(event)?)?;
    let header = |name: &&'static str| Some((*name, event.get("headers")?.get(*name)?.as_str()?));
    let names = if is_webhook(event) { &SIGNED_KEY_HEADERS[..] } else { &KEY_HEADERS[..] };
    if let Some((name, key)) = names.iter().find_map(header) {
        let key = IdempotencyKey::parse(key, name)?;
        if let Publications::One(publication) = &mut publications {
            publication.idempotency_key = None;
        }
        publications.name(&key);
    }
    Ok(publications)
}

fn invocation(fields: Map<String, Value>, request_id: &str) -> Result<Publications, ApiError> {
    let mut publications = Publications::from_fields(fields)?;
    // Lambda may run an asynchronous invocation more than once, even one that succeeded; its id stays the same.
    if let Ok(key) = IdempotencyKey::parse(request_id, "request_id") {
        publications.name(&key);
    }
    Ok(publications)
}

fn canary(run: &Value) -> Result<Publications, ApiError> {
    match run.as_str() {
        Some(run) if (1..=CANARY_RUN_BYTES_MAX).contains(&run.len()) => {
            Ok(Publications::One(Publication::of_canary(run)))
        }
        _ => {
            let message = format!("{CANARY_FIELD} must be a string of 1 to {CANARY_RUN_BYTES_MAX} bytes");
            Err(ApiError::of_field(Code::InvalidField, CANARY_FIELD, message))
        }
    }
}

fn eventbridge(event: &mut Map<String, Value>) -> Result<Publications, ApiError> {
    let Some(Value::Object(detail)) = event.remove("detail") else {
        return Err(ApiError::of_field(Code::InvalidField, "detail", "detail must be an object"));
    };
    let mut publications = Publications::from_fields(detail)?;
    // The id of the event itself names a call of PutEvents: a source that repeats a call says so in the detail.
    if let Some(id) = event.get("id").and_then(Value::as_str) {
        publications.name(&IdempotencyKey::parse(id, "id")?);
    }
    Ok(publications)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::forms::FORM;

    use super::*;

    const REQUEST_ID: &str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";

    fn alert() -> Value {
        json!({"region": "pl", "id": "from-body", "video": {"id": "v", "title": "t", "thumbnail": "", "score": 90}})
    }

    fn key(event: Value) -> (Caller, Option<String>) {
        let PublishRequest { caller, publications, .. } = parse(event, REQUEST_ID);
        let Ok(Publications::One(publication)) = publications else { panic!("one: {publications:?}") };
        (caller, publication.idempotency_key.map(|key| key.as_str().to_owned()))
    }

    fn http_event(headers: Value, body: &str, base64: bool) -> Value {
        let context = json!({"http": {"method": "POST"}});
        json!({
            "version": "2.0",
            "headers": headers,
            "requestContext": context,
            "body": body,
            "isBase64Encoded": base64,
        })
    }

    #[test]
    fn the_idempotency_key_comes_from_the_first_place_that_has_one() {
        let body = alert().to_string();
        let from = |headers| key(http_event(headers, &body, false)).1.expect("a key");
        assert_eq!(from(json!({"idempotency-key": "a", "webhook-id": "b"})), "a");
        assert_eq!(from(json!({"webhook-id": "b"})), "b");
        assert_eq!(from(json!({})), "from-body");
        let event =
            |detail| json!({"version": "0", "id": "event-1", "detail-type": "v", "source": "s", "detail": detail});
        assert_eq!(key(event(alert())), (Caller::Invocation, Some("from-body".to_owned())));
        let mut unnamed = alert();
        unnamed.as_object_mut().expect("an object").remove("id");
        assert_eq!(key(event(unnamed)), (Caller::Invocation, Some("event-1".to_owned())));
        assert_eq!(key(alert()), (Caller::Invocation, Some("from-body".to_owned())));
        let mut unnamed = alert();
        unnamed.as_object_mut().expect("an object").remove("id");
        assert_eq!(key(unnamed), (Caller::Invocation, Some(REQUEST_ID.to_owned())));
    }

    #[test]
    fn several_have_their_own_ids_or_a_key_of_their_place_under_that_of_the_request() {
        let mut unnamed = alert();
        unnamed.as_object_mut().expect("an object").remove("id");
        let envelope = json!({"publications": [unnamed, alert()]});
        let keys = |event| {
            let Ok(Publications::Several(list)) = parse(event, REQUEST_ID).publications else { panic!("several") };
            let key = |one: Result<Publication, ApiError>| one.expect("valid").idempotency_key;
            list.into_iter().map(|one| key(one).expect("a key").as_str().to_owned()).collect::<Vec<_>>()
        };
        let body = envelope.to_string();
        assert_eq!(keys(http_event(json!({"idempotency-key": "a"}), &body, false)), ["a/0", "from-body"]);
        let event = json!({"id": "e", "detail-type": "v", "source": "s", "detail": envelope});
        assert_eq!(keys(event), ["e/0", "from-body"]);
        assert_eq!(keys(envelope), [format!("{REQUEST_ID}/0"), "from-body".to_owned()]);
    }

    #[test]
    fn of_a_signed_request_only_a_signed_header_is_the_key() {
        let mut event = http_event(json!({"idempotency-key": "a", "webhook-id": "b"}), &alert().to_string(), false);
        event["requestContext"]["routeKey"] = json!("POST /webhook");
        assert!(is_webhook(&event));
        assert_eq!(key(event).1.as_deref(), Some("b"));
    }

    #[test]
    fn publishers_are_told_apart_by_who_signs_and_by_the_source_of_events() {
        let publisher = |event| parse(event, REQUEST_ID).publisher;
        let signed = |id: &str| {
            let mut event = http_event(json!({}), "{}", false);
            event["requestContext"]["authorizer"] = json!({"iam": {"userId": id}});
            event
        };
        assert_eq!(publisher(signed("AROA1:monday")), publisher(signed("AROA1:tuesday")));
        assert_ne!(publisher(signed("AROA1:monday")), publisher(signed("AROA2:monday")));
        let mut webhook = signed("AROA1");
        webhook["requestContext"]["routeKey"] = json!("POST /webhook");
        assert_eq!(publisher(webhook), PublisherId::new("webhook", ""));
        let event = |source| json!({"detail-type": "v", "source": source, "detail": {}});
        assert_ne!(publisher(event("a")), publisher(event("b")));
        assert_eq!(publisher(http_event(json!({}), "{}", false)), PublisherId::new("http", ""));
    }

    #[test]
    fn an_alert_is_taken_back_by_a_route_an_event_or_an_invocation_and_the_log_is_told_by_whom() {
        let read = |event: Value| {
            let RemovalEvent { caller, publisher, by, request } = removal(&event).expect("a removal");
            (caller, publisher, by, request.map_err(|refusal| (refusal.code, refusal.field)))
        };
        let pl = |epoch| Ok(RemovalRequest { region: "PL".parse().expect("a region"), seq: 7, epoch });
        let mut http = http_event(json!({}), "", false);
        http["requestContext"]["routeKey"] = json!("DELETE /alerts/{region}/{seq}");
        http["pathParameters"] = json!({"region": "pl", "seq": "7"});
        let nobody = (Caller::Http, PublisherId::new("http", ""), "unsigned".to_owned(), pl(None));
        assert_eq!(read(http.clone()), nobody);
        http["requestContext"]["authorizer"] =
            json!({"iam": {"userId": "AROA1:ola", "userArn": "arn:aws:sts::1:assumed-role/r/ola"}});
        http["queryStringParameters"] = json!({"epoch": "9"});
        let ola = "arn:aws:sts::1:assumed-role/r/ola".to_owned();
        assert_eq!(read(http.clone()), (Caller::Http, PublisherId::new("iam", "AROA1"), ola, pl(Some(9))));
        http["pathParameters"]["seq"] = json!("x");
        assert_eq!(read(http.clone()).3, Err((Code::InvalidField, Some("seq".to_owned()))));
        http["pathParameters"]["seq"] = json!("7");
        for misspelt in ["Epoch", "epcoh", "epoch[]"] {
            http["queryStringParameters"] = json!({misspelt: "9"});
            assert_eq!(read(http.clone()).3, Err((Code::InvalidField, Some(misspelt.to_owned()))));
        }

        let event = |detail| json!({"detail-type": "Remove Alert", "source": "desk", "detail": detail});
        let desk = (Caller::Invocation, PublisherId::new("event", "desk"), "desk".to_owned());
        let (caller, publisher, by) = desk;
        assert_eq!(read(event(json!({"region": "PL", "seq": 7}))), (caller, publisher, by, pl(None)));
        assert_eq!(read(event(json!(7))).3, Err((Code::NotAnObject, None)));
        let (_, publisher, by, request) = read(json!({"remove": {"region": "PL", "seq": 7, "epoch": 9}}));
        assert_eq!(
            (publisher, by, request),
            (PublisherId::new("invocation", ""), "invocation".to_owned(), pl(Some(9)))
        );
        // As recover invokes publish again, and with a field of a later form.
        let redriven = json!({"remove": {"region": "PL", "seq": 7, "later": 1}, "id": "r-1", "later": 1});
        assert_eq!(read(redriven).3, pl(None));
        for other in [
            http_event(json!({}), &json!({"remove": {"region": "PL", "seq": 7}}).to_string(), false),
            json!({"detail-type": "Video Went Viral", "source": "s", "detail": {"remove": {"region": "PL", "seq": 7}}}),
            alert(),
        ] {
            assert!(removal(&other).is_none(), "{other}");
        }
        // The bridge invokes publish with what somebody wrote into a channel.
        for field in [json!({"region": "PL", "seq": 7}), json!(true), Value::Null] {
            let mut publication = alert();
            publication["remove"] = field;
            assert!(removal(&publication).is_none(), "{publication}");
            assert!(matches!(parse(publication, REQUEST_ID).publications, Ok(Publications::One(_))));
        }
    }

    #[test]
    fn a_client_publishes_only_for_the_regions_that_it_may_publish_for() {
        let body = r#"{"type":"publish","region":"pl","video":{"id":"v","title":"t","thumbnail":"","score":90}}"#;
        let read = |patterns: &str| socket(body, &patterns.parse().expect("patterns"));
        assert_eq!(read("P*").expect("allowed").region.as_str(), "PL");
        assert_eq!(read("DE").expect_err("not allowed").code, Code::Forbidden);
        assert_eq!(socket(body, &Regions::none()).expect_err("not allowed").field.as_deref(), Some("region"));
        assert!(message(&json!({"requestContext": {"http": {}}})).is_none());
    }

    #[test]
    fn only_an_invocation_of_its_own_form_publishes_to_the_region_of_the_canary() {
        let run = json!({"canary": "run-1"});
        let Ok(Publications::One(publication)) = parse(run.clone(), REQUEST_ID).publications else { panic!("one") };
        assert_eq!((publication.region.as_str(), publication.video.id()), ("X-CANARY", "run-1"));
        let mut named = alert();
        named["region"] = json!("x-canary");
        let event = |detail: &Value| json!({"id": "e", "detail-type": "v", "source": "s", "detail": detail});
        let with = |event: &Value, field: &str, value: Value| {
            let mut event = event.clone();
            event[field] = value;
            event
        };
        for event in [
            named.clone(),
            with(&named, "canary", json!("run-1")),
            json!({"canary": "run-1", "event": "new_trending"}),
            json!({"canary": ""}),
            json!({"canary": 7}),
            event(&run),
            event(&named),
            http_event(json!({}), &run.to_string(), false),
            http_event(json!({}), &named.to_string(), false),
        ] {
            assert!(parse(event.clone(), REQUEST_ID).publications.is_err(), "{event}");
        }
        assert!(socket(&run.to_string(), &Regions::all()).is_err());
        assert_eq!(socket(&named.to_string(), &Regions::all()).expect_err("reserved").code, Code::InvalidRegion);
    }

    /// Adds to every object what a later form may add.
    fn add(value: &mut Value) {
        if let Value::Object(fields) = value {
            fields.iter_mut().filter(|(name, _)| *name != "video").for_each(|(_, value)| add(value));
            fields.insert(FORM.to_owned(), json!(2));
        }
    }

    #[test]
    fn what_other_functions_send_is_read_from_the_golden_files_and_from_a_form_2_that_adds_a_field() {
        let golden = |text: &str| serde_json::from_str::<Value>(text).expect("a golden file");
        let announcements = golden(include_str!("../../../shared/forms/announcement.1.json"));
        let run = golden(include_str!("../../../shared/forms/canary_run.1.json"))["run"].clone();
        for added in [false, true] {
            let one = |mut event: Value| {
                if added {
                    add(&mut event);
                }
                let PublishRequest { publisher, publications, .. } = parse(event, REQUEST_ID);
                let Ok(Publications::One(publication)) = publications else { panic!("one: {publications:?}") };
                (publisher, publication)
            };
            for (name, title) in [("everything", "Ż"), ("least", "t")] {
                let detail = &announcements[name];
                let event = json!({"id": "e", "detail-type": "Video Went Viral", "source": "s", "detail": detail});
                let (publisher, Publication { region, video, score, idempotency_key, at, repeat_window }) = one(event);
                assert_eq!(publisher, PublisherId::new("event", "s"));
                assert_eq!((region.as_str(), video.title(), at, repeat_window), ("PL", title, None, None));
                assert_eq!((json!(video), json!(score)), (detail["video"].clone(), detail["video"]["score"].clone()));
                assert_eq!(json!(idempotency_key.expect("its id").as_str()), detail["id"]);
            }
            let (publisher, publication) = one(run.clone());
            assert_eq!((publisher, publication), (PublisherId::new("canary", ""), Publication::of_canary("run-1")));
        }
    }

    #[test]
    fn a_body_in_base64_is_decoded() {
        let encoded = BASE64_STANDARD.encode(alert().to_string());
        assert_eq!(key(http_event(json!({}), &encoded, true)).0, Caller::Http);
    }

    #[test]
    fn bad_events_are_refused() {
        let code = |event| parse(event, REQUEST_ID).publications.expect_err("bad").code;
        assert_eq!(code(json!([])), Code::NotAnObject);
        assert_eq!(code(json!({"detail-type": "x"})), Code::InvalidField);
        assert_eq!(code(http_event(json!({}), "%", true)), Code::BadJson);
        assert_eq!(code(http_event(json!({}), "\u{fffd}", false)), Code::BadJson);
        assert_eq!(code(http_event(json!({"webhook-id": ""}), &alert().to_string(), false)), Code::InvalidField);
        assert_eq!(code(json!({"requestContext": {"http": {}}})), Code::BadJson);
    }
}

//! Query and headers of a request.

use shared::{
    auth::{access::Regions, token},
    error::{ApiError, Code},
    limits::{ALERTS_PER_PAGE_MAX, REGIONS_PER_MESSAGE_MAX},
    model::{
        audience::{Audience, InvalidRegion},
        position::InvalidCursor,
    },
    replay::paging::Begin,
};

use crate::Event;

/// The parameters that exist.
const PARAMETERS: [&str; 4] = ["region", "after", "limit", "token"];

/// A request, valid in itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AlertsRequest {
    pub(crate) audiences: Vec<Audience>,
    pub(crate) begin: Begin,
    /// Alerts, 1 to [`ALERTS_PER_PAGE_MAX`].
    pub(crate) limit: usize,
    pub(crate) form: Form,
    /// The header `If-None-Match`.
    pub(crate) if_none_match: Option<String>,
}

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    EventStream,
}

/// The token of a request, if there is one; the header wins.
pub(crate) fn token(event: &Event) -> Option<&str> {
    let header = event.headers.get("authorization").and_then(|header| token::of_authorization(header));
    header.or_else(|| token::of_parameter(event.query_string_parameters.get("token")?))
}

/// Reads a request of somebody who may have `regions`.
pub(crate) fn parse(event: &Event, regions: &Regions) -> Result<AlertsRequest, ApiError> {
    let parameters = &event.query_string_parameters;
    if let Some(unknown) = parameters.keys().find(|name| !PARAMETERS.contains(&name.as_str())) {
        let message = format!("this parameter does not exist, there are {}", PARAMETERS.join(", "));
        return Err(ApiError::of_field(Code::InvalidField, unknown, message));
    }
    let region = parameters.get("region");
    let audiences =
        audiences(region.ok_or_else(|| ApiError::of_field(Code::MissingField, "region", "region is missing"))?)?;
    regions.check(&audiences, "region")?;
    let form = form(event);
    let last_event_id = event.headers.get("last-event-id").filter(|id| form == Form::EventStream && !id.is_empty());
    let begin = match (last_event_id, parameters.get("after"), form) {
        (Some(id), ..) => after(id, "last-event-id", &audiences)?,
        (None, Some(text), _) => after(text, "after", &audiences)?,
        (None, None, Form::EventStream) => Begin::Head,
        (None, None, Form::Json) => Begin::Newest,
    };
    let limit = parameters.get("limit").map_or(Ok(ALERTS_PER_PAGE_MAX), |text| limit(text))?;
    Ok(AlertsRequest { audiences, begin, limit, form, if_none_match: event.headers.get("if-none-match").cloned() })
}

fn audiences(text: &str) -> Result<Vec<Audience>, ApiError> {
    let mut audiences = Vec::new();
    for name in text.split(',') {
        let audience = name
            .parse()
            .map_err(|error: InvalidRegion| ApiError::of_field(Code::InvalidRegion, "region", error.to_string()))?;
        if !audiences.contains(&audience) {
            audiences.push(audience);
        }
    }
    if audiences.len() > REGIONS_PER_MESSAGE_MAX {
        let message = format!("region may name at most {REGIONS_PER_MESSAGE_MAX} regions, or ALL");
        return Err(ApiError::of_field(Code::InvalidField, "region", message));
    }
    Ok(audiences)
}

/// A cursor, or the number of an alert where one region is asked for.
fn after(text: &str, field: &str, audiences: &[Audience]) -> Result<Begin, ApiError> {
    if let Some(seq) = digits(text) {
        return match audiences {
            [Audience::Region(_)] => Ok(Begin::Seq(seq)),
            _ => Err(ApiError::of_field(Code::InvalidField, field, "with several regions or ALL, a cursor is needed")),
        };
    }
    let cursor = text.parse();
    cursor
        .map(Begin::After)
        .map_err(|error: InvalidCursor| ApiError::of_field(Code::InvalidField, field, error.to_string()))
}

fn limit(text: &str) -> Result<usize, ApiError> {
    let limit = digits(text).and_then(|limit| usize::try_from(limit).ok());
    limit.filter(|limit| (1..=ALERTS_PER_PAGE_MAX).contains(limit)).ok_or_else(|| {
        ApiError::of_field(Code::InvalidField, "limit", format!("limit is a number from 1 to {ALERTS_PER_PAGE_MAX}"))
    })
}

/// A number of digits alone; the parser of numbers also takes a sign.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn media_type(range: &str) -> String {
    range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// In which form the client takes an answer.
pub(crate) fn form(event: &Event) -> Form {
    let accept = event.headers.get("accept").map(String::as_str).unwrap_or_default();
    let takes_events = accept.split(',').any(|range| media_type(range) == "text/event-stream");
    if takes_events { Form::EventStream } else { Form::Json }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(parameters: &[(&str, &str)], headers: &[(&str, &str)]) -> Result<AlertsRequest, ApiError> {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        parse(&Event { headers: owned(headers), query_string_parameters: owned(parameters) }, &Regions::all())
    }

    #[test]
    fn a_token_is_taken_from_the_header_before_the_address() {
        let token_of = |headers: &[(&str, &str)], parameters: &[(&str, &str)]| {
            let owned = |pairs: &[(&str, &str)]| {
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
            };
            let event = Event { headers: owned(headers), query_string_parameters: owned(parameters) };
            token(&event).map(str::to_owned)
        };
        let (bearer, basic, query) = (("authorization", "bearer a"), ("authorization", "Basic b"), ("token", "c"));
        assert_eq!(token_of(&[bearer], &[query]).as_deref(), Some("a"));
        assert_eq!(token_of(&[basic], &[query]).as_deref(), Some("c"));
        assert_eq!(token_of(&[], &[query]).as_deref(), Some("c"));
        assert_eq!(token_of(&[basic], &[]), None);
        assert_eq!(token_of(&[("authorization", "Bearer ")], &[query]).as_deref(), Some("c"));
        assert_eq!(token_of(&[], &[("token", "")]), None);
    }

    #[test]
    fn a_request_begins_where_it_says() {
        let from = |parameters: &[(&str, &str)], headers: &[(&str, &str)]| {
            request(&[parameters, &[("region", "PL")]].concat(), headers).expect("valid").begin
        };
        let cursor = |text: &str| Begin::After(text.parse().expect("a cursor"));
        let stream = ("accept", "text/html, Text/Event-Stream;q=0.9");
        assert_eq!(from(&[], &[]), Begin::Newest);
        assert_eq!(from(&[("after", "41")], &[]), Begin::Seq(41));
        assert_eq!(from(&[("after", "PL.9.41")], &[]), cursor("PL.9.41"));
        assert_eq!(from(&[], &[stream]), Begin::Head);
        assert_eq!(from(&[("after", "PL.9.41")], &[stream, ("last-event-id", "PL.9.43")]), cursor("PL.9.43"));
        assert_eq!(from(&[("after", "PL.9.41")], &[stream, ("last-event-id", "")]), cursor("PL.9.41"));
        assert_eq!(from(&[("after", "PL.9.41")], &[("last-event-id", "PL.9.43")]), cursor("PL.9.41"));
    }

    #[test]
    fn each_mistake_has_its_code_and_field() {
        let check = |parameters: &[(&str, &str)], code: Code, field: &str| {
            let refusal = request(parameters, &[]).expect_err("must be refused");
            assert_eq!((refusal.code, refusal.field.as_deref()), (code, Some(field)), "{parameters:?}");
        };
        let many: Vec<String> = (0..=REGIONS_PER_MESSAGE_MAX).map(|n| format!("R{n}")).collect();
        let many = many.join(",");
        check(&[], Code::MissingField, "region");
        check(&[("region", "")], Code::InvalidRegion, "region");
        check(&[("region", "PL,")], Code::InvalidRegion, "region");
        check(&[("region", "@regions")], Code::InvalidRegion, "region");
        check(&[("region", &many)], Code::InvalidField, "region");
        check(&[("region", "PL"), ("since", "1")], Code::InvalidField, "since");
        for after in ["", "-1", "1.5", "PL", "PL.1", "18446744073709551616", "41,42"] {
            check(&[("region", "PL"), ("after", after)], Code::InvalidField, "after");
        }
        check(&[("region", "PL,DE"), ("after", "41")], Code::InvalidField, "after");
        check(&[("region", "ALL"), ("after", "0")], Code::InvalidField, "after");
        for limit in ["", "0", "101", "+1", "x", "10,10"] {
            check(&[("region", "PL"), ("limit", limit)], Code::InvalidField, "limit");
        }
        let headers = [("accept", "text/event-stream"), ("last-event-id", "x")];
        let refusal = request(&[("region", "PL")], &headers).expect_err("must be refused");
        assert_eq!(refusal.field.as_deref(), Some("last-event-id"));
    }
}

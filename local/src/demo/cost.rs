//! What a month costs, for the chart of the page: the figures of `cargo run -p cost`.

use apigw_local::{Body, json_response};
use cost::{DEFAULT_REGION, Estimate, MINUTES_A_DAY_MAX, UnknownRegion, Usage};
use hyper::{Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::json;

/// A query that nothing can be reckoned from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum QueryError {
    #[error("{name} is a whole number from {min} to {max}, not {text:?}")]
    Number { name: &'static str, min: u32, max: u32, text: String },
    #[error("there is no parameter {0:?}; clients, minutes, alerts, published and region are")]
    Parameter(String),
    #[error(transparent)]
    Region(#[from] UnknownRegion),
}

/// Answers `/cost` with an [`Estimate`]. What the query does not name is as the command has it.
pub(super) fn answer(query: &str) -> Response<Body> {
    match estimate(query) {
        Ok(estimate) => json_response(StatusCode::OK, &json!(estimate)),
        Err(refusal) => json_response(StatusCode::BAD_REQUEST, &json!({"message": refusal.to_string()})),
    }
}

fn estimate(query: &str) -> Result<Estimate, QueryError> {
    let (mut usage, mut region) = (Usage::DEFAULT, DEFAULT_REGION.to_owned());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let text = percent_decode_str(text).decode_utf8_lossy();
        match name {
            "clients" => usage.clients = number("clients", &text, 0, u32::MAX)?,
            "minutes" => usage.minutes_a_day = number("minutes", &text, 1, MINUTES_A_DAY_MAX)?,
            "alerts" => usage.alerts_a_day = number("alerts", &text, 0, u32::MAX)?,
            "published" => usage.published_a_day = number("published", &text, 0, u32::MAX)?,
            "region" => region = text.into_owned(),
            _ => return Err(QueryError::Parameter(name.to_owned())),
        }
    }
    Ok(Estimate::new(usage, &region)?)
}

fn number<T>(name: &'static str, text: &str, min: T, max: T) -> Result<T, QueryError>
where
    T: std::str::FromStr + PartialOrd + Copy + Into<u32>,
{
    let refusal = || QueryError::Number { name, min: min.into(), max: max.into(), text: text.to_owned() };
    text.parse().ok().filter(|number| (min..=max).contains(number)).ok_or_else(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_reckoned_as_the_command_reckons_it() {
        let named = Usage { clients: 100_000, minutes_a_day: 1_440, alerts_a_day: 0, published_a_day: 7 };
        let named = Estimate::new(named, "us-east-1").expect("known");
        let query = "clients=100000&minutes=1440&alerts=0&published=7&region=us%2Deast-1";
        assert_eq!(estimate(query), Ok(named));
        let default = Estimate::new(Usage::DEFAULT, DEFAULT_REGION).expect("known");
        assert_eq!(estimate(""), Ok(default.clone()));
        assert_eq!(estimate("&"), Ok(default));
    }

    #[test]
    fn what_cannot_be_reckoned_is_refused_with_its_name_and_bounds() {
        for (query, expected) in [
            ("minutes=0", "minutes is a whole number from 1 to 1440, not \"0\""),
            ("minutes=1441", "minutes is a whole number from 1 to 1440, not \"1441\""),
            ("clients=", "clients is a whole number from 0 to 4294967295, not \"\""),
            ("clients", "clients is a whole number from 0 to 4294967295, not \"\""),
            ("clients=4294967296", "clients is a whole number from 0 to 4294967295, not \"4294967296\""),
            ("alerts=1.5", "alerts is a whole number from 0 to 4294967295, not \"1.5\""),
            ("published=-1", "published is a whole number from 0 to 4294967295, not \"-1\""),
            ("client=1", "there is no parameter \"client\"; clients, minutes, alerts, published and region are"),
            ("region=eu-central-1", "infra/cost/prices.json has no prices for eu-central-1, only for us-east-1"),
        ] {
            let refusal = estimate(query).expect_err(query).to_string();
            assert!(refusal.starts_with(expected), "{query}: {refusal}");
        }
    }
}

//! Costs per month for the chart of the page, the same as from `cargo run -p cost`.

use apigw_local::{Body, json_response};
use cost::{DEFAULT_REGION, Estimate, MINUTES_A_DAY_MAX, UnknownRegion, Usage};
use hyper::{Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::json;

/// A query without a valid usage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum QueryError {
    #[error("invalid {name} {text:?}: expected a whole number from {min} to {max}")]
    Number { name: &'static str, min: u32, max: u32, text: String },
    #[error("unknown parameter {0:?}: expected clients, minutes, alerts, published or region")]
    Parameter(String),
    #[error(transparent)]
    Region(#[from] UnknownRegion),
}

/// Responds to `/cost` with an [`Estimate`]. The query has the parameters and defaults of the command.
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
    fn a_query_has_the_costs_that_the_command_prints() {
        let named = Usage { clients: 100_000, minutes_a_day: 1_440, alerts_a_day: 0, published_a_day: 7 };
        let named = Estimate::new(named, "us-east-1").expect("known");
        let query = "clients=100000&minutes=1440&alerts=0&published=7&region=us%2Deast-1";
        assert_eq!(estimate(query), Ok(named));
        let default = Estimate::new(Usage::DEFAULT, DEFAULT_REGION).expect("known");
        assert_eq!(estimate(""), Ok(default.clone()));
        assert_eq!(estimate("&"), Ok(default));
    }

    #[test]
    fn an_invalid_query_is_refused_with_its_name_and_bounds() {
        for (query, expected) in [
            ("minutes=0", "invalid minutes \"0\": expected a whole number from 1 to 1440"),
            ("minutes=1441", "invalid minutes \"1441\": expected a whole number from 1 to 1440"),
            ("clients=", "invalid clients \"\": expected a whole number from 0 to 4294967295"),
            ("clients", "invalid clients \"\": expected a whole number from 0 to 4294967295"),
            ("clients=4294967296", "invalid clients \"4294967296\": expected a whole number from 0 to 4294967295"),
            ("alerts=1.5", "invalid alerts \"1.5\": expected a whole number from 0 to 4294967295"),
            ("published=-1", "invalid published \"-1\": expected a whole number from 0 to 4294967295"),
            ("client=1", "unknown parameter \"client\": expected clients, minutes, alerts, published or region"),
            ("region=eu-central-1", "infra/cost/prices.json has no prices for eu-central-1, only for us-east-1"),
        ] {
            let refusal = estimate(query).expect_err(query).to_string();
            assert!(refusal.starts_with(expected), "{query}: {refusal}");
        }
    }
}

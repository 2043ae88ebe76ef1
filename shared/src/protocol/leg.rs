//! What clients are told of the Event API, so that traffic moves between it and the WebSocket API without a release of
//! pages.

use serde::Serialize;

use crate::{
    limits::{EVENTS_ADDRESS_BYTES_MAX, EVENTS_SHARE_DEFAULT, PERCENT_MAX},
    runtime::environment::Reader,
};

/// Where the Event API is, and for how many clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventsLeg {
    /// Address of its WebSocket.
    url: String,
    /// Host name of its HTTP endpoint, which clients name in their authorization.
    host: String,
    /// Percentage of clients that use it: those that drew a number below it, from 0 to 99.
    share: u8,
}

impl EventsLeg {
    /// The Event API that a function's environment names, if it names one.
    pub fn from_env(environment: &mut Reader<'_>) -> Option<Self> {
        let url: String = environment.parsed("EVENTS_URL", String::new());
        let host: String = environment.parsed("EVENTS_HOST", String::new());
        let share = environment.whole_number("EVENTS_SHARE", EVENTS_SHARE_DEFAULT, 0..=PERCENT_MAX);
        if url.is_empty() && host.is_empty() {
            return None;
        }
        let is_address = url.starts_with("wss://") || url.starts_with("ws://");
        let is_short = url.len() <= EVENTS_ADDRESS_BYTES_MAX && host.len() <= EVENTS_ADDRESS_BYTES_MAX;
        if !is_address || !is_short || host.is_empty() {
            environment.problem(format!(
                "EVENTS_URL and EVENTS_HOST cannot be used: expected an address that begins with wss:// and a host \
                 name, each of at most {EVENTS_ADDRESS_BYTES_MAX} bytes; found {url:?} and {host:?}"
            ));
            return None;
        }
        Some(Self { url, host, share })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::environment::Environment;

    fn leg(variables: &[(&str, &str)]) -> Result<Option<EventsLeg>, String> {
        let environment: Environment =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut reader = environment.reader();
        let leg = EventsLeg::from_env(&mut reader);
        reader.finish(leg).map_err(|error| error.to_string())
    }

    /// With the longest names.
    pub(crate) fn longest() -> EventsLeg {
        let url = format!("wss://{}", "r".repeat(EVENTS_ADDRESS_BYTES_MAX - "wss://".len()));
        let host = "h".repeat(EVENTS_ADDRESS_BYTES_MAX);
        leg(&[("EVENTS_URL", &url), ("EVENTS_HOST", &host)]).expect("valid").expect("a leg")
    }

    #[test]
    fn clients_are_told_of_an_event_api_only_where_there_is_one() {
        let (url, host) = ("wss://a.appsync-realtime-api.eu-central-1.amazonaws.com/event/realtime", "a.appsync-api");
        let told = leg(&[("EVENTS_URL", url), ("EVENTS_HOST", host), ("EVENTS_SHARE", "25")]).expect("valid");
        assert_eq!(json!(told), json!({"url": url, "host": host, "share": 25}));
        assert_eq!(leg(&[("EVENTS_SHARE", "100")]), Ok(None));
        let local = leg(&[("EVENTS_URL", "ws://127.0.0.1:1/event/realtime"), ("EVENTS_HOST", host)]).expect("valid");
        assert_eq!(json!(local)["share"], 100);
        for wrong in [
            &[("EVENTS_URL", url)][..],
            &[("EVENTS_HOST", host)],
            &[("EVENTS_URL", "https://a"), ("EVENTS_HOST", host)],
            &[("EVENTS_URL", url), ("EVENTS_HOST", &"h".repeat(EVENTS_ADDRESS_BYTES_MAX + 1))],
        ] {
            assert!(leg(wrong).expect_err("must be refused").contains("EVENTS_"), "{wrong:?}");
        }
        for share in ["101", "x", "100.5"] {
            let refused = leg(&[("EVENTS_URL", url), ("EVENTS_HOST", host), ("EVENTS_SHARE", share)]);
            let message = refused.expect_err("must be refused");
            let expected = "set the parameter EventsShare to a number from 0 to 100";
            assert!(message.ends_with(expected) && !message.contains("wss://"), "{message}");
        }
    }
}

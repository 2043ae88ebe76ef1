//! API Gateway's HTTP API.

use std::{sync::Arc, time::Duration};

use rand::RngExt;
use serde_json::{Value, json};

use crate::cloud::{Cloud, FunctionName, InvocationError, Situation, gateway::WAY_MS};

impl Cloud {
    /// A request to the HTTP API: the status and the body of the answer. The status of a function that failed is 500.
    pub async fn request(
        self: &Arc<Self>,
        function: FunctionName,
        lane: &str,
        route: &str,
        request: Value,
    ) -> (u16, Value) {
        let (status, body) = self.request_text(function, lane, route, request).await;
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    /// The same, with the body as it came.
    pub async fn request_text(
        self: &Arc<Self>,
        function: FunctionName,
        lane: &str,
        route: &str,
        request: Value,
    ) -> (u16, String) {
        self.pass(lane, WAY_MS).await;
        let has_token = request["headers"]["authorization"].is_string();
        let mut event = request;
        event["version"] = json!("2.0");
        event["routeKey"] = json!(route);
        let (method, path) = route.split_once(' ').unwrap_or_default();
        event["requestContext"] = json!({
            "routeKey": route, "http": {"method": method, "path": path, "sourceIp": "192.0.2.9"},
            "authorizer": {"iam": {"userArn": format!("arn:aws:iam::1:user/{lane}"), "userId": lane}},
        });
        event["isBase64Encoded"] = json!(false);
        let id = format!("{lane}-{}", self.draw(lane, |random| random.random::<u32>()));
        let (answer, _) = self.invoke(function, event.to_string().into_bytes(), id).await;
        self.pass(lane, WAY_MS).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.fails(route, &error);
                return (500, String::new());
            }
        };
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let status = answer["statusCode"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(500);
        let body = answer["body"].as_str().unwrap_or_default().to_owned();
        if function == FunctionName::Alerts {
            self.note_read(has_token, status, &body);
        }
        (status, body)
    }

    /// Guarantee 8: in a calm world no function fails.
    pub(super) fn fails(&self, what: &str, error: &InvocationError) {
        if self.is_calm_for(Duration::from_secs(10)) {
            self.breaks(8, format!("{what} fails in a calm world: {error}"));
        }
    }

    /// Notes what somebody who reads the log was answered.
    fn note_read(&self, has_token: bool, status: u16, body: &str) {
        match status {
            200 => self.reaches(if has_token { Situation::ReadWithToken } else { Situation::ReadWithoutToken }),
            401 | 403 => self.reaches(Situation::ReadRefused),
            _ => {}
        }
        if body.contains("\"more\":true") {
            self.reaches(Situation::Paged);
        }
        if body.contains("\"not_recovered\":[\"") {
            self.reaches(Situation::LeftOut);
        }
    }
}

//! What is answered, so that it can be checked: messages of clients, and events that nobody waits for.

use serde_json::Value;

use crate::cloud::{Cloud, Situation, lock};

/// What a message of a kind is answered with where it is carried out. Source: docs/protocol.md, "Messages".
fn answer_of(kind: Option<&str>) -> &'static str {
    match kind {
        Some("subscribe_region") => "subscribed",
        Some("unsubscribe_region") => "unsubscribed",
        Some("keepalive") => "kept",
        Some("count") => "count",
        Some("echo") => "response",
        Some("publish") => "published",
        _ => "error",
    }
}

impl Cloud {
    /// Guarantee 2: a message that a function has handled is answered, as the protocol says.
    pub(super) fn check_answer(&self, id: &str, message: &Value, answer: Option<&str>) {
        let kind = message["type"].as_str();
        let Some(answer) = answer else {
            return self.breaks(2, format!("{id} sends {message}, and is not answered"));
        };
        let answer: Value = serde_json::from_str(answer).unwrap_or_default();
        if answer["type"] == "error" {
            return;
        }
        let is_whole = match kind {
            _ if answer["type"] != answer_of(kind) => false,
            Some("subscribe_region") => {
                let is_recovery = answer["recovered"].is_boolean() && answer["alerts"].is_array();
                answer["positions"].is_object() && (message["since"].is_null() || is_recovery)
            }
            _ => true,
        };
        if !is_whole {
            self.breaks(2, format!("{id} sends {message}, and is answered {answer}"));
        }
        if answer["not_recovered"].is_array() {
            self.reaches(Situation::LeftOut);
        }
    }

    /// Notes what publish has answered to an event.
    pub(super) fn event_is_answered(&self, event: &[u8], answer: &[u8]) {
        self.reaches(Situation::EventAnswered);
        let read = |bytes| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
        lock(&self.answered).push((read(event), read(answer)));
    }

    /// Publications that came by event or by invocation, and their answers: the id of the video, and the answer. Those
    /// of one document are told apart.
    pub fn answered(&self) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        for (event, answer) in lock(&self.answered).iter() {
            let document = if event["detail"].is_object() { &event["detail"] } else { event };
            let of = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or(vec![value.clone()]);
            for (publication, answer) in of(document, "publications").iter().zip(of(answer, "results")) {
                if let Some(video) = publication["video"]["id"].as_str() {
                    all.push((video.to_owned(), answer));
                }
            }
        }
        all
    }
}

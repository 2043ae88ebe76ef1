//! Messages in a room. They reach the connections that are in it, and no log keeps them.

use clock::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    limits::{CHAT_AGE_MAX, TYPING_AGE_MAX},
    model::{audience::Room, id::new_id},
};

/// A frame on its way to all who are in a room, the one who speaks included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoomMessage {
    pub id: String,
    pub room: Room,
    /// The text of the frame.
    pub frame: String,
    /// When the message is too old to deliver.
    pub until: Timestamp,
}

/// What somebody says, as the client sent it and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRequest {
    /// Where. None for the room that the connection joined first.
    pub room: Option<Room>,
    /// Under which name, as far as the message says it.
    pub user: Option<String>,
    /// The text, or none while it is still being typed.
    pub message: Option<String>,
}

impl RoomRequest {
    /// The frame for all in `room`. It names the room only where the one who speaks did: clients that know of one room
    /// get no field that they do not know.
    pub fn room_message(&self, room: &Room, now: Timestamp) -> RoomMessage {
        let kind = if self.message.is_some() { "chat" } else { "typing" };
        let mut frame = json!({"type": kind});
        if self.room.is_some() {
            frame["room"] = json!(room.name());
        }
        if let Some(user) = &self.user {
            frame["user"] = json!(user);
        }
        if let Some(message) = &self.message {
            frame["message"] = json!(message);
            frame["timestamp"] = Value::String(now.rfc3339());
        }
        RoomMessage {
            id: new_id(now),
            room: room.clone(),
            frame: frame.to_string(),
            until: now.after(if self.message.is_some() { CHAT_AGE_MAX } else { TYPING_AGE_MAX }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_exactly_the_fields_of_the_reference_and_the_room_where_it_was_named() {
        let now = Timestamp::from_millis(1_795_000_000_000);
        let room: Room = "general".parse().expect("a room");
        let chat = RoomRequest { room: None, user: Some("Ola".to_owned()), message: Some("Cześć \"x\"".to_owned()) };
        let message = chat.room_message(&room, now);
        assert_eq!(
            message.frame,
            r#"{"type":"chat","user":"Ola","message":"Cześć \"x\"","timestamp":"2026-11-18T11:06:40.000Z"}"#
        );
        assert_eq!((message.room.name(), message.until), ("general", now.after(CHAT_AGE_MAX)));
        let typing = RoomRequest { room: Some(room.clone()), message: None, ..chat };
        let message = typing.room_message(&room, now);
        assert_eq!(message.frame, r#"{"type":"typing","room":"general","user":"Ola"}"#);
        assert_eq!(message.until, now.after(TYPING_AGE_MAX));
        let text = serde_json::to_string(&message).expect("a text");
        assert_eq!(serde_json::from_str::<RoomMessage>(&text).expect("its own form"), message);
    }
}

//! What the inspector does with a socket.

use std::sync::Arc;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{api::EventApis, frames};
use crate::gateway::SendError;

impl EventApis {
    /// Handles a text as a message of the client, whose answer the client gets.
    pub(crate) fn receive(&self, id: &str, text: Utf8Bytes) -> Result<(), SendError> {
        let (api, session) = self.open(id)?;
        session.connection.note_received(self.shared.clock.now());
        self.shared.recorder.resent(id, &text);
        let api = Arc::clone(api);
        self.shared.tasks.spawn(async move {
            let answer = frames::answer(api, Arc::clone(&session), text).await;
            // A client that is gone gets none.
            let _ = session.connection.queue(answer.text.into());
        });
        Ok(())
    }

    /// Sends a text to the client.
    pub(crate) fn push(&self, id: &str, text: Utf8Bytes) -> Result<(), SendError> {
        self.open(id)?.1.connection.queue(text)
    }

    /// Closes a socket with 1000.
    pub(crate) fn close(&self, id: &str) -> Result<(), SendError> {
        self.open(id)?.1.connection.close();
        Ok(())
    }
}

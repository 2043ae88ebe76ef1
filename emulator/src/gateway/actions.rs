//! Actions of the inspector on a connection.

use std::sync::Arc;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{api::Gateway, connections::Connection, outbound::SendError};

impl Gateway {
    /// Handles a text as if the client had sent it.
    pub(crate) fn receive(self: &Arc<Self>, id: &str, text: Utf8Bytes) -> Result<(), SendError> {
        let connection = self.open(id)?;
        connection.note_received(self.clock.now());
        self.recorder.resent(id, &text);
        self.tasks.spawn(Arc::clone(self).message(connection, text));
        Ok(())
    }

    /// Sends a text to the client, as a post to the management API does.
    pub(crate) fn push(&self, id: &str, text: Utf8Bytes) -> Result<(), SendError> {
        self.send(&*self.open(id)?, text)
    }

    /// Closes the connection, as DELETE in the management API does.
    pub(crate) fn close(&self, id: &str) -> Result<(), SendError> {
        self.close_connection(&*self.open(id)?);
        Ok(())
    }

    /// Closes a connection: nothing finds it from here on, and a client that reads gets a close frame.
    pub(super) fn close_connection(&self, connection: &Connection) {
        self.connections.remove(&connection.id);
        connection.close();
    }

    fn open(&self, id: &str) -> Result<Arc<Connection>, SendError> {
        self.connections.get(id).ok_or(SendError::Gone)
    }
}

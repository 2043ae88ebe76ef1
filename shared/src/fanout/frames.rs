//! The frames of what is delivered, encoded once.

use crate::{fanout::content::Content, model::alert::Format, push::Frame};

/// What is posted to whom, encoded once.
pub(super) struct Frames {
    viral_alert: Frame,
    new_trending: Frame,
}

impl Frames {
    /// The frames of what is delivered; of an alert they say whether it goes to everyone.
    pub(super) fn of(content: &Content, everyone: bool) -> Self {
        match content {
            Content::Alert(alert) => Self {
                viral_alert: Frame::new(alert.pushed(Format::ViralAlert, everyone)),
                new_trending: Frame::new(alert.pushed(Format::NewTrending, everyone)),
            },
            // The second has no reader.
            Content::Removal(removal) => {
                let frame = Frame::new(removal.frame());
                Self { viral_alert: frame.clone(), new_trending: frame }
            }
            Content::RoomMessage(message) => {
                let frame = Frame::new(message.frame.clone());
                Self { viral_alert: frame.clone(), new_trending: frame }
            }
        }
    }

    pub(super) fn of_format(&self, format: Format) -> &Frame {
        match format {
            Format::ViralAlert => &self.viral_alert,
            Format::NewTrending => &self.new_trending,
        }
    }
}

//! Channels of the Event API (AWS AppSync Events), on which alerts are published beside the WebSocket API.
//!
//! Source: AppSync Events developer guide, "Channel namespaces" and "WebSocket protocol": a channel has segments of
//! letters, digits and inner hyphens, and a client may subscribe to `*` in place of the last ones.

use crate::model::audience::{Audience, Region};

/// The first segment of every channel.
pub const NAMESPACE: &str = "alerts";

/// The channel of a region's alerts, such as `/alerts/PL`. `None` for a region that has none: that of the canary,
/// whose alerts a subscription to every channel would receive, and one whose name ends with a hyphen, as no segment
/// may.
pub fn of_region(region: &Region) -> Option<String> {
    let has_channel = !region.is_canary() && !region.as_str().ends_with('-');
    has_channel.then(|| format!("/{NAMESPACE}/{region}"))
}

/// Whose alerts a subscription to a channel receives: those of one region, or `ALL` for `/alerts/*`. `None` for a
/// channel on which nothing is ever published, such as one in lower case. AppSync lets clients leave out the first
/// slash.
pub fn audience(channel: &str) -> Option<Audience> {
    let (namespace, name) = channel.strip_prefix('/').unwrap_or(channel).split_once('/')?;
    if namespace != NAMESPACE {
        return None;
    }
    if name == "*" {
        return Some(Audience::All);
    }
    let region: Region = name.parse().ok()?;
    let is_its_channel = region.as_str() == name && of_region(&region).is_some();
    is_its_channel.then_some(Audience::Region(region))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::audience::CANARY;

    #[test]
    fn a_region_has_one_channel_and_every_channel_means_its_region() {
        let region = |name: &str| name.parse::<Region>().expect(name);
        for name in ["PL", "PL-MUSIC", "A234567890123456"] {
            let channel = of_region(&region(name)).expect(name);
            assert_eq!(channel, format!("/alerts/{name}"));
            assert_eq!(audience(&channel), Some(Audience::Region(region(name))));
            assert_eq!(audience(&channel[1..]), Some(Audience::Region(region(name))));
        }
        assert_eq!(audience("/alerts/*"), Some(Audience::All));
        for name in [CANARY, "PL-"] {
            assert_eq!(of_region(&region(name)), None, "{name}");
        }
    }

    #[test]
    fn a_channel_on_which_nothing_is_published_is_nobodys() {
        let strange =
            ["", "/", "*", "/*", "/alerts", "/alerts/", "/alerts/pl", "/alerts/ALL", "/alerts/P*", "/alerts/PL-"];
        let others =
            ["/alerts/X-CANARY", "/alerts/PL/*", "/alerts/PL/", "//alerts/PL", "/alerts/ PL", "/Alerts/PL", "/x/*"];
        for channel in strange.into_iter().chain(others) {
            assert_eq!(audience(channel), None, "{channel}");
        }
    }
}

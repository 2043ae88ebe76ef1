//! Channels of an Event API, and patterns of subscriptions.
//!
//! Source: AppSync developer guide, "Understanding channel namespaces".

use super::{
    error::{EventError, Refused},
    limits::SEGMENTS_MAX,
};
use crate::template::is_channel_segment;

/// A channel: one to five segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Channel(Vec<String>);

/// What a subscription names: a channel, or with `*` at its end all channels below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    segments: Vec<String>,
    is_wildcard: bool,
}

impl Channel {
    /// Reads the channel of a publish.
    pub(super) fn parse(text: &str) -> Result<Self, EventError> {
        segments(text)
            .filter(|segments| segments.iter().all(|segment| is_channel_segment(segment)))
            .map(Self)
            .ok_or_else(|| EventError::new(Refused::BadRequest, "Invalid Channel Format"))
    }

    /// Its first segment.
    pub(super) fn namespace(&self) -> &str {
        self.0.first().map(String::as_str).unwrap_or_default()
    }

    /// With a slash before each segment.
    pub(super) fn path(&self) -> String {
        path(&self.0)
    }

    /// The keys of all patterns that match it.
    pub(super) fn patterns(&self) -> impl Iterator<Item = String> {
        let above = (1..self.0.len()).map(|length| format!("{}/*", path(&self.0[..length])));
        std::iter::once(self.path()).chain(above)
    }
}

impl Pattern {
    /// Reads the channel of a subscription. A wildcard needs a namespace before it.
    pub(super) fn parse(text: &str) -> Result<Self, EventError> {
        let refused = || EventError::new(Refused::BadRequest, "Invalid Channel Format");
        let mut segments = segments(text).ok_or_else(refused)?;
        let is_wildcard = segments.len() > 1 && segments.last().is_some_and(|last| last == "*");
        if is_wildcard {
            segments.pop();
        }
        let is_valid = segments.iter().all(|segment| is_channel_segment(segment));
        if is_valid { Ok(Self { segments, is_wildcard }) } else { Err(refused()) }
    }

    /// Its first segment.
    pub(super) fn namespace(&self) -> &str {
        self.segments.first().map(String::as_str).unwrap_or_default()
    }

    /// With a slash before each segment, and the wildcard as it is. The same for all texts that mean the same.
    pub(super) fn key(&self) -> String {
        format!("{}{}", path(&self.segments), if self.is_wildcard { "/*" } else { "" })
    }
}

/// The segments of a text, which may begin and end with a slash. `None` if there are none or too many.
fn segments(text: &str) -> Option<Vec<String>> {
    let text = text.strip_prefix('/').unwrap_or(text);
    let text = text.strip_suffix('/').unwrap_or(text);
    let segments: Vec<String> = text.split('/').take(SEGMENTS_MAX + 1).map(str::to_owned).collect();
    (segments.len() <= SEGMENTS_MAX).then_some(segments)
}

fn path(segments: &[String]) -> String {
    segments.iter().flat_map(|segment| ["/", segment]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_channel_has_one_to_five_segments_and_slashes_around_it_mean_nothing() {
        for text in ["/a/b", "a/b", "/a/b/"] {
            assert_eq!(Channel::parse(text).map(|channel| channel.path()).as_deref(), Ok("/a/b"), "{text}");
        }
        let longest = format!("/{}", "x".repeat(50));
        assert!(Channel::parse(&longest.repeat(5)).is_ok());
        let six = longest.repeat(6);
        for text in ["", "/", "//", "/a//b", "/a/*", "/a_b", "/a.b", "/-a", "/a-", "/ą", &six, &format!("{longest}x")]
        {
            assert_eq!(Channel::parse(text).expect_err(text).refused, Refused::BadRequest);
        }
    }

    #[test]
    fn a_wildcard_stands_at_the_end_and_matches_all_levels_below_it() {
        let matches = |pattern: &str, channel: &str| {
            let pattern = Pattern::parse(pattern).expect(pattern).key();
            Channel::parse(channel).expect(channel).patterns().any(|key| key == pattern)
        };
        for (pattern, channel, expected) in [
            ("/a/*", "/a/x", true),
            ("a/*/", "/a/x/y", true),
            ("/a/x/*", "/a/x/y/z", true),
            ("/a/x", "a/x", true),
            ("/a/*", "/a", false),
            ("/a/*", "/b/x", false),
            ("/a/*", "/A/x", false),
            ("/a/x/*", "/a/x", false),
            ("/a/x", "/a/x/y", false),
        ] {
            assert_eq!(matches(pattern, channel), expected, "{pattern} {channel}");
        }
        for text in ["/*", "*", "/a/*/b", "/*/a", "/a/b*", "/a/**", "/a/b/c/d/e/*"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
        assert!(Pattern::parse("/a/b/c/d/*").is_ok());
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_its_segments_say(
            pattern in "/[ab](/[ab]){0,4}(/\\*)?",
            channel in "/?[ab](/[ab]){0,4}/?",
        ) {
            let Ok(parsed) = Pattern::parse(&pattern) else { return Ok(()) };
            let found = Channel::parse(&channel).expect("valid").patterns().any(|key| key == parsed.key());
            let own: Vec<&str> = channel.trim_matches('/').split('/').collect();
            let wanted: Vec<&str> = pattern.trim_matches('/').split('/').collect();
            let expected = match wanted.split_last() {
                Some((&"*", above)) => own.len() > above.len() && own.starts_with(above),
                _ => own == wanted,
            };
            prop_assert_eq!(found, expected, "{} {}", pattern, channel);
        }

        #[test]
        fn any_text_is_read_or_refused_and_its_normal_form_is_stable(text in "[/*a-c_-]{0,40}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                prop_assert_eq!(Pattern::parse(&pattern.key()), Ok(pattern));
            }
            if let Ok(channel) = Channel::parse(&text) {
                prop_assert_eq!(Channel::parse(&channel.path()), Ok(channel));
            }
        }
    }
}

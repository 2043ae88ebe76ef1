//! Host names in the cloud that stand for an address on this machine.

/// A host name in the cloud, and what is here in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalHost {
    pub(crate) cloud: String,
    /// A host with its port, and a path if there is one.
    pub(crate) here: String,
    /// Whether it is reached over TLS here too.
    pub(crate) is_secured: bool,
}

impl LocalHost {
    /// Replaces the name in a variable, with a scheme of TLS or alone.
    pub(super) fn localised(&self, value: &str) -> String {
        let Self { cloud, here, is_secured } = self;
        if *is_secured || !value.contains(cloud.as_str()) {
            return value.replace(cloud, here);
        }
        [("https://", "http://"), ("wss://", "ws://"), ("", "")]
            .iter()
            .fold(value.to_owned(), |value, (secure, plain)| {
                value.replace(&format!("{secure}{cloud}"), &format!("{plain}{here}"))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_here_with_its_scheme_or_without() {
        let cloud = "x.appsync-api.r.amazonaws.com";
        let host = LocalHost { cloud: cloud.to_owned(), here: "127.0.0.1:8766/Api".to_owned(), is_secured: false };
        for (value, expected) in [
            (format!("https://{cloud}/event"), "http://127.0.0.1:8766/Api/event"),
            (format!("wss://{cloud}/event/realtime"), "ws://127.0.0.1:8766/Api/event/realtime"),
            (format!("{cloud},{cloud}"), "127.0.0.1:8766/Api,127.0.0.1:8766/Api"),
            ("https://y.appsync-api.r.amazonaws.com".to_owned(), "https://y.appsync-api.r.amazonaws.com"),
        ] {
            assert_eq!(host.localised(&value), expected);
        }
        let host = LocalHost { is_secured: true, ..host };
        let expected = "wss://127.0.0.1:8766/Api/event/realtime";
        assert_eq!(host.localised(&format!("wss://{cloud}/event/realtime")), expected);
    }
}

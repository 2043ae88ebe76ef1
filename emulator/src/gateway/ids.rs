//! Ids in the form of API Gateway's: 16 characters, URL-safe base64 of 11 bytes with one `=`.
//!
//! Source: recorded events, such as the fixtures of `aws_lambda_events`.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::{Engine, prelude::BASE64_URL_SAFE};
use clock::Timestamp;

const ID_CHARS: usize = 16;

/// What an id names. Real ids of one kind have the same character at one place.
#[derive(Clone, Copy, Debug)]
pub(super) enum IdKind {
    /// A connection or a message.
    Connection,
    /// A request.
    Request,
}

/// Makes an id that is unique in this process. Like real ids, they are ordered by time.
pub(super) fn new(kind: IdKind, now: Timestamp) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut bytes = [0; 11];
    bytes[..5].copy_from_slice(&now.millis().to_be_bytes()[3..]);
    bytes[5..8].copy_from_slice(&count.to_be_bytes()[5..]);
    bytes[9..].copy_from_slice(&rand::random::<[u8; 2]>());
    let mut id = BASE64_URL_SAFE.encode(bytes);
    let marker = match kind {
        IdKind::Connection => "C",
        IdKind::Request => "F",
    };
    id.replace_range(11..12, marker);
    id
}

/// Makes the id of a connection.
pub(crate) fn new_connection_id(now: Timestamp) -> String {
    new(IdKind::Connection, now)
}

/// Makes the id of a request.
pub(crate) fn new_request_id(now: Timestamp) -> String {
    new(IdKind::Request, now)
}

/// Returns whether a text has the form of a connection id.
pub(super) fn is_well_formed(id: &str) -> bool {
    id.len() == ID_CHARS
        && id.ends_with('=')
        && id[..ID_CHARS - 1].bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_have_the_real_form_and_are_unique() {
        let now = Timestamp::from_millis(1_795_000_000_000);
        let ids: BTreeSet<String> = (0..100_000).map(|_| new(IdKind::Connection, now)).collect();
        assert_eq!(ids.len(), 100_000);
        assert!(ids.iter().all(|id| is_well_formed(id) && &id[11..12] == "C"));
        for recorded in ["eHrdFcnvvHcCE-w=", "JC1dgf9yoAMCK-g=", "TXzPWdnOjoECGjA="] {
            assert!(is_well_formed(recorded));
        }
        for malformed in ["", "XXX", "eHrdFcnvvHcCE-w", "eHrdFcnvvHcCE+w=", "ééééééé="] {
            assert!(!is_well_formed(malformed), "{malformed}");
        }
    }
}

//! Ids that are made here.

use clock::Timestamp;
use uuid::{NoContext, Uuid};

/// A new id of the moment: a UUID of version 7, so ids of later milliseconds are greater.
pub(crate) fn new_id(now: Timestamp) -> String {
    let secs = u64::try_from(now.secs()).unwrap_or_default();
    let nanos = u32::try_from(now.millis().rem_euclid(1_000) * 1_000_000).unwrap_or_default();
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, secs, nanos)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_of_its_moment_and_of_no_other_one() {
        let now = Timestamp::from_millis(1_795_000_000_123);
        let ids = [new_id(now), new_id(now)];
        assert_ne!(ids[0], ids[1]);
        for id in ids {
            let (secs, nanos) = Uuid::parse_str(&id).expect("a UUID").get_timestamp().expect("a time").to_unix();
            assert_eq!((secs, nanos), (1_795_000_000, 123_000_000));
        }
    }
}

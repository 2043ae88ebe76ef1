//! How a fan-out is divided: how large the audience is, how many workers that takes, and which part of the ring each
//! gets.

use crate::{
    limits::{PUSH_RATE_USED, SHARE_MIN, WORKERS_MAX},
    model::connection::SlotRange,
};

/// Estimates the size of an audience from its first page: `read` members up to the hash `last`. Hashes are uniform, so
/// the page is a sample; with 1,000 members the estimate is within some percent.
pub(super) fn estimate(read: usize, last: u32) -> u64 {
    let covered = u64::from(last) + 1;
    let estimate = read as f64 * SlotRange::WHOLE.size() as f64 / covered as f64;
    // Far below the bound of u64: a page has at most thousands of members.
    (estimate.round() as u64).max(read as u64)
}

/// Returns the number of workers for an audience, if one makes `worker_rate` posts per second. They are as many as
/// reach it within a second, but no more than use up `push_rate`, and no more than leave each a rate of [`SHARE_MIN`].
pub(super) fn workers(audience: u64, push_rate: f64, worker_rate: f64) -> usize {
    let to_be_done_in_a_second = (audience as f64 / worker_rate).ceil();
    let to_use_the_rate = (push_rate * PUSH_RATE_USED / worker_rate).ceil();
    let worth_it = (push_rate * PUSH_RATE_USED / SHARE_MIN).floor();
    // Clamped before it is converted, so nothing is cut off.
    to_be_done_in_a_second.min(to_use_the_rate).min(worth_it).clamp(1.0, WORKERS_MAX as f64) as usize
}

/// Returns the rate of each worker, in posts per second: its share of what may be used of `push_rate`.
pub(super) fn share(push_rate: f64, workers: usize) -> f64 {
    push_rate * PUSH_RATE_USED / workers.max(1) as f64
}

/// Returns the whole ring in the order in which it is reached: first what was read already, which is its beginning,
/// then the rest from a place that `start` chooses.
pub(super) fn order(read: Option<SlotRange>, start: u32) -> Vec<SlotRange> {
    let rest_first = read.map_or(0, |read| u64::from(read.last) + 1);
    let rest = SlotRange::WHOLE.size() - rest_first;
    let start = rest_first + ((u64::from(start) * rest) >> u32::BITS);
    let range = |from: u64, to: u64| {
        // Both within the ring, so that they fit.
        (from < to).then(|| SlotRange { first: from as u32, last: (to - 1) as u32 })
    };
    [range(0, rest_first), range(start, rest_first + rest), range(rest_first, start)].into_iter().flatten().collect()
}

/// Ranges cut into `parts` of equal size, each in the order in which they were.
pub(super) fn split(ranges: &[SlotRange], parts: usize) -> Vec<Vec<SlotRange>> {
    let size: u64 = ranges.iter().map(|range| range.size()).sum();
    let parts = parts.max(1) as u64;
    (0..parts)
        .map(|part| {
            let (from, to) = (size * part / parts, size * (part + 1) / parts);
            let mut before = 0;
            let cut = |range: &SlotRange| {
                let (begin, end) = (before, before + range.size());
                before = end;
                let (from, to) = (from.clamp(begin, end) - begin, to.clamp(begin, end) - begin);
                // Both within the range, so that they fit.
                (from < to).then(|| SlotRange { first: range.first + from as u32, last: range.first + (to - 1) as u32 })
            };
            ranges.iter().filter_map(cut).collect()
        })
        .collect()
}

/// Returns what is left of `ranges` from the hash `from` on, which is in one of them.
pub(super) fn rest(ranges: &[SlotRange], from: u32) -> Vec<SlotRange> {
    let at = ranges.iter().position(|range| range.contains(from)).unwrap_or_default();
    let current = ranges.get(at).map(|range| SlotRange { first: from.max(range.first), last: range.last });
    current.into_iter().chain(ranges.iter().skip(at + 1).copied()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::{HANDOVER_BEFORE, INVOCATION_DEPTH_MAX, WORKER_RATE};

    #[test]
    fn small_audiences_take_one_worker_and_none_takes_more_than_use_the_rate() {
        let table = [
            (0, 10_000.0, 1),
            (1, 10_000.0, 1),
            (5_000, 10_000.0, 1),
            (5_001, 10_000.0, 2),
            (1_000_000, 10_000.0, 2),
            (1_000_000, 2_500.0, 1),
            (1_000_000, 100_000.0, 19),
            (u64::MAX, 1e9, WORKERS_MAX),
        ];
        for (audience, rate, expected) in table {
            assert_eq!(workers(audience, rate, WORKER_RATE), expected, "{audience} at {rate}/s");
        }
    }

    #[test]
    fn a_chain_of_invocations_stays_far_from_where_lambda_stops_it() {
        // One invocation is the publisher's, the first of deliver divides, and each handover adds one.
        let usable = 900.0 - HANDOVER_BEFORE.as_secs_f64();
        for (audience, rate) in [(10_000_000, 10_000.0), (10_000_000, 2_500.0), (20_000_000, 2_500.0)] {
            let workers = workers(audience, rate, WORKER_RATE);
            let seconds = audience as f64 / workers as f64 / share(rate, workers);
            let chain = 2 + (seconds / usable).ceil() as u32;
            assert!(chain <= INVOCATION_DEPTH_MAX, "{audience} at {rate}/s: {chain} in a row");
        }
    }

    proptest! {
        #[test]
        fn the_parts_of_a_ring_cover_it_once_and_are_equal(
            read: Option<u32>,
            start: u32,
            parts in 1_usize..70,
            hashes in prop::collection::vec(any::<u32>(), 20),
        ) {
            let read = read.map(|last| SlotRange { first: 0, last });
            let split = split(&order(read, start), parts);
            prop_assert_eq!(split.len(), parts);
            let sizes: Vec<u64> = split.iter().map(|ranges| ranges.iter().map(|range| range.size()).sum()).collect();
            prop_assert_eq!(sizes.iter().sum::<u64>(), SlotRange::WHOLE.size());
            prop_assert!(sizes.iter().max().expect("parts") - sizes.iter().min().expect("parts") <= 1);
            for hash in hashes.into_iter().chain([0, u32::MAX, start]) {
                let within = split.iter().flatten().filter(|range| range.contains(hash)).count();
                prop_assert_eq!(within, 1, "{}", hash);
            }
        }

        #[test]
        fn what_was_read_comes_first_and_the_rest_begins_anywhere(last in 0..u32::MAX, start: u32) {
            let read = SlotRange { first: 0, last };
            let order = order(Some(read), start);
            prop_assert_eq!(order[0], read);
            prop_assert!(order[1].first > last && order[1].last == u32::MAX);
            let third = order.get(2).map(|range| (range.first, range.last + 1));
            prop_assert_eq!(third, (order[1].first > last + 1).then(|| (last + 1, order[1].first)));
        }

        #[test]
        fn the_rest_of_a_part_begins_where_it_is_told(
            start: u32,
            parts in 1_usize..10,
            part: prop::sample::Index,
            at: prop::sample::Index,
        ) {
            let split = split(&order(None, start), parts);
            let ranges = &split[part.index(parts)];
            let range = ranges[at.index(ranges.len())];
            let from = range.first + (range.size() / 2) as u32;
            let rest = rest(ranges, from);
            prop_assert_eq!(rest[0], SlotRange { first: from, last: range.last });
            let behind: Vec<_> = ranges.iter().skip_while(|other| **other != range).skip(1).copied().collect();
            prop_assert_eq!(&rest[1..], behind.as_slice());
        }

        #[test]
        fn a_page_tells_the_size_of_a_uniform_audience(size in 2_000_u32..2_000_000) {
            // Hashes as even as they can be, which is what uniform ones are on average.
            let step = u64::from(u32::MAX) / u64::from(size);
            let estimate = estimate(1_000, (step * 999) as u32);
            prop_assert!(estimate.abs_diff(u64::from(size)) <= u64::from(size) / 50, "{} for {}", estimate, size);
        }
    }
}

//! The assumptions of the simulation, with unit and origin, as `docs/scale.md` lists them.

use std::time::Duration;

/// An account's quota for calls of the management API: per second, and the burst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quota {
    pub(crate) per_second: f64,
    pub(crate) burst: f64,
}

/// In newer regions. Source: API Gateway quotas.
pub(crate) const QUOTA_NEWER: Quota = Quota { per_second: 2_500.0, burst: 1_250.0 };

/// In most regions. Source: API Gateway quotas.
pub(crate) const QUOTA_DEFAULT: Quota = Quota { per_second: 10_000.0, burst: 5_000.0 };

/// Raised by AWS on request. Assumed, to find the limits of the design.
pub(crate) const QUOTA_RAISED: Quota = Quota { per_second: 100_000.0, burst: 50_000.0 };

/// CPU of a worker for one push: signing, HTTP and TLS, and its share of reading the audience. Assumed: a signed post
/// on loopback without TLS takes 11 to 14 µs (`docs/performance.md`), and TLS and a slower processor cost more.
pub(crate) const WORKER_CPU_PER_PUSH: Duration = Duration::from_micros(50);

/// Time of an accepted post in milliseconds, evenly spread on a logarithmic scale. Assumed.
pub(crate) const POST_MS: (f64, f64) = (8.0, 30.0);

/// Time of a slow post in milliseconds, and the probability of one. Assumed.
pub(crate) const POST_TAIL_MS: (f64, f64) = (100.0, 500.0);
/// See [`POST_TAIL_MS`].
pub(crate) const POST_TAIL: f64 = 0.01;

/// Probability that the gateway answers 500. Assumed.
pub(crate) const POST_FAILS: f64 = 0.000_1;

/// Time of a throttled post. Assumed.
pub(crate) const REFUSAL_MS: f64 = 4.0;

/// One connection in this many is gone without a `$disconnect`. Assumed.
pub(crate) const GONE_EVERY: u32 = 100;

/// Time of a consistent query of 1,000 items, in milliseconds. Assumed.
pub(crate) const PAGE_MS: (f64, f64) = (10.0, 30.0);

/// Size of an item of the subscriptions table, in bytes: names and values as DynamoDB counts them, with a region of two
/// letters and a connection id of 16.
pub(crate) const ITEM_BYTES: usize = 113;

/// Unit in which consistent reads are counted, in bytes. Source: DynamoDB.
pub(crate) const READ_UNIT_BYTES: usize = 4_096;

/// Time of the call by which a worker starts another, in milliseconds. Assumed.
pub(crate) const INVOKE_MS: (f64, f64) = (10.0, 30.0);

/// Time from that call to the handler in a warm environment, in milliseconds. Assumed.
pub(crate) const QUEUE_MS: (f64, f64) = (50.0, 150.0);

/// Time that a new environment adds: 100 ms for its creation, assumed, and 20 ms for the start of the process (8 ms,
/// measured) and its first connections. Every invocation gets a new one.
pub(crate) const COLD_START: Duration = Duration::from_millis(120);

/// `Timeout` of deliver in the template.
pub(crate) const INVOCATION_LIMIT: Duration = Duration::from_secs(900);

/// `MemorySize` of deliver in the template, in GB.
pub(crate) const WORKER_GB: f64 = 1_769.0 / 1_024.0;

/// Pauses of Lambda before each attempt of an asynchronous invocation, in seconds. Source: Lambda developer guide.
pub(crate) const REPEATED_AFTER: [u64; 3] = [0, 60, 120];

/// Removing one connection that is gone: a query and its part of a batch of deletes, eight at a time. Assumed.
pub(crate) const REMOVAL: Duration = Duration::from_millis(2);

/// The same in units: an eventually consistent query of an index, and two items deleted from table and index.
pub(crate) const REMOVAL_UNITS: (f64, f64) = (0.5, 4.0);

/// Dollars, US East, as in `docs/cost.md`: per message, GB-second on arm64, request, read unit and write unit.
pub(crate) const MESSAGE_DOLLARS: f64 = 1.0e-6;
/// See [`MESSAGE_DOLLARS`].
pub(crate) const GB_SECOND_DOLLARS: f64 = 0.000_013_333_4;
/// See [`MESSAGE_DOLLARS`].
pub(crate) const REQUEST_DOLLARS: f64 = 0.2e-6;
/// See [`MESSAGE_DOLLARS`].
pub(crate) const READ_UNIT_DOLLARS: f64 = 0.125e-6;
/// See [`MESSAGE_DOLLARS`].
pub(crate) const WRITE_UNIT_DOLLARS: f64 = 0.625e-6;

//! Every bound of the system, with its unit and where it comes from.

use std::time::Duration;

/// Largest WebSocket frame, and the unit in which API Gateway bills messages. One alert always fits in one frame.
/// Source: API Gateway quotas.
pub const FRAME_BYTES_MAX: usize = 32 * 1024;

/// Largest body that publish reads. Twice a frame: white space and escapes may go before the alert has to fit in one.
pub const PUBLISH_BODY_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

/// Longest idempotency key, in bytes. Long enough for a URL or two UUIDs; a DynamoDB key holds 2,048.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Shortest region name, in bytes: an ISO 3166 country code.
pub const REGION_BYTES_MIN: usize = 2;

/// Longest region name, in bytes: room for `LATAM`, `US-CA` and the like.
pub const REGION_BYTES_MAX: usize = 16;

/// Longest connection id that is accepted, in bytes. API Gateway's have 16.
pub const CONNECTION_ID_BYTES_MAX: usize = 128;

/// Regions in one subscribe or unsubscribe message: what one DynamoDB batch takes.
pub const REGIONS_PER_MESSAGE_MAX: usize = BATCH_WRITE_ITEMS_MAX;

/// Items in one `BatchWriteItem`. Source: DynamoDB.
pub const BATCH_WRITE_ITEMS_MAX: usize = 25;

/// Rounds in which unprocessed items of a batch are sent again before the write counts as failed.
pub const BATCH_WRITE_ROUNDS_MAX: u32 = 8;

/// Pause before the second round of a batch; doubles each round, so eight rounds take about 3 s.
pub const BATCH_WRITE_BACKOFF: Duration = Duration::from_millis(25);

/// Items in one page of an audience. Few enough that the first push leaves early and a page, at about 115 bytes an item,
/// stays far below the 1 MB that a query returns; enough that reading costs little beside pushing.
pub const AUDIENCE_PAGE_ITEMS: i32 = 1_000;

/// Life of a WebSocket connection. Source: API Gateway quotas.
pub const CONNECTION_LIFE_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// Life of a subscription item after it was written: a connection's life and some slack, so that a lost `$disconnect`
/// heals itself and a live connection is never expired.
pub const SUBSCRIPTION_TTL: Duration = Duration::from_secs(CONNECTION_LIFE_MAX.as_secs() + 10 * 60);

/// Age below which an item is kept although its connection is reported gone. API Gateway answers Gone for a connection
/// whose `$connect` has not returned yet, which takes at most an integration time-out of 29 s.
pub const GONE_GRACE: Duration = Duration::from_secs(30);

/// How long an alert and its idempotency key are kept.
pub const ALERT_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Attempts to commit an alert while other publishers move the same region's head.
pub const COMMIT_ATTEMPTS_MAX: u32 = 10;

/// Longest pause between two attempts to commit; each pause is random below a bound that doubles up to this.
pub const COMMIT_BACKOFF_MAX: Duration = Duration::from_millis(200);

/// Posts in flight at once. Measured: 64 cost less CPU per post than 256 or 512.
pub const POSTS_IN_FLIGHT: usize = 64;

/// Time to open a connection to the management API.
pub const POST_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for one attempt of a post. A healthy one takes milliseconds.
pub const POST_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// Time for a post with all its attempts.
pub const POST_TIMEOUT: Duration = Duration::from_secs(8);

/// Attempts of one post, the first included. Only throttling and transient failures are tried again.
pub const POST_ATTEMPTS_MAX: u32 = 3;

/// Score from which an alert is published, unless the template says otherwise. 0 to 100.
pub const SCORE_THRESHOLD_DEFAULT: f64 = 85.0;

/// Region of a publication that names none.
pub const REGION_DEFAULT: &str = "EU";

const _: () = assert!(POST_ATTEMPT_TIMEOUT.as_millis() < POST_TIMEOUT.as_millis());
const _: () = assert!(POST_CONNECT_TIMEOUT.as_millis() < POST_ATTEMPT_TIMEOUT.as_millis());
const _: () = assert!(REGION_BYTES_MIN <= REGION_BYTES_MAX);

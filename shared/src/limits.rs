//! Every bound of the system, with its unit and where it comes from.

use std::time::Duration;

/// Largest WebSocket frame, and the unit in which API Gateway bills messages. One alert always fits in one frame.
/// Source: API Gateway quotas.
pub const FRAME_BYTES_MAX: usize = 32 * 1024;

/// Largest body that publish reads. Twice a frame: white space and escapes may go before the alert has to fit in one.
pub const PUBLISH_BODY_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

/// Longest idempotency key, in bytes. Long enough for a URL or two UUIDs; a DynamoDB key holds 2,048.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Longest title, in Unicode scalar values: three lines of a toast hold about 120. Titles on YouTube have up to 100.
pub const TITLE_CHARS_MAX: usize = 300;

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

/// Keys in one `BatchGetItem`. Source: DynamoDB.
pub const BATCH_GET_KEYS_MAX: usize = 100;

/// Rounds in which unprocessed items of a batch are sent again before the read or write counts as failed.
pub const BATCH_ROUNDS_MAX: u32 = 8;

/// Pause before the second round of a batch; doubles each round, so eight rounds take about 3 s.
pub const BATCH_BACKOFF: Duration = Duration::from_millis(25);

/// Items in one page of an audience. Few enough that the first push leaves early and a page, at about 115 bytes an
/// item, stays far below the 1 MB that a query returns; enough that reading costs little beside pushing.
pub const AUDIENCE_PAGE_ITEMS: i32 = 1_000;

/// Life of a WebSocket connection. Source: API Gateway quotas.
pub const CONNECTION_LIFE_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// Life of a subscription item after it was written: a connection's life and some slack, so that a lost `$disconnect`
/// heals itself and a live connection is never expired.
pub const SUBSCRIPTION_TTL: Duration = Duration::from_secs(CONNECTION_LIFE_MAX.as_secs() + 10 * 60);

/// Age below which an item is kept although the gateway answers Gone. API Gateway answers Gone for a connection
/// whose `$connect` has not returned yet, which takes at most an integration time-out of 29 s.
pub const GONE_GRACE: Duration = Duration::from_secs(30);

/// Longest token that is looked at, in bytes: what API Gateway lets through in headers and the address.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Shortest secret that tokens are checked with, in bytes: as long as its hash. Source: RFC 7518, section 3.2.
pub const TOKEN_SECRET_BYTES_MIN: usize = 32;

/// Largest difference between the clocks of an issuer and of Lambda.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(60);

/// Longest time for which the Event API may use an answer of the authorizer again. A token that is withdrawn by a new
/// key works that long.
pub const AUTHORIZED_FOR_MAX: Duration = Duration::from_secs(300);

/// Patterns in the claim `regions` of a token: more than there are countries.
pub const REGION_PATTERNS_MAX: usize = 300;

/// Age at which an issuer's keys are fetched again: a key that was withdrawn counts for that long.
pub const JWKS_AGE_MAX: Duration = Duration::from_secs(10 * 60);

/// Age up to which these keys are used while the issuer does not answer.
pub const JWKS_KEPT_MAX: Duration = Duration::from_secs(60 * 60);

/// Shortest time between two fetches because a token names an unknown key: anybody can name any.
pub const JWKS_PAUSE: Duration = Duration::from_secs(60);

/// Timeout of fetching keys, within that of a handshake.
pub const JWKS_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of an issuer's keys: some two hundred of RSA.
pub const JWKS_BYTES_MAX: usize = 128 * 1024;

/// Age at which a secret is read again: one that was replaced counts for that long.
pub const SECRET_AGE_MAX: Duration = Duration::from_secs(5 * 60);

/// Age up to which a secret is used while the service does not answer.
pub const SECRET_KEPT_MAX: Duration = Duration::from_secs(60 * 60);

/// Timeout of reading a secret, within that of a handshake.
pub const SECRET_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of the answer with a secret: the 8 KB of an advanced parameter, escaped, and what is around it. Source:
/// Parameter Store.
pub const SECRET_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Longest that the one caller who fetches a secret or keys again waits for it while an older value may be used. Most
/// services answer within half of it, with a new connection over TLS to another continent.
pub const REFRESH_WAIT: Duration = Duration::from_secs(1);

/// Pause after a failed fetch of a secret or keys. It doubles with each failure in a row.
pub const REFRESH_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause after a failed fetch, and so the longest time until an outage is noticed to be over.
pub const REFRESH_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Largest difference between the time of a webhook and ours. Source: Standard Webhooks.
pub const WEBHOOK_WINDOW: Duration = Duration::from_secs(5 * 60);

/// Bytes of a webhook's secret. The specification asks for 24 to 64, and its own example has 18.
pub const WEBHOOK_SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// Secrets of webhooks that are valid at once: one and its replacement.
pub const WEBHOOK_SECRETS_MAX: usize = 2;

/// How long an alert and its idempotency key are kept.
pub const ALERT_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Missed alerts that one answer to a subscription, or one page of `GET /alerts`, holds of all its regions together. An
/// alert has some 300 bytes, so that many of them just fill a frame.
pub const ALERTS_PER_PAGE_MAX: usize = 100;

/// Bytes of alerts in one page of `GET /alerts`: two of the largest.
pub const PAGE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of an item of the log without its content, as DynamoDB counts them: nine attributes and the longest region.
/// Its frame has fewer.
pub const REMOVED_ITEM_BYTES_MAX: usize = 256;

/// Bytes of a consistent read that are billed as one unit. Source: DynamoDB.
pub const READ_UNIT_BYTES: usize = 4 * 1024;

/// Regions whose missed alerts one answer to a subscription, or one page, holds. The answer names the others in
/// `not_recovered`; the next page has them.
pub const RECOVERED_REGIONS_MAX: usize = 25;

/// Queries of logs at once for one answer. One that finds less than it was to find, because the time to live was faster
/// or because alerts are large, is a read unit for nothing, and makes them fewer until the answer.
pub const LOG_READS_MAX: usize = 6;

/// Read units that a message takes at most, beside one for each region whose alerts its answer carries: the snapshot,
/// twice a frame of alerts, and queries for nothing.
pub const MESSAGE_READ_UNITS_MAX: usize = 30;

/// Read units that a request to `GET /alerts` takes at most: the snapshot, a page of alerts, a query for each region,
/// and queries for nothing.
pub const PAGE_READ_UNITS_MAX: usize = 55;

/// How long a cache may answer with the same page of `GET /alerts`. Clients that poll at the same moment then cost one
/// request, and an alert is at most this late.
pub const PAGE_AGE_MAX: Duration = Duration::from_secs(1);

/// Time after which a browser's EventSource asks for the next page. It holds until the next answer comes: without a
/// pause a browser whose line breaks just then would ask hundreds of times per second.
pub const EVENT_STREAM_NEXT: Duration = Duration::from_millis(500);

/// Time after which a browser's EventSource asks again, when it has everything.
pub const EVENT_STREAM_RETRY: Duration = Duration::from_secs(3);

/// Regions whose positions `ALL` stands for. All their positions, and the names of all of them as not
/// recovered, fit in a frame.
pub const REGIONS_OF_ALL_MAX: usize = 300;

/// Items of the snapshot of all logs. Reading them all costs as many read units, and each holds some 40 of
/// [`REGIONS_OF_ALL_MAX`].
pub const SNAPSHOT_SHARDS: usize = 8;

/// Request line and headers of a request to an HTTP API. Source: API Gateway quotas, not adjustable.
pub const REQUEST_HEAD_BYTES_MAX: usize = 10_240;

/// What of them is for others than cursors: the rest of the address with a token, and what browsers and proxies add.
const OTHER_HEAD_BYTES: usize = 2 * 1024;

/// Longest cursor that is written, in bytes. An EventSource sends two, that of its address and the last id. The 249
/// countries of ISO 3166 fit while they have fewer than 46,656 alerts each.
pub const CURSOR_BYTES_MAX: usize = 4 * 1024;

/// Longest entry of a region in a cursor, with its separator: the name and the two largest numbers in base 36.
pub(crate) const CURSOR_ENTRY_BYTES_MAX: usize = REGION_BYTES_MAX + ".1y2p0ij32e8e7.3w5e11264sgsf_".len();

/// Longest entry of a region in an answer: quotes, name and the two largest numbers.
const POSITION_BYTES_MAX: usize =
    REGION_BYTES_MAX + r#""":{"epoch":-9223372036854775808,"seq":18446744073709551615},"#.len();

/// Bytes of an answer around positions, names and alerts.
pub(crate) const ANSWER_BYTES: usize = 1024;

/// Longest address and longest host name of the Event API that clients are told, in bytes. Names in DNS have at most
/// 253; those of AppSync have fewer than 80.
pub const EVENTS_ADDRESS_BYTES_MAX: usize = 255;

/// Percentage of clients that use the Event API, unless the template says otherwise.
pub const EVENTS_SHARE_DEFAULT: u8 = PERCENT_MAX;

/// All of something, in percent.
pub const PERCENT_MAX: u8 = 100;

/// New connections per second of an account. Source: API Gateway quotas.
pub const CONNECTS_PER_SEC: u64 = 500;

/// Divisor of [`CONNECTS_PER_SEC`] for connections that come back after a cut: half. The other half is for new ones.
pub const RECONNECT_SHARE: u64 = 2;

/// Shortest time over which clients spread their reconnections: an audience that is small now may have grown.
pub const RECONNECT_WINDOW_MIN: Duration = Duration::from_secs(1);

/// Longest time over which clients spread their reconnections. Meanwhile they read `GET /alerts`.
pub const RECONNECT_WINDOW_MAX: Duration = Duration::from_secs(10 * 60);

/// Time over which clients spread their reconnections if the audience is unknown: enough for 2,500 connections.
pub const RECONNECT_WINDOW_DEFAULT: Duration = Duration::from_secs(10);

/// Age at which a client replaces its connection, before the service cuts it: ten minutes are left to do it at leisure.
pub const ROTATE_AFTER: Duration = Duration::from_secs(CONNECTION_LIFE_MAX.as_secs() - 10 * 60);

/// Actions in one transaction. Source: DynamoDB.
pub const TRANSACTION_ACTIONS_MAX: usize = 100;

/// Bytes of alerts that are committed in one transaction. A partition takes 1,000 write units a second and a
/// transaction two for each KB, so that it waits a quarter of a second for them at most. Source: DynamoDB.
pub const GROUP_BYTES_MAX: usize = 128 * 1024;

/// Life of the lease of a region: longer than a call of DynamoDB with its retries. A leader that dies delays the others
/// by as much.
pub const LEASE: Duration = Duration::from_secs(2);

/// Time after which one that leads hands over to the next, as soon as its own publication is committed: its publisher
/// waits.
pub const LEAD_TIME: Duration = Duration::from_millis(150);

/// First bound of the pause between two looks of a publication that waits; it doubles.
pub const QUEUE_LOOK_MIN: Duration = Duration::from_millis(40);

/// Last bound of that pause. Of 1,000 that wait, each look is half a read unit of the one partition with the lease,
/// which gives 3,000 a second, and a unit of one of its own.
pub const QUEUE_LOOK_MAX: Duration = Duration::from_millis(400);

/// Time before the end of an invocation at which a publication is withdrawn that still waits: two calls of DynamoDB,
/// with time to spare.
pub const QUEUE_END_BEFORE: Duration = Duration::from_secs(8);

/// Age from which a waiting publication is not committed any more: longer than any function waits for it, which is 29
/// s. Source: template.yaml.
pub const QUEUE_AGE_MAX: Duration = Duration::from_secs(60);

/// Life of a waiting publication that was neither committed nor withdrawn.
pub const QUEUE_TTL: Duration = Duration::from_secs(60 * 60);

/// Reads of an alert whose commit was not answered.
pub const LOST_LOOKS_MAX: u32 = 4;

/// Pause between two such reads.
pub const LOST_LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Attempts of a call to the alerts table that is throttled or not answered, within [`AWS_CALL_TIMEOUT`].
pub const TABLE_ATTEMPTS_MAX: u32 = 8;

/// First bound of the backoff between them.
pub const TABLE_BACKOFF: Duration = Duration::from_millis(50);

/// Last bound of that backoff.
pub const TABLE_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Attempts of one transaction whose answer does not come, with one token.
pub const COMMIT_ATTEMPTS_MAX: u32 = 3;

/// First bound of the backoff between two attempts to commit.
pub const COMMIT_BACKOFF_MIN: Duration = Duration::from_millis(12);

/// Time for noting the size of an audience after its fan-out. The next publisher gets an older figure if it does not
/// do.
pub const AUDIENCE_NOTE_TIMEOUT: Duration = Duration::from_secs(2);

/// Last bound of that pause.
pub const COMMIT_BACKOFF_MAX: Duration = Duration::from_millis(200);

/// Timeout of reading whether an alert was removed, before its fan-out begins. All subscribers wait for it.
pub const LOG_LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// Initial concurrency of posts, not counting slow ones. It is raised only while throughput improves: more posts cost
/// more CPU.
pub const POSTS_IN_FLIGHT: usize = 128;

/// Highest concurrency of posts, for a slow gateway: 5,000 per second at 100 ms each.
pub const POSTS_IN_FLIGHT_MAX: usize = 512;

/// Time after which a post counts as slow and no longer keeps another one from starting. A healthy one takes
/// milliseconds.
pub const POST_SLOW_AFTER: Duration = Duration::from_millis(250);

/// Posts that are open at once, slow ones included. Each may have a socket of its own, and what is left of the file
/// descriptors is for the table, Lambda and second looks. Source of 1,024: Lambda quotas.
pub const POSTS_OPEN_MAX: usize = 1_024 - 128;

/// Timeout of opening a connection to the management API.
pub const POST_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Idle time after which a connection to the management API is not reused: a network device on the way may have dropped
/// it, and a post would wait until its timeout.
pub const POST_CONNECTION_IDLE_MAX: Duration = Duration::from_secs(90);

/// Timeout of one attempt of a post. A healthy one takes milliseconds.
pub const POST_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// Timeout of a post with all its attempts.
pub const POST_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeouts after which a post fails. Other errors are retried until [`POST_TIMEOUT`].
pub const POST_TIMEOUTS_MAX: u32 = 3;

/// How long a connection is waited for that is said to be gone and may only be opening. `$connect` takes milliseconds.
pub const OPENING_WAIT: Duration = Duration::from_secs(3);

/// First bound of the backoff between two attempts of a post.
pub const POST_BACKOFF: Duration = Duration::from_millis(50);

/// Last bound of that backoff.
pub const POST_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Time for one question whether a connection is there, and for closing it. A healthy one takes milliseconds.
pub const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Attempts of one invocation to publish an event on the Event API.
pub const EVENT_ATTEMPTS_MAX: u32 = 3;

/// Longest time of one such attempt, its connection included.
pub const EVENT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// Bound of the first pause between such attempts. It doubles.
pub const EVENT_BACKOFF: Duration = Duration::from_millis(200);

/// Largest answer of the Event API that is read, in bytes: it names one event.
pub const EVENT_ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Time over which three answers have to agree before a connection counts as gone: those that are false come together
/// in time.
pub const GONE_OVER: Duration = Duration::from_secs(2);

/// Time after the first of them before the second is asked for.
pub const GONE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Questions about one connection that was said to be gone, when the answers neither agree nor let a post through. Each
/// takes up to a second, so it is some twenty seconds of patience.
pub const SUSPECT_QUESTIONS_MAX: u32 = 20;

/// Such questions that are open at once, those that are not due yet included: each may have a socket of its own, see
/// [`POSTS_OPEN_MAX`]. At 20 ms each they make 5,000 per second, as much as a worker has of the rate.
pub const SUSPECT_QUESTIONS_IN_FLIGHT: usize = 100;

/// Calls that one connection takes which turns out to be gone, after the post that said so first: GetConnection, a
/// post, and DeleteConnection. As a number of seconds at a rate.
pub const CALLS_PER_SUSPECT: f64 = 3.0;

/// Connections said to be gone that wait until all others have had their post. When there are so many, they are asked
/// about first. At 150 bytes each they take 45 MB of the memory of deliver, and half of an audience of 1,000,000 is
/// fewer in each of two workers.
pub const SUSPECTS_MAX: usize = 300_000;

/// Time before the end of an invocation at which those that are left of them are handed over.
pub const SUSPECTS_END_BEFORE: Duration = Duration::from_secs(8);

/// Parts of the ring in one task: at 35 bytes each they leave room for an alert in the 256 KB of an asynchronous
/// invocation. Source: Lambda quotas.
pub const RANGES_PER_TASK_MAX: usize = 4_000;

/// Connections that one invocation removes after it has found them gone. What it leaves is found by the next alert.
pub const GONE_REMOVED_MAX: usize = 10_000;

/// Removals of connections that run at once. Each is a query and a batch of deletes.
pub const REMOVALS_IN_FLIGHT: usize = 8;

/// Time before the end of an invocation at which removals are left to the next alert. [`AUDIENCE_NOTE_TIMEOUT`] comes
/// after it.
pub const REMOVALS_END_BEFORE: Duration = Duration::from_secs(5);

/// Calls of the management API per second that a fan-out may make, unless the template says otherwise. Several at once
/// find their shares by the gateway's refusals. Source: API Gateway quotas; 2,500 in newer regions.
pub const PUSH_RATE_DEFAULT: f64 = 10_000.0;

/// Least and most that a function works with. The template allows 100 at least.
pub const PUSH_RATE_MIN: f64 = 1.0;
/// Source: the parameter in template.yaml.
pub const PUSH_RATE_MAX: f64 = 1_000_000.0;

/// Share of the push rate that is used: clocks of workers differ, and clients need the rate too.
pub const PUSH_RATE_USED: f64 = 0.95;

/// Posts per second that one worker is expected to make: 250 ms of CPU at 50 µs each, and 512 in flight at up to 100
/// ms.
pub const WORKER_RATE: f64 = 5_000.0;

/// Time in which one page of an audience is delivered, and the least that a publisher is told: smaller audiences take
/// no less.
pub const PAGE_DELIVERY: Duration = Duration::from_millis((AUDIENCE_PAGE_ITEMS as f64 / WORKER_RATE * 1e3) as u64);

/// Smallest share of the push rate, in calls per second, for which a worker is started. Each worker is off by about one
/// call per second. With many small shares, these errors would add up to more than [`PUSH_RATE_USED`] leaves.
pub const SHARE_MIN: f64 = 25.0;

/// Workers of one fan-out. 64 of them make 320,000 posts per second, far more than any quota; 10,000 take 2.
pub const WORKERS_MAX: usize = 64;

/// Time before the end of an invocation at which a worker stops taking new connections and hands over the rest: what is
/// in flight has [`POST_TIMEOUT`] to finish, and the invocation of a successor a little more.
pub const HANDOVER_BEFORE: Duration = Duration::from_secs(POST_TIMEOUT.as_secs() + 5);

/// Posts of one part that must fail in a way that a client which does not read its socket may cause, before the gateway
/// counts as failed. One such client alone must not fail an alert.
pub const SUSPECT_FROM: u64 = 10;

/// Time for one attempt of a call to an AWS service other than posts. A healthy one takes milliseconds; the clients
/// have none of their own, so a connection that has died in silence would hang until the function's time is up.
pub const AWS_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);

/// Time for such a call with all its attempts.
pub const AWS_CALL_TIMEOUT: Duration = Duration::from_secs(13);

/// Invocations in a row that one alert may cause. Lambda stops a chain of about 16 as a loop. Source: Lambda developer
/// guide, "Recursive loop detection".
pub const INVOCATION_DEPTH_MAX: u32 = 12;

/// Age from which an alert that has not been dispatched counts as forgotten: longer than publish runs, which is 29 s.
/// Source: template.yaml.
pub const DISPATCH_GRACE: Duration = Duration::from_secs(30);

/// Alerts in one page of those that were never dispatched.
pub const RECOVERY_PAGE_ITEMS: i32 = 100;

/// Such pages that one invocation of recover reads. What it leaves is for the next one, a minute later.
pub const RECOVERY_PAGES_MAX: usize = 10;

/// Time before the end of an invocation at which recover begins nothing more: starting a fan-out takes milliseconds.
pub const RECOVERY_END_BEFORE: Duration = Duration::from_secs(5);

/// Messages in one answer of a queue. Source: SQS.
pub const RECEIVED_MESSAGES_MAX: i32 = 10;

/// How long a queue is waited for that seems to be empty, in seconds: without waiting, SQS may overlook messages.
pub const RECEIVE_WAIT_SECS: i32 = 1;

/// How long a message is not given out again after it was read, in seconds: longer than recover runs, which is 55 s, so
/// that one that stays is met once in an invocation. Source: template.yaml.
pub const REDRIVE_VISIBILITY_SECS: i32 = 60;

/// Objects and arrays within each other in a publication. Each step on the way of an alert wraps it in one more, and
/// JSON is read to a depth of 127.
pub const NESTING_MAX: usize = 64;

/// Numbers in JSON from there on are read as fractions, with 53 bits, and would go out changed. Source: `serde_json`.
pub const WHOLE_NUMBER_MAX: f64 = 9_223_372_036_854_775_808.0;

/// Highest score, and highest rise of one.
pub const SCORE_MAX: f64 = 100.0;

/// Score from which an alert is published, unless the template says otherwise. 0 to [`SCORE_MAX`].
pub const SCORE_THRESHOLD_DEFAULT: f64 = 85.0;

/// How long a video is not alerted again in its region, unless the template or a publication says otherwise: not at
/// all.
pub const REPEAT_WINDOW_DEFAULT: Duration = Duration::ZERO;

/// Longest such time: as long as the alert that stands is kept.
pub const REPEAT_WINDOW_MAX: Duration = ALERT_TTL;

/// Rise of the score, in points, with which a video is alerted again all the same, unless the template says otherwise:
/// a third of what is left above the threshold.
pub const REPEAT_RISE_DEFAULT: f64 = 5.0;

/// Smallest such rise. With none, every publication of a steady score would pass.
pub const REPEAT_RISE_MIN: f64 = 0.1;

/// Growths of a region without which nothing in it is scored. Fewer make a median that a few videos decide.
pub const GROWTHS_MIN: usize = 20;

/// Growths of a region that are remembered: of 40 videos about a day, as each is noted every 30 to 60 minutes.
pub const GROWTHS_MAX: usize = 1_024;

/// Least spread of growth, in nats: where all videos grow alike, a tenth more is one deviation and not many.
pub const GROWTH_SPREAD_MIN: f64 = 0.1;

/// Shortest time over which growth is measured. Public counters move in steps of some minutes.
pub const GROWTH_TIME_MIN: Duration = Duration::from_secs(30 * 60);

/// A rise ends below this share of the score at which it begins: a score that swings about the threshold is one rise.
pub const RISE_END_SHARE: f64 = 0.7;

/// How long a count may lie below its peak before the lower one is believed. Counts fall when stale copies are read,
/// for minutes to hours, and when views are struck off, for good.
pub const DIP_MAX: Duration = Duration::from_secs(48 * 60 * 60);

/// How long a video is remembered that the feed does not name any more.
pub const VIDEO_FORGOTTEN_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Videos of one region that are watched; those not named for longest make room. The largest public charts have 200.
pub const WATCHED_VIDEOS_MAX: usize = 300;

/// Announcements of one region that wait to be sent. What rises beyond that is announced later. One `PutEvents` takes
/// as many. Source: EventBridge quotas.
pub const OUTBOX_MAX: usize = 10;

/// Longest id of a video in the feed, in bytes. YouTube's have 11.
pub const FEED_ID_BYTES_MAX: usize = 64;

/// Longest thumbnail or channel in the feed, in bytes, and what a title of it is cut to. Titles on YouTube have up to
/// 100 characters of up to 4 bytes.
pub const FEED_TEXT_BYTES_MAX: usize = 1_024;

/// Longest address of a video in the feed, in bytes. Those of YouTube have 43.
pub const FEED_URL_BYTES_MAX: usize = 256;

/// Largest feed, in bytes: 10,000 entries, which a function with 256 MB holds several times.
pub const FEED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Time for the whole answer of the feed.
pub const FEED_TIMEOUT: Duration = Duration::from_secs(10);

/// How far the feed's clock may go ahead. A snapshot of the future would make those before it look old.
pub const FEED_AHEAD_MAX: Duration = Duration::from_secs(10 * 60);

/// Regions of one feed. As many as one subscription to `ALL` tells of.
pub const FEED_REGIONS_MAX: usize = REGIONS_OF_ALL_MAX;

/// Regions that are scored at once: each takes a read and a write or two.
pub const REGIONS_IN_FLIGHT: usize = 8;

/// How long the state of a region is kept that the feed does not name any more.
pub const SCORES_TTL: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Attempts to hand announcements of one region to the event bus in one invocation; the next one tries again.
pub const ANNOUNCE_ATTEMPTS_MAX: u32 = 4;

/// Bound of the random pause before the second attempt; it doubles.
pub const ANNOUNCE_BACKOFF: Duration = Duration::from_millis(200);

/// Messages per second of one connection that run a function, unless the template says otherwise; so many may come at
/// once. The same as the servers allow that this service replaces.
pub const MESSAGES_PER_SEC_DEFAULT: u32 = 10;

/// Most that the template can say. Source: the parameter in template.yaml.
pub const MESSAGES_PER_SEC_MAX: u32 = 1_000;

/// Conditional updates that admit a message at most: those that each of two allowances takes, and as many more where
/// others of the same connection join and leave while it is nearly full.
pub const ADMISSION_ATTEMPTS_MAX: u32 = 4 * CHARGE_ATTEMPTS_MAX;

/// Longest pause between two of them, from the second on.
pub const ADMISSION_PAUSE_MAX: Duration = Duration::from_millis(50);

/// Regions and rooms that a connection joins and leaves at once: all that it can be in, once. Each is a write of two
/// units.
pub const CHANGES_AT_ONCE: u32 = 100;

/// Time after which it may join or leave one more.
pub const CHANGE_EVERY: Duration = Duration::from_secs(1);

/// Rounds in which a message writes what others of the same connection join and leave at the same moment. Each takes
/// one of them.
pub const MEMBERSHIP_ROUNDS_MAX: u32 = 8;

/// How long the mark of a closed connection is kept: no message that came before the close runs for so long.
pub const CLOSED_MARK_TTL: Duration = Duration::from_secs(10 * 60);

/// Seats of one address or user at most: all of them, at about 120 bytes each, are read in one query of 30 read units.
/// Source: the parameters in template.yaml.
pub const SEATS_MAX: u32 = 1_000;

/// Regions and rooms of one connection. `ALL` is one, and stands for all regions.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: usize = 100;

/// Connections of one user at once, unless the template says otherwise: tabs and devices of a person. The browser
/// client takes one for all tabs of a browser.
pub const CONNECTIONS_PER_USER_DEFAULT: u32 = 50;

/// Alerts per minute of one publisher, unless the template says otherwise; so many may come at once.
pub const ALERTS_PER_MINUTE_DEFAULT: u32 = 600;

/// Most that the template can say. Source: the parameter in template.yaml.
pub const ALERTS_PER_MINUTE_MAX: u32 = 60_000;

/// How long what a publisher has used of its allowance is kept: longer than it takes to be unused again, which is a
/// minute.
pub const RATE_LIMIT_TTL: Duration = Duration::from_secs(60 * 60);

/// Longest pause after the allowance of a publisher was throttled, through all attempts of the client. The pause is
/// random.
pub const THROTTLED_PAUSE: Duration = Duration::from_secs(1);

/// Such pauses of one publication: with the attempts between them less than the time that publish has.
pub const THROTTLED_PAUSES_MAX: u32 = 8;

/// Conditional updates that a charge takes at most: one where the source has rested, one where it has not, and one more
/// where its item is removed between them. See `rate_limit.rs`.
pub const CHARGE_ATTEMPTS_MAX: u32 = 3;

/// Longest name of a room, in bytes.
pub const ROOM_BYTES_MAX: usize = 64;

/// Longest name under which somebody speaks, in bytes.
pub const USER_BYTES_MAX: usize = 64;

/// Longest text that is said in a room, in bytes.
pub const CHAT_BYTES_MAX: usize = 4 * 1024;

/// How long a client that speaks in no room and names none is taken for one whose `join` is still on its way: the
/// service does not keep the messages of a connection in order, and joining takes some ten milliseconds.
pub const JOIN_WAIT: Duration = Duration::from_millis(500);

/// Time between two looks for it.
pub const JOIN_LOOK_EVERY: Duration = Duration::from_millis(100);

/// Age from which a chat message is dropped: after the retries that Lambda makes of a failed invocation,
/// one minute and two minutes later. Source: Lambda developer guide, "Asynchronous invocation".
pub const CHAT_AGE_MAX: Duration = Duration::from_secs(5 * 60);

/// Share of the push rate, as a divisor, that the fan-out of what is said in a room takes: alerts come first.
pub const ROOM_SHARE: f64 = 10.0;

/// Age from which the news that somebody is typing is dropped.
pub const TYPING_AGE_MAX: Duration = Duration::from_secs(10);

/// Connections of an audience up to which a count is exact: those of a page, which is what is read at most.
pub const COUNTED_EXACTLY_MAX: i32 = AUDIENCE_PAGE_ITEMS;

/// Age up to which a process tells a count again instead of reading the audience.
pub const COUNT_AGE_MAX: Duration = Duration::from_secs(1);

/// Counts that a process keeps for that.
pub const COUNTS_KEPT_MAX: usize = 1_000;

/// Largest item of DynamoDB, in bytes. Source: DynamoDB.
pub const ITEM_BYTES_MAX: usize = 400 * 1024;

/// Longest that JSON makes of one byte of text.
const ESCAPED_BYTES_MAX: usize = 6;

/// Publications in one request. Those of one region fit in one transaction. Source: this project; a run of a scorer
/// finds some ten.
pub const PUBLICATIONS_MAX: usize = 25;

/// Largest body with several publications, in bytes: [`PUBLICATIONS_MAX`] alerts of a frame each, and white space.
pub const PUBLICATIONS_BODY_BYTES_MAX: usize = 1024 * 1024;

/// Regions that have a log at once, unless the template says otherwise: what `ALL` can name.
pub const REGIONS_MAX_DEFAULT: usize = REGIONS_OF_ALL_MAX;

/// Age of the last alert of a region from which its log is removed: a day after the alert itself has expired. The
/// clocks of two machines are never that far apart, so the log that follows has a later epoch.
pub const LOG_AGE_MAX: Duration = Duration::from_secs(2 * ALERT_TTL.as_secs());

/// Logs that one run of recover ends. What it leaves is for the next one, a minute later.
pub const LOGS_ENDED_MAX: usize = 25;

/// Share of the regions that may have a log, in percent, from which the metric `Regions` is written, which rings an
/// alarm.
pub const REGIONS_NEAR_MAX_PERCENT: usize = 80;

/// Time of a run of the synthetic canary, from the handshake to the arrival of its alert. A healthy one takes a second
/// when every function starts cold; the default of `LagMax` is as long.
pub const CANARY_TIME_MAX: Duration = Duration::from_secs(10);

/// Time for the canary to close its socket in order afterwards.
pub const CANARY_CLOSE_MAX: Duration = Duration::from_secs(1);

/// Longest id of a run of the canary, in bytes. A UUID has 36.
pub const CANARY_RUN_BYTES_MAX: usize = 64;

/// Life of a token that the canary signs for itself: a run, and what clocks differ.
pub const CANARY_TOKEN_LIFE: Duration = Duration::from_secs(5 * 60);

/// Region of a publication that names none.
pub const REGION_DEFAULT: &str = "EU";

const _: () = assert!(POSTS_IN_FLIGHT < POSTS_IN_FLIGHT_MAX && POSTS_IN_FLIGHT_MAX < POSTS_OPEN_MAX);
const _: () = assert!(POST_ATTEMPT_TIMEOUT.as_millis() < POST_TIMEOUT.as_millis());
const _: () = assert!(POST_CONNECT_TIMEOUT.as_millis() < POST_ATTEMPT_TIMEOUT.as_millis());
const _: () = assert!(
    OUTBOX_MAX * (3 * FEED_TEXT_BYTES_MAX + FEED_URL_BYTES_MAX + 3 * FEED_ID_BYTES_MAX) * ESCAPED_BYTES_MAX
        + WATCHED_VIDEOS_MAX * (FEED_ID_BYTES_MAX * ESCAPED_BYTES_MAX + 160)
        + GROWTHS_MAX * 12
        < ITEM_BYTES_MAX,
    "the state of a region fits in an item"
);
const _: () = assert!(QUEUE_END_BEFORE.as_secs() < 29 && QUEUE_AGE_MAX.as_secs() > 29);
const _: () = assert!(PUBLICATIONS_BODY_BYTES_MAX > PUBLICATIONS_MAX * FRAME_BYTES_MAX);
const _: () = assert!(SCORES_TTL.as_secs() > VIDEO_FORGOTTEN_AFTER.as_secs());
const _: () = assert!(REGION_BYTES_MIN <= REGION_BYTES_MAX);
const _: () = assert!(CHANGES_AT_ONCE as usize >= REGIONS_PER_MESSAGE_MAX, "every message that may be sent can pass");
const _: () = assert!(SEATS_MAX < 10_000, "the number of a seat has four digits");
const _: () = assert!(AUDIENCE_NOTE_TIMEOUT.as_millis() < REMOVALS_END_BEFORE.as_millis());
const _: () = assert!(GONE_AGAIN_AFTER.as_millis() < GONE_OVER.as_millis());
const _: () = assert!(SUSPECT_QUESTIONS_IN_FLIGHT < 1_024 - POSTS_OPEN_MAX);
const _: () = assert!(
    SUSPECTS_END_BEFORE.as_millis() + GONE_OVER.as_millis() < HANDOVER_BEFORE.as_millis()
        && SUSPECTS_END_BEFORE.as_millis() > REMOVALS_END_BEFORE.as_millis(),
    "suspects of the last moment can be settled, and then handed over and removed"
);
const _: () = assert!(AWS_ATTEMPT_TIMEOUT.as_millis() < AWS_CALL_TIMEOUT.as_millis());
const _: () = assert!(AWS_CALL_TIMEOUT.as_millis() < HANDOVER_BEFORE.as_millis());
const _: () = assert!(REGIONS_PER_MESSAGE_MAX <= REGIONS_OF_ALL_MAX);
const _: () = assert!(
    2 * CURSOR_BYTES_MAX + OTHER_HEAD_BYTES <= REQUEST_HEAD_BYTES_MAX,
    "an EventSource can send the cursor of its address and the last one"
);
const _: () = assert!(
    REGIONS_PER_MESSAGE_MAX * CURSOR_ENTRY_BYTES_MAX <= CURSOR_BYTES_MAX,
    "the regions that one request may name fit in a cursor, whatever their positions"
);
const _: () = assert!(
    REGIONS_OF_ALL_MAX * (POSITION_BYTES_MAX + REGION_BYTES_MAX + 3) + ANSWER_BYTES <= FRAME_BYTES_MAX,
    "positions and names of all regions fit in a frame"
);
const _: () = assert!(
    SNAPSHOT_SHARDS + 2 * FRAME_BYTES_MAX / READ_UNIT_BYTES + LOG_READS_MAX <= MESSAGE_READ_UNITS_MAX,
    "what a message reads at most"
);
const _: () = assert!(
    SNAPSHOT_SHARDS + PAGE_BYTES_MAX / READ_UNIT_BYTES + RECOVERED_REGIONS_MAX + LOG_READS_MAX <= PAGE_READ_UNITS_MAX,
    "what a page reads at most"
);

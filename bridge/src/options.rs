//! Flags, and the environment variables that set them.

use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use http::Uri;
use shared::auth::webhook::SigningSecrets;
use tracing_subscriber::EnvFilter;

use crate::limits::{QUEUE_DEFAULT, QUEUE_MAX};

/// Channels of the systems that this service replaces.
const CHANNEL_DEFAULT: &str = "topvideohub:trending";
const PATTERN_DEFAULT: &str = "tvs:*";

/// Checks a log filter.
fn filter(text: &str) -> Result<String, String> {
    let expected = "expected a level (error, warn, info, debug, trace, off) or pairs such as bridge=debug";
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|_| expected.to_owned())
}

/// Publishes messages of Redis channels and streams as alerts. Every flag has an environment variable.
#[derive(Clone, Debug, Parser)]
#[command(version, max_term_width = 110)]
pub struct Options {
    /// Redis: redis://[user:password@]host[:port][/db], rediss:// for TLS, or redis+unix:///path
    #[arg(
        long,
        value_name = "URL",
        default_value = "redis://127.0.0.1:6379",
        env = "REDIS_URL",
        hide_env_values = true
    )]
    pub redis_url: String,

    #[command(flatten)]
    pub(crate) sources: Sources,

    #[command(flatten)]
    pub(crate) streams: Streams,

    #[command(flatten)]
    pub(crate) publishing: Publishing,

    /// Messages of channels, and entries of streams, that may wait in memory. Further messages are dropped, further
    /// entries are not read
    #[arg(
        long,
        value_name = "N",
        default_value_t = QUEUE_DEFAULT,
        env = "BRIDGE_QUEUE",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(QUEUE_MAX))
    )]
    pub(crate) queue: u32,

    /// Time to publish what has been read, after SIGTERM or SIGINT
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 25,
        env = "BRIDGE_DRAIN_SECS",
        value_parser = clap::value_parser!(u64).range(..=3_600)
    )]
    pub(crate) drain_secs: u64,

    /// Interval of reports
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        env = "BRIDGE_REPORT_SECS",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub(crate) report_secs: u64,

    /// Log filter in the syntax of tracing: a level, or target=level pairs
    #[arg(long, value_name = "FILTER", default_value = "info", env = "RUST_LOG", value_parser = filter)]
    pub log: String,
}

/// What to read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sources (default: --channel topvideohub:trending --pattern 'tvs:*')")]
pub(crate) struct Sources {
    /// A channel. Repeat the flag, or separate several with commas
    #[arg(long = "channel", value_name = "NAME", env = "BRIDGE_CHANNELS", value_delimiter = ',')]
    channels: Vec<String>,

    /// A pattern of channels. A message without a region goes to the one after the last colon of its channel
    #[arg(long = "pattern", value_name = "GLOB", env = "BRIDGE_PATTERNS", value_delimiter = ',')]
    patterns: Vec<String>,

    /// A stream. Repeat the flag, or separate several with commas
    #[arg(long = "stream", value_name = "NAME", env = "BRIDGE_STREAMS", value_delimiter = ',', requires = "consumer")]
    pub(crate) streams: Vec<String>,
}

impl Sources {
    /// Returns the channels and the patterns to subscribe to.
    pub(crate) fn subscriptions(&self) -> (Vec<String>, Vec<String>) {
        if self.channels.is_empty() && self.patterns.is_empty() && self.streams.is_empty() {
            return (vec![CHANNEL_DEFAULT.to_owned()], vec![PATTERN_DEFAULT.to_owned()]);
        }
        (self.channels.clone(), self.patterns.clone())
    }
}

/// How to read streams.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Streams")]
pub(crate) struct Streams {
    /// The consumer group, created if it does not exist
    #[arg(long, value_name = "NAME", default_value = "viral-alerts", env = "BRIDGE_GROUP")]
    pub(crate) group: String,

    /// The name of this bridge in the group. It must be unique, and the same after a restart
    #[arg(long, value_name = "NAME", env = "BRIDGE_CONSUMER")]
    pub(crate) consumer: Option<String>,

    /// The field of an entry with the message as JSON
    #[arg(long, value_name = "NAME", default_value = "data", env = "BRIDGE_STREAM_FIELD")]
    pub(crate) stream_field: String,

    /// Where a new group starts
    #[arg(long, value_name = "WHERE", default_value = "all", env = "BRIDGE_STREAM_START")]
    pub(crate) stream_start: StreamStart,

    /// Time without an acknowledgement after which entries of another consumer are claimed
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 300,
        env = "BRIDGE_CLAIM_IDLE_SECS",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub(crate) claim_idle_secs: u64,
}

/// Where a new group starts to read a stream.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum StreamStart {
    /// At the beginning of the stream
    All,
    /// After its last entry
    New,
}

impl StreamStart {
    /// The id that Redis takes for it.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::All => "0",
            Self::New => "$",
        }
    }
}

/// Where to publish.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Target (one of the first two)")]
pub(crate) struct Publishing {
    /// The URL of the publish API, such as https://…/publish, or …/webhook with a secret
    #[arg(
        long,
        value_name = "URL",
        env = "BRIDGE_PUBLISH_URL",
        required_unless_present = "function",
        conflicts_with = "function"
    )]
    pub(crate) publish_url: Option<Uri>,

    /// The name or ARN of the publish function, to invoke it with the AWS credentials of the environment
    #[arg(long, value_name = "NAME", env = "BRIDGE_FUNCTION")]
    pub(crate) function: Option<String>,

    /// Sign requests for IAM (SigV4) with the AWS credentials of the environment
    #[arg(long, env = "BRIDGE_IAM", conflicts_with_all = ["webhook_secret", "function"])]
    pub(crate) iam: bool,

    /// Sign requests as webhooks with this secret, whsec_…, or with two separated by a space
    #[arg(
        long,
        value_name = "SECRET",
        env = "BRIDGE_WEBHOOK_SECRET",
        hide_env_values = true,
        conflicts_with = "function"
    )]
    pub(crate) webhook_secret: Option<SigningSecrets>,

    /// Timeout of one attempt to publish. The service takes 30 s at most
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 30,
        env = "BRIDGE_ATTEMPT_SECS",
        value_parser = clap::value_parser!(u64).range(1..=900)
    )]
    attempt_secs: u64,
}

impl Publishing {
    pub(crate) fn attempt_timeout(&self) -> Duration {
        Duration::from_secs(self.attempt_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from(["bridge"].iter().chain(arguments))
    }

    #[test]
    fn a_log_filter_that_cannot_be_parsed_is_an_error() {
        assert!(parse(&["--function", "f", "--log", "info,bridge=debug"]).is_ok());
        let error = parse(&["--function", "f", "--log", "bridge=loud"]).expect_err("no level").to_string();
        assert!(error.contains("expected a level"), "{error}");
    }

    #[test]
    fn without_a_source_it_reads_what_the_reference_systems_publish() {
        let options = parse(&["--function", "publish"]).expect("complete");
        let owned = |name: &str| vec![name.to_owned()];
        assert_eq!(options.sources.subscriptions(), (owned(CHANNEL_DEFAULT), owned(PATTERN_DEFAULT)));
        let options = parse(&["--function", "f", "--stream", "s", "--consumer", "c"]).expect("complete");
        assert_eq!(options.sources.subscriptions(), (Vec::new(), Vec::new()));
        let options = parse(&["--function", "f", "--channel", "a,b", "--channel", "c"]).expect("complete");
        assert_eq!(options.sources.subscriptions().0, ["a", "b", "c"]);
    }

    #[test]
    fn what_cannot_be_is_refused_at_once() {
        for bad in [
            &[][..],
            &["--function", "f", "--publish-url", "http://h/publish"],
            &["--function", "f", "--iam"],
            &["--publish-url", "http://h/", "--webhook-secret", "none"],
            &["--publish-url", "http://h/", "--iam", "--webhook-secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
            &["--function", "f", "--stream", "s"],
            &["--function", "f", "--queue", "0"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }
}

//! The options of a gateway, and the values that the service has.

use std::{sync::Arc, time::Duration};

use crate::{
    faults::Faults,
    http_client::HttpClient,
    rate::{Quotas, Rate},
};

/// Options of a gateway. By default it has the service's time limits, and no quota, throttle or signature check.
#[derive(Clone, Debug, Default)]
pub struct GatewayOptions {
    /// Closes a connection after this time without a frame. At most [`Self::IDLE_TIMEOUT_MAX`], which is the default.
    pub idle_timeout: Option<Duration>,
    /// Closes a connection after this time. At most [`Self::CONNECTION_DURATION_MAX`], which is the default.
    pub connection_duration: Option<Duration>,
    /// Longest that an integration may take. A shorter timeout in the template still applies.
    pub integration_timeout: Option<Duration>,
    /// Quota of handshakes. `None` admits all.
    pub connect_rate: Option<Rate>,
    /// Quota of messages, management API calls and HTTP API requests together. `None` admits all.
    pub request_rate: Option<Rate>,
    /// Whether routes are throttled as `DefaultRouteSettings` and `RouteSettings` of the template say.
    pub throttles: bool,
    /// Whether the quotas of Event APIs apply: 2,000 connects and 10,000 events a second, and 25 publishes of a socket.
    pub event_quotas: bool,
    /// Whether signatures are verified. Without this a call of `@connections` or a handshake only has to
    /// have one, and a request of a route needs none.
    pub check_signatures: bool,
}

impl GatewayOptions {
    /// How long a connection may be idle in the service. Source: API Gateway quotas.
    pub const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(10 * 60);
    /// How long a connection may stay open in the service. Source: API Gateway quotas.
    pub const CONNECTION_DURATION_MAX: Duration = Duration::from_secs(2 * 60 * 60);
    /// How long an integration may take in the service. Source: API Gateway quotas.
    pub const INTEGRATION_TIMEOUT_MAX: Duration = Duration::from_secs(29);
}

/// Time limits of connections and integrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Closes a connection after this time without a frame.
    pub(super) idle_max: Duration,
    /// Closes a connection after this time in any case.
    pub(super) life_max: Duration,
    /// Longest that an integration may take, whatever the template says.
    pub(super) integration_max: Duration,
}

impl Limits {
    /// Divides the real limits of connections by `scale`, so that you see a cut after two hours within seconds. A limit
    /// that is set in the options is not scaled.
    fn new(options: &GatewayOptions, scale: f64) -> Self {
        let limit = |set: Option<Duration>, real: Duration| set.map_or(real.div_f64(scale), |set| set.min(real));
        let integration_max = GatewayOptions::INTEGRATION_TIMEOUT_MAX;
        Self {
            idle_max: limit(options.idle_timeout, GatewayOptions::IDLE_TIMEOUT_MAX),
            life_max: limit(options.connection_duration, GatewayOptions::CONNECTION_DURATION_MAX),
            integration_max: options.integration_timeout.map_or(integration_max, |set| set.min(integration_max)),
        }
    }
}

/// The options and shared parts that a gateway works with.
#[derive(Debug)]
pub(crate) struct GatewaySettings {
    pub(super) limits: Limits,
    pub(super) quotas: Arc<Quotas>,
    pub(super) throttles: bool,
    pub(super) check_signatures: bool,
    pub(super) faults: Arc<Faults>,
    /// For HTTP integrations.
    pub(super) http: Arc<HttpClient>,
}

impl GatewaySettings {
    pub(crate) fn new(
        options: &GatewayOptions,
        time_scale: f64,
        faults: Arc<Faults>,
        quotas: Arc<Quotas>,
        http: Arc<HttpClient>,
    ) -> Self {
        Self {
            limits: Limits::new(options, time_scale),
            quotas,
            throttles: options.throttles,
            check_signatures: options.check_signatures,
            faults,
            http,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_real_ones_unless_scaled_or_set_and_never_longer() {
        let secs = Duration::from_secs;
        let limits = |idle_max, life_max, integration_max| Limits { idle_max, life_max, integration_max };
        let none = GatewayOptions::default();
        assert_eq!(Limits::new(&none, 1.0), limits(secs(600), secs(7_200), secs(29)));
        assert_eq!(Limits::new(&none, 100.0), limits(secs(6), secs(72), secs(29)));
        let set = GatewayOptions { idle_timeout: Some(secs(2)), integration_timeout: Some(secs(1)), ..none.clone() };
        assert_eq!(Limits::new(&set, 100.0), limits(secs(2), secs(72), secs(1)));
        let day = Some(secs(86_400));
        let long = GatewayOptions { idle_timeout: day, connection_duration: day, integration_timeout: day, ..none };
        assert_eq!(Limits::new(&long, 1.0), limits(secs(600), secs(7_200), secs(29)));
    }
}

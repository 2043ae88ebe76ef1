//! What can be set of a gateway, and its values in the service.

use std::{sync::Arc, time::Duration};

use crate::{
    faults::Faults,
    rate::{Quotas, Rate},
};

/// How a gateway differs from one that is left as it is. Everything is off by default.
#[derive(Clone, Debug, Default)]
pub struct GatewayOptions {
    /// Time without any frame after which a connection is closed; instead of the service's own, and at most that.
    pub idle_timeout: Option<Duration>,
    /// Time after which a connection is closed in any case; instead of the service's own, and at most that.
    pub connection_duration: Option<Duration>,
    /// Longest that an integration may take; those whose own limit is shorter keep it.
    pub integration_timeout: Option<Duration>,
    /// Quota of handshakes.
    pub connect_rate: Option<Rate>,
    /// Quota of messages, calls of the management API and requests of the HTTP API together.
    pub request_rate: Option<Rate>,
    /// Whether routes are throttled as `DefaultRouteSettings` and `RouteSettings` of the template say.
    pub throttles: bool,
    /// Whether signatures have to be right, and not only there.
    pub check_signatures: bool,
}

impl GatewayOptions {
    /// Time that the service lets a connection be idle. Source: API Gateway quotas.
    pub const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(10 * 60);
    /// Time that the service lets a connection live. Source: API Gateway quotas.
    pub const CONNECTION_DURATION_MAX: Duration = Duration::from_secs(2 * 60 * 60);
    /// Time that the service gives an integration. Source: API Gateway quotas.
    pub const INTEGRATION_TIMEOUT_MAX: Duration = Duration::from_secs(29);
}

/// How long connections may stay and integrations may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Time without any frame after which a connection is closed.
    pub(super) idle_max: Duration,
    /// Time after which a connection is closed in any case.
    pub(super) life_max: Duration,
    /// Longest that an integration may take, whatever the template says.
    pub(super) integration_max: Duration,
}

impl Limits {
    /// The limits of connections pass `scale` times faster than the real ones, so that a cut after two hours can be seen
    /// in seconds; one that was set for itself passes as it was set.
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

/// The options as a gateway works with them.
#[derive(Debug)]
pub(crate) struct GatewaySettings {
    pub(super) limits: Limits,
    pub(super) quotas: Arc<Quotas>,
    pub(super) throttles: bool,
    pub(super) check_signatures: bool,
    pub(super) faults: Arc<Faults>,
}

impl GatewaySettings {
    /// GatewaySettings with the quotas of an account.
    pub(crate) fn new(options: &GatewayOptions, time_scale: f64, faults: Arc<Faults>, quotas: Arc<Quotas>) -> Self {
        Self {
            limits: Limits::new(options, time_scale),
            quotas,
            throttles: options.throttles,
            check_signatures: options.check_signatures,
            faults,
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

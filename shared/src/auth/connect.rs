//! What a connection is subscribed to when it opens.

use std::{net::IpAddr, str::FromStr};

use crate::{
    auth::{access::Regions, origin::AllowedOrigins},
    error::{ApiError, Code},
    model::{
        alert::{Format, InvalidFormat},
        audience::{Audience, ConnectionQuotaKey, InvalidRegion},
        connect_request::{ConnectRequest, ConnectionLimit},
        connection::Connection,
    },
};

/// What the handshake says, as text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Handshake<'a> {
    /// `region` of the query.
    pub region: Option<&'a str>,
    /// The header `X-Region`; the query wins.
    pub region_header: Option<&'a str>,
    /// `format` of the query.
    pub format: Option<&'a str>,
    /// The header `Origin`, which browsers send.
    pub origin: Option<&'a str>,
    /// The client's address, where the gateway told it.
    pub address: Option<IpAddr>,
    /// The subject of its token, if it brought one.
    pub user: Option<&'a str>,
}

/// What a handshake is measured by.
#[derive(Clone, Copy, Debug)]
pub struct ConnectPolicy<'a> {
    /// What those subscribe to who name no region.
    pub default_region: &'a DefaultRegion,
    /// Pages that may connect.
    pub origins: &'a AllowedOrigins,
    /// What this client may have.
    pub regions: &'a Regions,
    /// How many connections there may be from one place.
    pub limits: ConnectionLimits,
}

/// How many connections there may be at once, 0 for any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// From one address, or one network of IPv6.
    pub per_address: u32,
    /// Of one user, where tokens say who that is.
    pub per_user: u32,
}

/// What a client subscribes to that names no region: nothing, `ALL`, or one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRegion(pub Option<Audience>);

impl FromStr for DefaultRegion {
    type Err = InvalidRegion;

    fn from_str(text: &str) -> Result<Self, InvalidRegion> {
        if text.eq_ignore_ascii_case("none") {
            Ok(Self(None))
        } else {
            match text.parse()? {
                Audience::Region(region) if region.is_canary() => Err(InvalidRegion::Reserved),
                audience => Ok(Self(Some(audience))),
            }
        }
    }
}

impl ConnectRequest {
    /// Reads a handshake. Its subscription has the format `new_trending` unless it names another. If the token does not
    /// allow the template's default region, the connection starts without a subscription.
    ///
    /// # Errors
    ///
    /// The code for a page whose origin is not listed, an invalid region or format, and a region that the handshake
    /// names and the token does not allow.
    pub fn of(connection: Connection, handshake: Handshake<'_>, policy: ConnectPolicy<'_>) -> Result<Self, ApiError> {
        policy.origins.check(handshake.origin)?;
        let named = |text, field| {
            let audience = audience(text, field)?;
            policy.regions.check(std::slice::from_ref(&audience), field)?;
            Ok::<_, ApiError>(Some(audience))
        };
        let audience = match (handshake.region, handshake.region_header) {
            (Some(region), _) => named(region, "region")?,
            (None, Some(region)) => named(region, "X-Region")?,
            (None, None) => policy.default_region.0.clone().filter(|audience| policy.regions.allow(audience)),
        };
        let format = match (handshake.format, &audience) {
            (Some(format), _) => format
                .parse()
                .map_err(|error: InvalidFormat| ApiError::of_field(Code::InvalidField, "format", error.to_string()))?,
            (None, Some(_)) => Format::NewTrending,
            (None, None) => Format::ViralAlert,
        };
        let ConnectionLimits { per_address, per_user } = policy.limits;
        let bounds = [
            (handshake.address.map(ConnectionQuotaKey::of_address), per_address, "address"),
            (handshake.user.map(ConnectionQuotaKey::of_user), per_user, "user"),
        ];
        let bounds = bounds.into_iter().filter(|(_, max, _)| *max > 0);
        let bounds =
            bounds.filter_map(|(source, max, of)| Some(ConnectionLimit { source: source?, max, of })).collect();
        Ok(Self { connection, address: handshake.address, audience, format, bounds })
    }
}

fn audience(text: &str, field: &str) -> Result<Audience, ApiError> {
    text.parse().map_err(|error: InvalidRegion| ApiError::of_field(Code::InvalidRegion, field, error.to_string()))
}

#[cfg(test)]
mod tests {
    use clock::Timestamp;

    use super::*;

    /// What is subscribed to, and in which form.
    type Read = Result<(Option<String>, Format), (Code, Option<String>)>;

    fn opening(handshake: Handshake<'_>, default: &str) -> Read {
        opening_with(handshake, default, &Regions::all())
    }

    fn opening_with(handshake: Handshake<'_>, default: &str, regions: &Regions) -> Read {
        let id = "eHrdFcnvvHcCE-w=".parse().expect("an id");
        let connection = Connection { id, since: Timestamp::from_millis(0) };
        let default_region = default.parse().expect("a default");
        let origins = "https://a.example".parse().expect("origins");
        let limits = ConnectionLimits { per_address: 0, per_user: 0 };
        let policy = ConnectPolicy { default_region: &default_region, origins: &origins, regions, limits };
        ConnectRequest::of(connection, handshake, policy)
            .map(|opening| (opening.audience.map(|audience| audience.key().to_owned()), opening.format))
            .map_err(|refusal| (refusal.code, refusal.field))
    }

    #[test]
    fn the_query_wins_over_the_header_and_both_over_the_default() {
        let nothing = Handshake::default();
        let header = Handshake { region_header: Some("ae"), ..nothing };
        let both = Handshake { region: Some(" pl "), ..header };
        let named = |name: &str, format| Ok((Some(name.to_owned()), format));
        assert_eq!(opening(nothing, "NONE"), Ok((None, Format::ViralAlert)));
        assert_eq!(opening(nothing, "all"), named("ALL", Format::NewTrending));
        assert_eq!(opening(header, "ALL"), named("AE", Format::NewTrending));
        assert_eq!(opening(both, "ALL"), named("PL", Format::NewTrending));
        let format = Handshake { format: Some("viral_alert"), ..both };
        assert_eq!(opening(format, "NONE"), named("PL", Format::ViralAlert));
    }

    #[test]
    fn a_region_that_is_not_allowed_is_refused_where_it_is_named_and_left_out_where_it_is_the_default() {
        let regions = "PL,E*".parse().expect("patterns");
        let named = |region| Handshake { region: Some(region), ..Handshake::default() };
        let header = Handshake { region_header: Some("DE"), ..Handshake::default() };
        let subscribed = |name: &str| Ok((Some(name.to_owned()), Format::NewTrending));
        let forbidden = |field: &str| Err((Code::Forbidden, Some(field.to_owned())));
        assert_eq!(opening_with(named("eu"), "NONE", &regions), subscribed("EU"));
        assert_eq!(opening_with(named("DE"), "NONE", &regions), forbidden("region"));
        assert_eq!(opening_with(named("ALL"), "NONE", &regions), forbidden("region"));
        assert_eq!(opening_with(header, "NONE", &regions), forbidden("X-Region"));
        assert_eq!(opening_with(Handshake::default(), "PL", &regions), subscribed("PL"));
        assert_eq!(opening_with(Handshake::default(), "ALL", &regions), Ok((None, Format::ViralAlert)));
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        let page = |origin| Handshake { origin: Some(origin), ..Handshake::default() };
        assert!(opening(page("https://a.example"), "NONE").is_ok());
        assert_eq!(opening(page("https://b.example"), "NONE"), Err((Code::Forbidden, Some("Origin".to_owned()))));
    }

    #[test]
    fn what_cannot_be_is_refused_and_not_replaced_by_the_default() {
        let region = Handshake { region: Some(""), ..Handshake::default() };
        assert_eq!(opening(region, "ALL"), Err((Code::InvalidRegion, Some("region".to_owned()))));
        let header = Handshake { region_header: Some("@everyone"), ..Handshake::default() };
        assert_eq!(opening(header, "ALL"), Err((Code::InvalidRegion, Some("X-Region".to_owned()))));
        let format = Handshake { format: Some("xml"), ..Handshake::default() };
        assert_eq!(opening(format, "ALL"), Err((Code::InvalidField, Some("format".to_owned()))));
        assert!("P".parse::<DefaultRegion>().is_err());
        assert_eq!("x-canary".parse::<DefaultRegion>(), Err(InvalidRegion::Reserved));
    }
}

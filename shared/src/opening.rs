//! What a connection is subscribed to when it opens.

use std::{net::IpAddr, str::FromStr};

use crate::{
    alert::{Format, InvalidFormat},
    audience::{Audience, InvalidRegion},
    connection::ConnectionId,
    error::{Code, Refusal},
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
}

/// A connection that opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The new connection.
    pub connection: ConnectionId,
    /// The client's address, where the gateway told it.
    pub address: Option<IpAddr>,
    /// What it subscribes to at once, if anything.
    pub audience: Option<Audience>,
    /// The form in which alerts shall arrive, until a message says otherwise.
    pub format: Format,
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
            text.parse().map(|audience| Self(Some(audience)))
        }
    }
}

impl Opening {
    /// Reads a handshake. Whoever is subscribed by it receives `new_trending`, unless it names a format.
    pub fn of(
        connection: ConnectionId,
        address: Option<IpAddr>,
        handshake: Handshake<'_>,
        default_region: &DefaultRegion,
    ) -> Result<Self, Refusal> {
        let audience = match (handshake.region, handshake.region_header) {
            (Some(region), _) => Some(audience(region, "region")?),
            (None, Some(region)) => Some(audience(region, "X-Region")?),
            (None, None) => default_region.0.clone(),
        };
        let format = match (handshake.format, &audience) {
            (Some(format), _) => format
                .parse()
                .map_err(|error: InvalidFormat| Refusal::of_field(Code::InvalidField, "format", error.to_string()))?,
            (None, Some(_)) => Format::NewTrending,
            (None, None) => Format::ViralAlert,
        };
        Ok(Self { connection, address, audience, format })
    }
}

fn audience(text: &str, field: &str) -> Result<Audience, Refusal> {
    text.parse().map_err(|error: InvalidRegion| Refusal::of_field(Code::InvalidRegion, field, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(handshake: Handshake<'_>, default: &str) -> Result<(Option<String>, Format), (Code, Option<String>)> {
        let connection = "eHrdFcnvvHcCE-w=".parse().expect("an id");
        Opening::of(connection, None, handshake, &default.parse().expect("a default"))
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
    fn what_cannot_be_is_refused_and_not_replaced_by_the_default() {
        let region = Handshake { region: Some(""), ..Handshake::default() };
        assert_eq!(opening(region, "ALL"), Err((Code::InvalidRegion, Some("region".to_owned()))));
        let header = Handshake { region_header: Some("@everyone"), ..Handshake::default() };
        assert_eq!(opening(header, "ALL"), Err((Code::InvalidRegion, Some("X-Region".to_owned()))));
        let format = Handshake { format: Some("xml"), ..Handshake::default() };
        assert_eq!(opening(format, "ALL"), Err((Code::InvalidField, Some("format".to_owned()))));
        assert!("P".parse::<DefaultRegion>().is_err());
    }
}

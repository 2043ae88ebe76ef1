//! Which requests a browser sends on behalf of another site. What listens on a laptop is within reach of every page that is
//! open there.

use std::net::IpAddr;

use hyper::{
    HeaderMap,
    header::{HOST, ORIGIN},
    http::uri::Authority,
};

/// Refuses what another site makes a browser ask for, under whatever name.
///
/// A page of another site may post to this machine without being asked, and under a name of its own that it lets
/// point here (DNS rebinding) it may read the answers too. Addresses and `localhost` cannot be made to point elsewhere.
pub(crate) fn is_from_own_page(headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(HOST.as_str()).unwrap_or_default();
    if !is_fixed_name(host) {
        return Err("Use localhost or an IP address: other names can be made to point here");
    }
    if is_cross_site(headers) { Err("Only a page of this address may ask for this") } else { Ok(()) }
}

/// Whether another site makes a browser send this. AWS clients and other programs that are no browsers send neither header.
pub(crate) fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(HOST.as_str()).unwrap_or_default();
    match (text("sec-fetch-site"), text(ORIGIN.as_str())) {
        (Some(site), _) => !matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin.split_once("://").is_none_or(|(_, origin)| origin != host),
        (None, None) => false,
    }
}

/// Whether a `Host` is an IP address or `localhost`.
fn is_fixed_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    address.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn only_the_own_page_and_programs_may_ask() {
        let check = |headers: &[(&'static str, &'static str)], allowed: bool| {
            let pairs = headers.iter();
            let pairs = pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            assert_eq!(is_from_own_page(&pairs.collect()).is_ok(), allowed, "{headers:?}");
        };
        for host in ["127.0.0.1:8766", "localhost:8766", "localhost", "[::1]:8766", "192.168.1.7:8766", "a.localhost:1"]
        {
            check(&[("host", host)], true);
        }
        for host in ["evil.example:8766", "127.0.0.1.evil.example", "localhost.evil.example", "xlocalhost", "", "["] {
            check(&[("host", host)], false);
        }
        check(&[], false);
        let local = ("host", "localhost:8766");
        check(&[local, ("sec-fetch-site", "same-origin")], true);
        check(&[local, ("sec-fetch-site", "none")], true);
        check(&[local, ("sec-fetch-site", "cross-site")], false);
        check(&[local, ("sec-fetch-site", "same-site"), ("origin", "http://localhost:8766")], false);
        check(&[local, ("origin", "http://localhost:8766")], true);
        check(&[local, ("origin", "http://localhost:3000")], false);
        check(&[local, ("origin", "null")], false);
    }
}

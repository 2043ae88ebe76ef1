//! The guard of a listener, which refuses requests that web pages of other sites make a browser send.
//!
//! Every page that is open on a laptop can send requests to listeners on it. With a host name that points to this
//! machine (DNS rebinding) it can also read the responses. So every listener refuses requests of other sites, and
//! requests with a host name that somebody could point here. AWS clients and other programs send none of the headers
//! that mark a page.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use hyper::{
    Method, Response, StatusCode,
    header::{HOST, HeaderMap, HeaderValue, ORIGIN},
    http::{request::Parts, uri::Authority},
};
use serde_json::json;

use super::response::{Body, json};

/// An example for the error message.
const EXAMPLE: &str = "--allow-host my-laptop.local";

/// The name by which a container knows the machine that it runs on. Source: Docker Desktop, "Networking"; on Linux
/// `--add-host host.docker.internal:host-gateway` makes it.
pub(crate) const HOST_OF_CONTAINERS: &str = "host.docker.internal";

/// Names under which containers reach the machine that they run on: Docker's and Podman's. No site can have them: ICANN
/// has reserved `internal` for private use.
const OF_CONTAINERS: [&str; 2] = [HOST_OF_CONTAINERS, "host.containers.internal"];

/// Decides about the requests of one listener.
#[derive(Clone)]
pub(crate) struct Guard {
    /// Address of the listener.
    address: IpAddr,
    /// Further names under which requests may come in.
    names: Arc<[String]>,
    /// Requests that are allowed although a page of another site sends them.
    exemption: Option<Exemption>,
}

/// Returns whether a request is allowed even if a page of another site sends it.
type Exemption = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("address", &self.address).field("names", &self.names).finish_non_exhaustive()
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GuardError {
    /// It names no host, several hosts, or one that somebody could point here.
    Host(String),
    /// A page of another site made a browser send it.
    CrossSite,
}

impl fmt::Display for GuardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(
                f,
                "host {host:?} is not allowed: use localhost or an IP address of this machine, or allow the name, \
                 such as with {EXAMPLE}"
            ),
            Self::CrossSite => f.write_str("a page of another site may not send this request"),
        }
    }
}

impl Guard {
    /// Makes the guard of the listener at `address`. It refuses all requests of other sites. Besides hosts that can
    /// only be this machine, it allows `names`.
    pub(crate) fn new(address: SocketAddr, names: &[String]) -> Self {
        Self { address: address.ip(), names: names.into(), exemption: None }
    }

    /// Exempts the requests that `exempt` selects from the check for other sites: they have a check of their own, or
    /// another site can neither read the response nor change anything with the request.
    pub(crate) fn except(self, exempt: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        Self { exemption: Some(Arc::new(exempt)), ..self }
    }

    /// Checks whether a request may pass.
    pub(crate) fn check(&self, request: &Parts) -> Result<(), GuardError> {
        let mut hosts = request.headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok()).unwrap_or_default();
        if hosts.next().is_some() || !self.allows(host) {
            return Err(GuardError::Host(host.to_owned()));
        }
        let is_exempt = || self.exemption.as_ref().is_some_and(|exempt| exempt(request));
        if is_cross_site(&request.headers, host) && !is_exempt() { Err(GuardError::CrossSite) } else { Ok(()) }
    }

    /// Returns whether a `Host` can only be this machine, or is an allowed name.
    fn allows(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        if authority.as_str().contains('@') {
            return false;
        }
        let name = authority.host();
        if is_loopback(name) {
            return true;
        }
        if let Ok(address) = bare(name).parse::<IpAddr>() {
            // A listener of all addresses is reached at any address of this machine, and no page can point an address
            // elsewhere.
            return address.to_canonical() == self.address.to_canonical()
                || self.address.to_canonical().is_unspecified()
                || self.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        }
        is_of_containers(name) || self.names.iter().any(|allowed| name.eq_ignore_ascii_case(allowed))
    }
}

/// Returns whether a host name, without a port, is one under which only containers reach this machine.
pub(crate) fn is_of_containers(name: &str) -> bool {
    OF_CONTAINERS.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Responds to a refused request in the form that AWS clients understand.
pub(super) fn refused(refusal: &GuardError) -> Response<Body> {
    let kind = "AccessDeniedException";
    let mut response = json(StatusCode::FORBIDDEN, &json!({"__type": kind, "message": refusal.to_string()}));
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(kind));
    response
}

/// Returns whether the method only reads.
pub(crate) fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Returns whether another site made a browser send this.
fn is_cross_site(headers: &HeaderMap, host: &str) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match (text("sec-fetch-site"), text(ORIGIN.as_str())) {
        (Some(site), _) if !matches!(site, "same-origin" | "none") => true,
        (_, Some(origin)) => origin.split_once("://").is_none_or(|(_, origin)| !origin.eq_ignore_ascii_case(host)),
        (_, None) => false,
    }
}

/// Returns whether an `Origin` can only be a page that this machine serves, at any port.
pub(crate) fn is_loopback_origin(origin: &str) -> bool {
    let authority = ["http://", "https://"].iter().find_map(|scheme| origin.strip_prefix(scheme));
    let authority = authority.and_then(|authority| authority.parse::<Authority>().ok());
    authority.is_some_and(|authority| !authority.as_str().contains('@') && is_loopback(authority.host()))
}

/// Returns whether a host is `localhost`, a name below it, or a loopback address.
fn is_loopback(host: &str) -> bool {
    if let Ok(address) = bare(host).parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let is_below = |suffix: &str| host.len() > suffix.len() && ends_with(host, suffix);
    host.eq_ignore_ascii_case("localhost") || is_below(".localhost")
}

/// Strips the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn ends_with(name: &str, suffix: &str) -> bool {
    name.len()
        .checked_sub(suffix.len())
        .and_then(|at| name.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    fn head(headers: &[(&'static str, &str)]) -> Parts {
        let (mut head, ()) = hyper::Request::new(()).into_parts();
        for (name, value) in headers {
            head.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
        }
        head
    }

    fn guard(address: &str, names: &[&str]) -> Guard {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Guard::new(address.parse().expect("an address"), &names)
    }

    #[test]
    fn allowed_hosts_can_only_be_this_machine_or_are_allowed_by_name() {
        let check = |guard: &Guard, host: &str, allowed: bool| {
            assert_eq!(guard.check(&head(&[("host", host)])).is_ok(), allowed, "{host:?} at {guard:?}");
        };
        let local = guard("127.0.0.1:8766", &["laptop.local"]);
        for host in [
            "127.0.0.1:8766",
            "127.9.9.9",
            "localhost:8766",
            "LOCALHOST",
            "a.localhost:1",
            "[::1]:8766",
            "[::ffff:127.0.0.1]",
            "host.docker.internal:8766",
            "HOST.containers.internal",
            "laptop.local:8766",
        ] {
            check(&local, host, true);
        }
        let foreign = [
            "evil.example:8766",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "xlocalhost",
            ".localhost",
            "",
            "[",
            "localhost@evil.example",
            "evil.example@localhost",
            "host.docker.internal.evil.example",
            "other.internal",
            "laptop.local.evil.example",
        ];
        for host in foreign {
            check(&local, host, false);
        }
        check(&local, "192.168.1.7:8766", false);
        check(&guard("192.168.1.7:8766", &[]), "192.168.1.7:8766", true);
        for all in ["0.0.0.0:8766", "[::]:8766"] {
            check(&guard(all, &[]), "192.168.1.7:8766", true);
            check(&guard(all, &[]), "evil.example", false);
        }
        assert_eq!(local.check(&head(&[])), Err(GuardError::Host(String::new())));
        let twice = head(&[("host", "localhost"), ("host", "evil.example")]);
        assert!(local.check(&twice).is_err(), "it is ambiguous which of them counts");
    }

    #[test]
    fn a_loopback_origin_can_only_be_this_machine() {
        let own = [
            "http://localhost:5173",
            "https://localhost",
            "http://LOCALHOST:1",
            "http://app.localhost:3000",
            "http://127.0.0.1:5173",
            "https://127.9.9.9",
            "http://[::1]:5173",
            "http://[::ffff:127.0.0.1]:1",
        ];
        for origin in own {
            assert!(is_loopback_origin(origin), "{origin}");
        }
        let foreign = [
            "https://evil.example",
            "http://localhost.evil.example:5173",
            "http://127.0.0.1.evil.example",
            "http://evil.example@localhost",
            "http://localhost@evil.example",
            "http://xlocalhost",
            "http://.localhost",
            "http://192.168.1.7:5173",
            "http://0.0.0.0:5173",
            "http://localhost/",
            "ftp://localhost",
            "file://",
            "localhost:5173",
            "null",
            "",
        ];
        for origin in foreign {
            assert!(!is_loopback_origin(origin), "{origin}");
        }
    }

    #[test]
    fn requests_of_another_site_are_refused_unless_they_are_exempt() {
        let guard = guard("127.0.0.1:8766", &[]);
        let exempting = guard.clone().except(|request| request.headers.contains_key("x-open"));
        let local = ("host", "localhost:8766");
        for headers in [
            vec![local],
            vec![local, ("sec-fetch-site", "same-origin"), ("origin", "http://localhost:8766")],
            vec![local, ("sec-fetch-site", "none")],
            vec![local, ("origin", "http://localhost:8766")],
        ] {
            assert_eq!(guard.check(&head(&headers)), Ok(()), "{headers:?}");
        }
        for headers in [
            vec![local, ("sec-fetch-site", "cross-site")],
            vec![local, ("sec-fetch-site", "same-site"), ("origin", "http://localhost:8766")],
            vec![local, ("sec-fetch-site", "same-origin"), ("origin", "http://evil.example")],
            vec![local, ("origin", "http://localhost:3000")],
            vec![local, ("origin", "https://evil.example")],
            vec![local, ("origin", "null")],
            vec![local, ("origin", "")],
        ] {
            assert_eq!(guard.check(&head(&headers)), Err(GuardError::CrossSite), "{headers:?}");
            let mut opened = headers.clone();
            opened.push(("x-open", "1"));
            assert_eq!(exempting.check(&head(&opened)), Ok(()), "{opened:?}");
        }
        let rebound = [("host", "evil.example"), ("origin", "http://evil.example"), ("x-open", "1")];
        assert!(
            matches!(exempting.check(&head(&rebound)), Err(GuardError::Host(_))),
            "an exemption does not cover other hosts"
        );
    }
}

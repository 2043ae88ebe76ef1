//! The addresses of Event APIs, as the program prints them and as variables of functions have them.

use std::net::SocketAddr;

use crate::lambda::process::LocalHost;

/// The path of publishes.
pub(super) const PUBLISH: &str = "/event";

/// The path of sockets.
pub(super) const REALTIME: &str = "/event/realtime";

/// The addresses of an Event API, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventApiAddress {
    /// The logical id of the API.
    pub api: String,
    /// Where it is published, after the scheme: `127.0.0.1:8766/event`.
    pub http: String,
    /// Where clients connect, after the scheme: `127.0.0.1:8766/event/realtime`.
    pub realtime: String,
}

/// The addresses of Event APIs with these logical ids, at a host and port.
pub(crate) fn addresses<'a>(apis: impl Iterator<Item = &'a str>, host: &str) -> Vec<EventApiAddress> {
    let address = |(index, name): (usize, &str)| {
        let base = format!("{host}{}", below(index, name));
        EventApiAddress {
            api: name.to_owned(),
            http: format!("{base}{PUBLISH}"),
            realtime: format!("{base}{REALTIME}"),
        }
    };
    apis.enumerate().map(address).collect()
}

/// What follows the host name of the emulator in the address of an API: nothing for the first one, and the names of
/// further ones.
fn below(index: usize, name: &str) -> String {
    if index == 0 { String::new() } else { format!("/{name}") }
}

/// Where the host names of Event APIs in the cloud are here: each API has its logical id, and its HTTP and its realtime
/// host name. Clients, which need the latter, reach it over TLS at `tls_host`, if there is one: a page that came over
/// TLS may open no other sockets. Functions publish without it, as they may not trust the certificate.
pub(crate) fn local_hosts<'a>(
    apis: impl Iterator<Item = (&'a str, (String, String))>,
    http: SocketAddr,
    tls_host: Option<&str>,
) -> Vec<LocalHost> {
    let of_api = |(index, (name, (publish, realtime))): (usize, (&str, (String, String)))| {
        let path = below(index, name);
        let of_clients = tls_host.map_or_else(|| http.to_string(), |host| format!("{host}:{}", http.port()));
        [
            LocalHost { cloud: publish, here: format!("{http}{path}"), is_secured: false },
            LocalHost { cloud: realtime, here: format!("{of_clients}{path}"), is_secured: tls_host.is_some() },
        ]
    };
    apis.enumerate().flat_map(of_api).collect()
}

//! Headers that are for one connection alone. The gateway frames each response and each request to a server itself.
//!
//! Source: RFC 9110, 7.6.1; API Gateway developer guide, "Amazon API Gateway important notes".

use hyper::{
    HeaderMap,
    header::{CONNECTION, CONTENT_LENGTH, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};

/// Returns whether a header says how one connection is used, or how long the body is.
pub(super) fn is_of_connection(name: &HeaderName) -> bool {
    [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(name)
        || name == "keep-alive"
        || name.as_str().starts_with("proxy-")
}

/// The headers that are passed on: not those of the connection, nor what `Connection` names.
pub(super) fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<&str> = named.flat_map(|names| names.split(',')).map(str::trim).collect();
    let is_kept = |name: &HeaderName| {
        !is_of_connection(name) && !named.iter().any(|named| named.eq_ignore_ascii_case(name.as_str()))
    };
    let kept = headers.iter().filter(|(name, _)| is_kept(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn what_is_for_one_connection_is_not_passed_on() {
        let all = [
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("content-length", "7"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-own", "2"),
        ];
        let pair = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let kept = end_to_end(&all.into_iter().map(pair).collect());
        assert_eq!(kept.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-own"]);
    }
}

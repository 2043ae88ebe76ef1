//! Query strings.

use percent_encoding::percent_decode_str;

/// Decodes the parameters of a query, in their order.
pub(crate) fn query(query: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let pairs =
            |text: &str| query(text).into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        assert_eq!(pairs("region=AE&x=a%20b+c&&flag&y=%ff"), ["region=AE", "x=a b c", "flag=", "y=\u{fffd}"]);
        assert!(query("").is_empty());
    }
}

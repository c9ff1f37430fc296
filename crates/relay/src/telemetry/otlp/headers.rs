//! OTEL_EXPORTER_OTLP_HEADERS: `name=value` separated by commas, values percent-encoded.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// The headers that `variable` holds. What is no header is passed over, as the SDK does for spans.
pub fn parse(variable: &str) -> HeaderMap {
    let pairs = variable.split(',').filter_map(|pair| pair.split_once('='));
    let headers = pairs.filter_map(|(name, value)| {
        let name = HeaderName::try_from(name.trim()).ok()?;
        let mut value = HeaderValue::from_bytes(&decoded(value.trim())).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    });
    headers.collect()
}

/// A `%` that no byte follows stands for itself.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().iter();
    let mut all = Vec::with_capacity(text.len());
    while let Some(&byte) = bytes.next() {
        let ahead = bytes.as_slice().get(..2);
        match ahead.filter(|_| byte == b'%').and_then(hex) {
            Some(decoded) => {
                all.push(decoded);
                bytes.nth(1);
            }
            None => all.push(byte),
        }
    }
    all
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digits = digits.iter().map(|digit| char::from(*digit).to_digit(16));
    let value = digits.reduce(|high, low| Some(high? << 4 | low?))??;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_percent_encoded() {
        let headers = parse("Authorization=Basic%20dTpw, x-tenant = a=b ,rate=5%,");
        assert_eq!(headers.len(), 3);
        for (name, value) in [
            ("authorization", "Basic dTpw"),
            ("x-tenant", "a=b"),
            ("rate", "5%"),
        ] {
            assert_eq!(headers.get(name), Some(&HeaderValue::from_static(value)));
        }
    }

    #[test]
    fn what_is_no_header_is_passed_over() {
        assert!(parse("").is_empty());
        assert!(parse("name,a b=c,x=a%0Ab").is_empty());
    }
}

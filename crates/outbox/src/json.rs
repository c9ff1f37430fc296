//! What Postgres will make of a JSON text.

/// What a JSON text takes as jsonb's text form, which is what the relay publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measure {
    /// Length: jsonb puts a space behind each `:` and `,`, and drops all others (`JsonbToCString`).
    /// Numbers with exponents may grow beyond this, escapes may shrink.
    pub bytes: usize,
    /// Whether it holds the escape of U+0000, which jsonb can't store.
    pub has_nul: bool,
}

/// Measures valid JSON.
pub(crate) fn measure(json: &str) -> Measure {
    let mut measure = Measure {
        bytes: 0,
        has_nul: false,
    };
    let mut rest = json.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {}
            b':' | b',' => measure.bytes += 2,
            b'"' => rest = string(rest, &mut measure),
            _ => measure.bytes += 1,
        }
    }
    measure
}

/// Measures a string from behind its first quote; returns what follows it.
fn string<'a>(mut rest: &'a [u8], measure: &mut Measure) -> &'a [u8] {
    let from = rest.len();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'"' => break,
            b'\\' => {
                measure.has_nul |= rest.starts_with(b"u0000");
                rest = rest.get(1..).unwrap_or_default();
            }
            _ => {}
        }
    }
    measure.bytes += 1 + from - rest.len();
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, jsonb: &str) {
        let expected = Measure {
            bytes: jsonb.len(),
            has_nul: false,
        };
        assert_eq!(measure(json), expected, "{json}");
    }

    #[test]
    fn jsonb_is_written_with_one_space_behind_colon_and_comma() {
        check(
            r#"{"a":1,"b":[true,null]}"#,
            r#"{"a": 1, "b": [true, null]}"#,
        );
        check(" [ 1 ,\n2 ] ", "[1, 2]");
        check(r#""a:b, c\"d,\\""#, r#""a:b, c\"d,\\""#);
        check(r#"{"a\\":":"}"#, r#"{"a\\": ":"}"#);
        check("\"ä\"", "\"ä\"");
        check("", "");
    }

    #[test]
    fn an_escaped_nul_is_found_and_nothing_like_it() {
        let has_nul = |json| measure(json).has_nul;
        assert!(has_nul(r#"{"a":"\u0000"}"#));
        assert!(has_nul(r#""\\\u0000""#));
        assert!(!has_nul(r#""\\u0000""#));
        assert!(!has_nul(r#""u0000 \u0001""#));
    }
}

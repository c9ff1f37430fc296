//! JSON strings.

/// Whether `text` stands in a JSON string as it is (RFC 8259, section 7).
pub(crate) fn is_plain(text: &str) -> bool {
    !text.bytes().any(must_escape)
}

/// Appends `text` as the inside of a JSON string.
pub(crate) fn escape(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(must_escape) {
        // What must be escaped is ASCII, so both cuts are at characters.
        let (plain, special) = rest.split_at(at);
        let (special, after) = special.split_at(1);
        out.push_str(plain);
        special.bytes().for_each(|byte| escape_byte(byte, out));
        rest = after;
    }
    out.push_str(rest);
}

fn must_escape(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

fn escape_byte(byte: u8, out: &mut String) {
    match byte {
        b'"' => out.push_str("\\\""),
        b'\\' => out.push_str("\\\\"),
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        other => {
            out.push_str("\\u00");
            for nibble in [other >> 4, other & 0xF] {
                out.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let mut out = String::new();
        escape(text, &mut out);
        assert_eq!(out, expected);
        assert_eq!(is_plain(text), text == expected);
    }

    #[test]
    fn only_what_must_be_is_escaped() {
        check("", "");
        check(
            "plain / ünïcode \u{2028} \u{7f}",
            "plain / ünïcode \u{2028} \u{7f}",
        );
        check("a\"b\\c", r#"a\"b\\c"#);
        check("\n\r\t", r"\n\r\t");
        check("\0\u{1f}\u{8}", r"\u0000\u001f\u0008");
        check("\"ü\"", r#"\"ü\""#);
    }

    proptest! {
        #[test]
        fn a_parser_reads_the_text_back(text in any::<String>()) {
            let mut out = String::from("\"");
            escape(&text, &mut out);
            out.push('"');
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }
}

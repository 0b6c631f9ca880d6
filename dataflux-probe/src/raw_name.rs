//! Names that the host gives as bytes, as the text that stands in series and metadata.

use std::borrow::Cow;

/// A name as text: what is UTF-8 as it is, every other byte as `\xff`. Names that differ remain different, unless one has
/// such an escape in it already, letter by letter. Whatever names the same thing in two places goes through here in both.
pub(crate) fn shown(name: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(name) {
        return text.into();
    }
    let mut text = String::with_capacity(name.len() + 3);
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        // None of these bytes is ASCII.
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_told_apart() {
        assert_eq!(shown(b"caf\xc3\xa9 \xe9\xff\n"), "caf\u{e9} \\xe9\\xff\n");
        // The beginning of a character, a surrogate, and a character written too long.
        assert_eq!(shown(b"\xe2\x82x"), r"\xe2\x82x");
        assert_eq!(shown(b"\xed\xa0\x80"), r"\xed\xa0\x80");
        assert_eq!(shown(b"\xc0\xaf"), r"\xc0\xaf");
        // A replacement character that somebody wrote is text as any other.
        assert_ne!(shown("\u{fffd}".as_bytes()), shown(b"\xff"));
    }

    /// Names of few different bytes, so that many of them are alike: no backslash, and much that is not UTF-8.
    fn raw() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop::sample::select(b"axf/\xc3\xa9\xe2\x82\xac\xff\xfe".as_slice());
        prop::collection::vec(byte, 0..5)
    }

    proptest! {
        #[test]
        fn text_stays_as_it_is(text: String) {
            prop_assert_eq!(&shown(text.as_bytes()), &text);
        }

        #[test]
        fn names_without_a_backslash_stay_different(one in raw(), other in raw()) {
            prop_assert_eq!(shown(&one) == shown(&other), one == other);
        }

        #[test]
        fn no_byte_is_lost(name in prop::collection::vec(any::<u8>().prop_filter("it begins an escape", |&byte| byte != b'\\'), 0..40)) {
            let text = shown(&name);
            let mut parts = text.split(r"\x");
            let mut back = parts.next().unwrap_or_default().as_bytes().to_vec();
            for part in parts {
                back.push(u8::from_str_radix(&part[..2], 16).unwrap());
                back.extend(part[2..].bytes());
            }
            prop_assert_eq!(back, name);
        }
    }
}

//! A bearer token: whose it is and until when, as far as it says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::secrets::Secret;

/// A token that does not say when it ends is read again after less than this.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(300);

/// A bearer token, usually a JWT (RFC 7519), of which the claims `sub` and `exp` are of interest.
#[derive(Debug)]
pub(in super::super) struct Token {
    secret: Secret,
    subject: Option<String>,
    expires_ms: Option<i64>,
}

impl Token {
    pub(super) fn new(secret: Secret) -> Self {
        let claims = claims(secret.expose());
        let claim = |name: &str| claims.as_ref()?.get(name).cloned();
        // Seconds, with a fraction if the issuer likes.
        let expires = claim("exp").and_then(|value| value.as_f64());
        #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
        let expires_ms = expires.map(|seconds| (seconds * 1000.0) as i64);
        Self {
            subject: claim("sub").and_then(|value| value.as_str().map(str::to_owned)),
            expires_ms,
            secret,
        }
    }

    /// As librdkafka takes it.
    pub(in super::super) fn expose(&self) -> (String, String, i64) {
        let principal = self.subject.as_deref().unwrap_or("dataflux-probe");
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let soon = now.unwrap_or_default() + UNKNOWN_LIFETIME;
        let soon = i64::try_from(soon.as_millis()).unwrap_or(i64::MAX);
        (
            self.secret.expose().to_owned(),
            principal.replace('\0', ""),
            self.expires_ms.unwrap_or(soon),
        )
    }

    /// The text without the token.
    pub(in super::super) fn hide(&self, text: &str) -> String {
        self.secret.hide(text)
    }
}

/// The middle part of a JWT.
fn claims(token: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&base64url(payload)?).ok()
}

/// RFC 4648, section 5, with or without padding.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut held, mut bits) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"alg":"none"}`, `{"sub":"probe","exp":1767225600}`.
    const UNSECURED: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJwcm9iZSIsImV4cCI6MTc2NzIyNTYwMH0.";

    fn exposed(text: &str) -> (String, String, i64) {
        Token::new(Secret::new(text.to_owned())).expose()
    }

    #[test]
    fn a_jwt_says_whose_it_is_and_until_when() {
        let expected = (UNSECURED.to_owned(), "probe".to_owned(), 1_767_225_600_000);
        assert_eq!(exposed(UNSECURED), expected);
    }

    #[test]
    fn any_other_token_is_read_again_soon() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        for token in ["opaque", "a.!!!.c", "a.e30.c", "..", "a.W10.c"] {
            let (_, principal, expires) = exposed(token);
            assert_eq!(principal, "dataflux-probe", "{token}");
            let left = u128::try_from(expires).unwrap() - now.as_millis();
            assert!((299_000..=330_000).contains(&left), "{token}: {left}");
        }
    }

    #[test]
    fn base64url_is_read_with_and_without_padding() {
        for (text, bytes) in [
            ("", "".as_bytes()),
            ("Zg", b"f"),
            ("Zg==", b"f"),
            ("Zm9v", b"foo"),
            ("Zm9vYg", b"foob"),
            ("-_8", &[0xfb, 0xff]),
        ] {
            assert_eq!(base64url(text).as_deref(), Some(bytes), "{text}");
        }
        assert_eq!(base64url("+/"), None);
    }
}

//! Values with units, as they stand in the configuration: `"10s"`, `"16MiB"`.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// A length of time with a unit: `"100ms"`, `"10s"`, `"1m 30s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer).map_err(|error| {
            D::Error::custom(format!("not a time like \"10s\" or \"100ms\": {error}"))
        })?;
        humantime::parse_duration(&text).map(Self).map_err(|error| {
            D::Error::custom(format!(
                "`{text}` is not a time like \"10s\" or \"100ms\": {error}"
            ))
        })
    }
}

/// A number of bytes with a unit, or a plain number: `"16MiB"`, `"1GB"`, `65536`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Size).map(Self)
    }
}

struct Size;

impl Visitor<'_> for Size {
    type Value = u64;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a size like \"16MiB\"")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        let wrong = |_| E::custom(format!("not a size like \"16MiB\": {number}"));
        u64::try_from(number).map_err(wrong)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        let size = text.parse::<bytesize::ByteSize>();
        let wrong = |_| E::custom(format!("not a size like \"16MiB\": {text:?}"));
        size.map(|size| size.as_u64()).map_err(wrong)
    }
}

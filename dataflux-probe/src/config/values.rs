//! Values with units, as they stand in the configuration: `"10s"`, `"16MiB"`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// A length of time with a unit: `"100ms"`, `"10s"`, `"1m 30s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
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
        bytesize::ByteSize::deserialize(deserializer)
            .map(|size| Self(size.as_u64()))
            .map_err(|error| D::Error::custom(format!("not a size like \"16MiB\": {error}")))
    }
}

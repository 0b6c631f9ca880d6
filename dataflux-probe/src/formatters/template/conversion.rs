//! What a placeholder gives, and what conversions make of it. No conversion rounds unless it is called so.

use std::borrow::Cow;

use crate::{
    formatters::{numbers, rfc3339, text::scale::amount},
    model::{Unit, WallTime},
};

/// What a placeholder gives of a series.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Given<'a> {
    /// The series has no such thing, or it cannot be converted so.
    Missing,
    /// A whole number divided by ten so many times.
    Whole {
        value: u64,
        places: u32,
        unit: Option<Unit>,
    },
    Float {
        value: f64,
        unit: Option<Unit>,
    },
    Time(WallTime),
    Text(Cow<'a, str>),
}

/// What a placeholder or conversion gives, as far as that is known before there is a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Number,
    Time,
    Text,
}

impl Type {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Time => "a time",
            Self::Text => "text",
        }
    }
}

/// What is made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conversion {
    /// A length of time: so many places of nanoseconds are a fraction.
    Places(u32),
    /// Seconds, joules; what is in a base unit stays.
    Base,
    /// Bytes: by so many bits.
    Shift(i32),
    /// Exactly so many places.
    Round(u32),
    /// Three digits and a unit that fits.
    Human,
    /// A time since 1970-01-01 UTC, of which this many nanoseconds are one; the rest is cut off.
    Unix(i64),
    Json,
    Csv,
    Word,
    Lower,
    Upper,
}

const CONVERSIONS: [(&str, Conversion); 18] = [
    ("seconds", Conversion::Places(9)),
    ("milliseconds", Conversion::Places(6)),
    ("microseconds", Conversion::Places(3)),
    ("base", Conversion::Base),
    ("kib", Conversion::Shift(10)),
    ("mib", Conversion::Shift(20)),
    ("gib", Conversion::Shift(30)),
    ("round", Conversion::Round(0)),
    ("human", Conversion::Human),
    ("unix", Conversion::Unix(1_000_000_000)),
    ("unix_ms", Conversion::Unix(1_000_000)),
    ("unix_us", Conversion::Unix(1_000)),
    ("unix_ns", Conversion::Unix(1)),
    ("json", Conversion::Json),
    ("csv", Conversion::Csv),
    ("word", Conversion::Word),
    ("lower", Conversion::Lower),
    ("upper", Conversion::Upper),
];

/// More places than that, no number has.
const MOST_PLACES: u32 = 15;

impl Conversion {
    /// By its name; `round` may have a number of places.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, places) = match text.split_once(':') {
            Some((name, places)) => (name, Some(places)),
            None => (text, None),
        };
        let known = CONVERSIONS.iter().find(|(known, _)| *known == name);
        let Some((_, conversion)) = known else {
            let known: Vec<_> = CONVERSIONS.iter().map(|(name, _)| *name).collect();
            let known = known.join(", ");
            return Err(format!("unknown conversion `{name}`; known: {known}"));
        };
        match (conversion, places) {
            (Self::Round(_), Some(places)) => match places.parse() {
                Ok(places) if places <= MOST_PLACES => Ok(Self::Round(places)),
                _ => Err(format!(
                    "`{places}` is no number of places, 0 to {MOST_PLACES}"
                )),
            },
            (_, Some(_)) => Err(format!("`{name}` takes no number")),
            (conversion, None) => Ok(*conversion),
        }
    }

    /// What it is for.
    pub(super) const fn takes(self) -> &'static str {
        match self {
            Self::Places(_) | Self::Base | Self::Shift(_) | Self::Round(_) | Self::Human => {
                "numbers"
            }
            Self::Unix(_) => "times",
            Self::Json | Self::Csv | Self::Word | Self::Lower | Self::Upper => "anything",
        }
    }

    /// What it gives of this; `None` if it is not for that.
    pub(super) const fn gives(self, of: Type) -> Option<Type> {
        match (self, of) {
            (Self::Places(_) | Self::Base | Self::Shift(_) | Self::Round(_), Type::Number)
            | (Self::Unix(_), Type::Time) => Some(Type::Number),
            (Self::Human, Type::Number)
            | (Self::Json | Self::Csv | Self::Word | Self::Lower | Self::Upper, _) => {
                Some(Type::Text)
            }
            _ => None,
        }
    }

    pub(super) fn of(self, given: Given<'_>) -> Given<'_> {
        match (self, given) {
            (_, Given::Missing) => Given::Missing,
            (Self::Places(by), given) => match given.unit() {
                Some(Unit::Nanoseconds) => given.divided(by),
                _ => Given::Missing,
            },
            (Self::Base, given) => match given.unit() {
                Some(Unit::Nanoseconds) => given.divided(9),
                Some(Unit::Microjoules) => given.divided(6),
                _ => given,
            },
            (Self::Shift(bits), given) => match (given.unit(), given.float()) {
                (Some(Unit::Bytes), Some(value)) => Given::Float {
                    value: value / 2f64.powi(bits),
                    unit: None,
                },
                _ => Given::Missing,
            },
            (Self::Round(to), given) => given.rounded(to),
            (Self::Human, given) => match given.float() {
                Some(value) => {
                    Given::Text(amount(given.unit().unwrap_or(Unit::Count), value).into())
                }
                None => Given::Missing,
            },
            (Self::Unix(nanoseconds), Given::Time(time)) => {
                let value = time.div_euclid(nanoseconds);
                match u64::try_from(value) {
                    Ok(value) => Given::whole(value, None),
                    Err(_) => Given::Text(value.to_string().into()),
                }
            }
            (Self::Unix(_), _) => Given::Missing,
            (conversion, given) => Given::Text(conversion.text(&given.text()).into()),
        }
    }

    /// Of conversions of text.
    fn text(self, text: &str) -> String {
        match self {
            Self::Json => serde_json::Value::from(text).to_string(),
            Self::Csv if text.contains([',', '"', ' ', '\r', '\n']) => {
                format!("\"{}\"", text.replace('"', "\"\""))
            }
            Self::Word => {
                let plain =
                    |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
                text.replace(|character| !plain(character), "_")
            }
            Self::Lower => text.to_lowercase(),
            Self::Upper => text.to_uppercase(),
            _ => text.to_owned(),
        }
    }
}

impl Given<'_> {
    pub(super) const fn whole(value: u64, unit: Option<Unit>) -> Self {
        Self::Whole {
            value,
            places: 0,
            unit,
        }
    }

    const fn unit(&self) -> Option<Unit> {
        match self {
            Self::Whole { unit, .. } | Self::Float { unit, .. } => *unit,
            _ => None,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "for what has fewer digits in the end"
    )]
    fn float(&self) -> Option<f64> {
        match *self {
            Self::Whole { value, places, .. } => {
                Some(value as f64 / 10f64.powi(places.cast_signed()))
            }
            Self::Float { value, .. } => Some(value),
            _ => None,
        }
    }

    /// By a power of ten, without a unit from there on.
    fn divided(self, by: u32) -> Self {
        match self {
            Self::Whole { value, places, .. } => Self::Whole {
                value,
                places: places + by,
                unit: None,
            },
            Self::Float { value, .. } => Self::Float {
                value: value / 10f64.powi(by.cast_signed()),
                unit: None,
            },
            given => given,
        }
    }

    /// With exactly so many places.
    fn rounded(self, to: u32) -> Self {
        match self {
            Self::Whole { value, places, .. } => {
                let value = u128::from(value);
                let value = if places > to {
                    let step = 10u128.pow(places - to);
                    (value + step / 2) / step
                } else {
                    value * 10u128.pow(to - places)
                };
                Self::Text(decimal(value, to).into())
            }
            Self::Float { value, .. } => Self::Text(format!("{value:.*}", to as usize).into()),
            _ => Self::Missing,
        }
    }

    /// Appends it, every digit of a number.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Missing => {}
            Self::Whole {
                value, places: 0, ..
            } => numbers::unsigned(*value, out),
            Self::Whole { value, places, .. } => {
                let text = decimal((*value).into(), *places);
                out.extend_from_slice(text.trim_end_matches('0').trim_end_matches('.').as_bytes());
            }
            Self::Float { value, .. } => numbers::float(*value, out),
            Self::Time(time) => out.extend_from_slice(&rfc3339::text(*time)),
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
        }
    }

    fn text(&self) -> String {
        let mut text = Vec::new();
        self.write(&mut text);
        String::from_utf8(text).expect("texts and digits are UTF-8")
    }
}

/// A number with a point before its last digits, if there are to be any.
fn decimal(value: u128, places: u32) -> String {
    if places == 0 {
        return value.to_string();
    }
    let one = 10u128.pow(places);
    let (whole, part) = (value / one, value % one);
    format!("{whole}.{part:0width$}", width = places as usize)
}

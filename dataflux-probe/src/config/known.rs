//! The keys that a plugin's config struct knows, so that an error can name them together with the common ones.

use std::fmt;

use serde::{
    Deserializer, de,
    de::{DeserializeOwned, Visitor},
    forward_to_deserialize_any,
};

/// The fields of `T`; `None` for a map, which takes any key.
pub(super) fn keys<T: DeserializeOwned>() -> Option<&'static [&'static str]> {
    match T::deserialize(Asked) {
        Err(Answer(keys)) => keys,
        Ok(_) => None,
    }
}

/// A deserializer that has no value: it only hears which fields are asked for.
struct Asked;

/// Every question ends in this.
#[derive(Debug)]
struct Answer(Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Asked {
    type Error = Answer;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Answer> {
        Err(Answer(None))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Answer> {
        Err(Answer(Some(fields)))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("only the fields were asked for")
    }
}

impl std::error::Error for Answer {}

impl de::Error for Answer {
    fn custom<M: fmt::Display>(_: M) -> Self {
        Self(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Example {
        size: u64,
        when_full: String,
    }

    #[derive(serde::Deserialize)]
    struct Nothing {}

    #[test]
    fn the_fields_of_a_struct_are_known_and_those_of_a_map_are_not() {
        assert_eq!(keys::<Example>(), Some(["size", "when_full"].as_slice()));
        assert_eq!(keys::<Nothing>(), Some([].as_slice()));
        assert_eq!(keys::<BTreeMap<String, String>>(), None);
    }
}

//! A deserializer over `serde_json::Value` whose errors know where they are. Never coerces one type into another.

use super::nearest;
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde_json::Value;
use std::fmt;

/// A value of a configuration that is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrictError {
    /// The full path of the key, `ipam.coolDownSeconds`, `pools[2].cidr`.
    pub path: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl fmt::Display for StrictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.problem) } else { write!(f, "{}: {}", self.path, self.problem) }
    }
}

impl std::error::Error for StrictError {}

impl StrictError {
    /// The same error, with `step` (`.key` or `[index]`) in front of its path.
    fn under(mut self, step: &str) -> Self {
        self.path.insert_str(0, step);
        self
    }
}

impl de::Error for StrictError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: String::new(), problem: message.to_string() }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let problem = match nearest(field, expected) {
            Some(right) => format!("no such key; did you mean `{right}`?"),
            None if expected.is_empty() => "no such key; no keys are taken here".to_owned(),
            None => format!("no such key; there are: {}", expected.join(", ")),
        };
        Self { path: format!(".{field}"), problem }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let hint = nearest(variant, expected).map(|right| format!("; did you mean `{right}`?")).unwrap_or_default();
        Self::custom(format_args!("`{variant}` is none of {}{hint}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { path: format!(".{field}"), problem: "is missing and has no default".to_owned() }
    }
}

/// Reads a value strictly. `root` is the path of the value itself, empty for a whole document.
///
/// # Errors
/// [`StrictError`] for the first key or value that does not fit.
pub fn from_value<T: DeserializeOwned>(value: Value, root: &str) -> Result<T, StrictError> {
    T::deserialize(Strict(value)).map_err(|error| {
        let path = format!("{root}{}", error.path);
        StrictError { path: path.trim_start_matches('.').to_owned(), ..error }
    })
}

struct Strict(Value);

impl<'de> IntoDeserializer<'de, StrictError> for Strict {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Strict {
    type Error = StrictError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, StrictError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::String(value) => visitor.visit_string(value),
            Value::Number(value) => match (value.as_u64(), value.as_i64(), value.as_f64()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (_, _, Some(value)) => visitor.visit_f64(value),
                _ => Err(de::Error::custom("is a number out of range")),
            },
            Value::Array(values) => visitor.visit_seq(Elements { next: 0, values: values.into_iter() }),
            Value::Object(values) => visitor.visit_map(Entries { value: None, entries: values.into_iter() }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, StrictError> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, StrictError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, StrictError> {
        match self.0 {
            Value::String(variant) => visitor.visit_enum(variant.into_deserializer()),
            Value::Object(map) if map.len() == 1 => {
                let step = map.keys().next().map(|key| format!(".{key}")).unwrap_or_default();
                let mut entries = map.into_iter();
                let Some((variant, value)) = entries.next() else { return Err(de::Error::custom("is empty")) };
                let access = de::value::MapAccessDeserializer::new(OneEntry { key: Some(variant), value: Some(value) });
                visitor.visit_enum(access).map_err(|error: StrictError| error.under(&step))
            }
            _ => Err(de::Error::custom(format_args!("is no {name}: write one of {}", variants.join(", ")))),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Elements {
    next: usize,
    values: std::vec::IntoIter<Value>,
}

impl<'de> de::SeqAccess<'de> for Elements {
    type Error = StrictError;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, StrictError> {
        let Some(value) = self.values.next() else { return Ok(None) };
        let step = format!("[{}]", self.next);
        self.next += 1;
        seed.deserialize(Strict(value)).map(Some).map_err(|error| error.under(&step))
    }
}

struct Entries {
    value: Option<(String, Value)>,
    entries: serde_json::map::IntoIter,
}

impl<'de> de::MapAccess<'de> for Entries {
    type Error = StrictError;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, StrictError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        let read = seed.deserialize(IntoDeserializer::<StrictError>::into_deserializer(key.as_str()))?;
        self.value = Some((key, value));
        Ok(Some(read))
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, StrictError> {
        let Some((key, value)) = self.value.take() else { return Err(de::Error::custom("a value without a key")) };
        seed.deserialize(Strict(value)).map_err(|error| error.under(&format!(".{key}")))
    }
}

/// `{variant: content}`. Its path is added by the caller, so it adds none.
struct OneEntry {
    key: Option<String>,
    value: Option<Value>,
}

impl<'de> de::MapAccess<'de> for OneEntry {
    type Error = StrictError;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, StrictError> {
        let Some(key) = self.key.take() else { return Ok(None) };
        seed.deserialize(IntoDeserializer::<StrictError>::into_deserializer(key)).map(Some)
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, StrictError> {
        seed.deserialize(Strict(self.value.take().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct RawTop {
        name: String,
        #[serde(default)]
        pools: Vec<RawPool>,
        #[serde(default)]
        store: Option<RawStore>,
        #[serde(default)]
        mode: Option<Mode>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct RawPool {
        cidr: std::net::IpAddr,
        #[serde(default)]
        block_size: Option<u8>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum RawStore {
        Memory,
        Files { directory: String },
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Mode {
        Pools,
        PodCidr,
    }

    fn refused(value: Value) -> String {
        from_value::<RawTop>(value, "").unwrap_err().to_string()
    }

    #[test]
    fn what_fits_is_read() {
        let value = json!({"name": "a", "pools": [{"cidr": "10.0.0.1", "blockSize": 26}],
            "store": {"files": {"directory": "/x"}}, "mode": "pod-cidr"});
        let top: RawTop = from_value(value, "").unwrap();
        assert_eq!(top.pools[0].block_size, Some(26));
        assert_eq!(top.store, Some(RawStore::Files { directory: "/x".to_owned() }));
        assert_eq!(top.mode, Some(Mode::PodCidr));
        let top: RawTop = from_value(json!({"name": "a", "store": "memory", "mode": null}), "").unwrap();
        assert_eq!((top.store, top.mode), (Some(RawStore::Memory), None));
    }

    #[test]
    fn an_error_names_the_whole_path_and_what_would_be_right() {
        assert_eq!(refused(json!({"nam": "a"})), "nam: no such key; did you mean `name`?");
        assert_eq!(refused(json!({})), "name: is missing and has no default");
        assert_eq!(
            refused(json!({"name": "a", "colour": 1})),
            "colour: no such key; there are: name, pools, store, mode"
        );
        assert_eq!(
            refused(json!({"name": "a", "pools": [{"cidr": "10.0.0.1"}, {"cidr": "10.0.0.1", "blocksize": 1}]})),
            "pools[1].blocksize: no such key; did you mean `blockSize`?"
        );
        assert!(refused(json!({"name": "a", "pools": [{"cidr": "10.0.0"}]})).starts_with("pools[0].cidr: "));
        assert!(
            refused(json!({"name": "a", "store": {"files": {"directory": 1}}})).starts_with("store.files.directory: ")
        );
        assert_eq!(
            refused(json!({"name": "a", "mode": "podcidr"})),
            "mode: `podcidr` is none of pools, pod-cidr; did you mean `pod-cidr`?"
        );
        assert!(refused(json!({"name": "a", "mode": 3})).starts_with("mode: is no Mode: write one of"));
        assert!(refused(json!({"name": 1})).starts_with("name: invalid type"));
    }
}

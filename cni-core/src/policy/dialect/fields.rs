//! Fields of an object, read level by level, with a problem at the path of each that is not right. Never a default: what
//! is missing is for the dialect to judge.

use super::Reader;
use crate::policy::model::Effect;
use crate::store::type_name;
use crate::strict::nearest;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// A field that is there. To Kubernetes, null is a field that nobody wrote.
pub(crate) fn present<'v>(map: &'v Map<String, Value>, key: &str) -> Option<&'v Value> {
    map.get(key).filter(|value| !value.is_null())
}

impl Reader<'_> {
    /// A value that must be a mapping.
    pub(crate) fn mapping<'v>(
        &mut self,
        effect: Effect,
        value: &'v Value,
        path: &str,
    ) -> Option<&'v Map<String, Value>> {
        if let Value::Object(map) = value {
            return Some(map);
        }
        self.problem(effect, path, format!("is {}, not a mapping", type_name(value)));
        None
    }

    /// Whether a mapping has none but these keys.
    pub(crate) fn only(&mut self, effect: Effect, map: &Map<String, Value>, path: &str, known: &[&str]) -> bool {
        let mark = self.mark();
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let detail = match nearest(key, known) {
                Some(right) => format!("no such key; did you mean `{right}`?"),
                None => format!("no such key; there are: {}", known.join(", ")),
            };
            self.problem(effect, path, detail);
        }
        self.sound_since(mark)
    }

    /// A value that must be a mapping of none but these keys.
    pub(crate) fn item<'v>(
        &mut self,
        effect: Effect,
        value: &'v Value,
        path: &str,
        known: &[&str],
    ) -> Option<&'v Map<String, Value>> {
        let map = self.mapping(effect, value, path)?;
        self.only(effect, map, path, known).then_some(map)
    }

    /// The one field that is there of these, of which exactly one must be; other keys are a problem as well.
    pub(crate) fn one_of<'v, 'k>(
        &mut self,
        effect: Effect,
        value: &'v Value,
        path: &str,
        known: &[&'k str],
    ) -> Option<(&'k str, &'v Value, String)> {
        let map = self.item(effect, value, path, known)?;
        let found: Vec<_> = known.iter().filter_map(|key| Some((*key, present(map, key)?))).collect();
        if let [(key, value)] = found[..] {
            return Some((key, value, format!("{path}.{key}")));
        }
        let count = if found.is_empty() { "none of its keys is set" } else { "several of its keys are set" };
        self.problem(effect, path, format!("{count}; write exactly one of {}", known.join(", ")));
        None
    }

    /// A list under a key; empty when nothing is there.
    pub(crate) fn list<'v>(
        &mut self,
        effect: Effect,
        map: &'v Map<String, Value>,
        path: &str,
        key: &str,
    ) -> Option<&'v [Value]> {
        match present(map, key) {
            None => Some(&[]),
            Some(Value::Array(values)) => Some(values),
            Some(wrong) => {
                self.problem(effect, format!("{path}.{key}"), format!("is {}, not a list", type_name(wrong)));
                None
            }
        }
    }

    /// Checks how many elements a list has.
    pub(crate) fn count(&mut self, effect: Effect, values: &[Value], path: &str, right: RangeInclusive<usize>) {
        if !right.contains(&values.len()) {
            let detail = format!("has {} elements; write {} to {}", values.len(), right.start(), right.end());
            self.problem(effect, path, detail);
        }
    }

    /// Reads all elements of a list, also those after a bad one, and leaves bad ones out.
    pub(crate) fn each<T>(
        &mut self,
        values: &[Value],
        path: &str,
        mut read: impl FnMut(&mut Self, &Value, &str) -> Option<T>,
    ) -> Vec<T> {
        let element = |(index, value)| read(self, value, &format!("{path}[{index}]"));
        values.iter().enumerate().filter_map(element).collect()
    }

    /// A value that must be a text.
    pub(crate) fn text<'v>(&mut self, effect: Effect, value: &'v Value, path: &str) -> Option<&'v str> {
        if let Value::String(text) = value {
            return Some(text);
        }
        self.problem(effect, path, format!("is {}, not a text", type_name(value)));
        None
    }

    /// A value that must be a whole number of a range.
    pub(crate) fn number<N>(&mut self, effect: Effect, value: &Value, path: &str, right: RangeInclusive<N>) -> Option<N>
    where
        N: TryFrom<i64> + PartialOrd + std::fmt::Display,
    {
        let number = value.as_i64().and_then(|number| N::try_from(number).ok()).filter(|number| right.contains(number));
        if number.is_none() {
            let found = if value.is_number() { value.to_string() } else { type_name(value).to_owned() };
            let detail = format!("is {found}; write a whole number from {} to {}", right.start(), right.end());
            self.problem(effect, path, detail);
        }
        number
    }

    /// A value that must be true or false.
    pub(crate) fn flag(&mut self, effect: Effect, value: &Value, path: &str) -> Option<bool> {
        if value.as_bool().is_none() {
            self.problem(effect, path, format!("is {}, not true or false", type_name(value)));
        }
        value.as_bool()
    }

    /// A value that must be one of some words, upper and lower case told apart.
    pub(crate) fn word<T: Copy>(
        &mut self,
        effect: Effect,
        value: &Value,
        path: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(effect, value, path)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let hint = nearest(text, &known).map(|right| format!("; did you mean {right}?")).unwrap_or_default();
        self.problem(effect, path, format!("{text:?} is none of {}{hint}", known.join(", ")));
        None
    }
}

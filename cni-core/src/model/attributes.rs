//! Texts of a node by name, as a small sorted list: its labels, and what a backend says of it to its like. Never
//! interpreted here.

use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Texts by name. Cheap to clone, and small: a node knows those of thousands of others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeMap<Arc<str>, Arc<str>>")]
pub struct Attributes(Arc<[(Arc<str>, Arc<str>)]>);

impl Attributes {
    /// The text under a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<str>> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        self.0.get(at).map(|(_, text)| text)
    }

    /// All names and texts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().map(|(name, text)| (name, text))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<BTreeMap<Arc<str>, Arc<str>>> for Attributes {
    fn from(texts: BTreeMap<Arc<str>, Arc<str>>) -> Self {
        Self(texts.into_iter().collect())
    }
}

impl<const N: usize> From<[(Arc<str>, Arc<str>); N]> for Attributes {
    fn from(texts: [(Arc<str>, Arc<str>); N]) -> Self {
        texts.into_iter().collect()
    }
}

impl FromIterator<(Arc<str>, Arc<str>)> for Attributes {
    fn from_iter<T: IntoIterator<Item = (Arc<str>, Arc<str>)>>(texts: T) -> Self {
        texts.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}

impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_a_map_in_texts_and_of_one_name_the_last_counts() {
        let attributes: Attributes = [("b", "1"), ("a", "2"), ("b", "3")].map(|(a, b)| (a.into(), b.into())).into();
        let text = serde_json::to_string(&attributes).unwrap();
        assert_eq!(text, r#"{"a":"2","b":"3"}"#);
        assert_eq!(serde_json::from_str::<Attributes>(&text).unwrap(), attributes);
        assert_eq!(attributes.get("b").map(|text| &**text), Some("3"));
        assert_eq!(attributes.get("c"), None);
    }
}

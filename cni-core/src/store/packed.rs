//! An object as a store keeps it: one text beside its key and version, an eighth of the tree that it was.
//! Never what others see: they get whole objects.

use super::{Metadata, Object, ObjectKey, Query, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How deep the values of a text may be. `serde_json` writes deeper ones but reads no more than 128 levels.
const DEEPEST: usize = 100;

/// An object at rest.
#[derive(Debug)]
pub(super) struct Packed {
    key: ObjectKey,
    version: Option<Version>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// [`Parts`], as JSON.
    Text(Box<str>),
    /// Too deep for a text.
    Tree(Box<Object>),
}

/// All of an object but its key and version. Null is a part that is empty.
#[derive(Serialize, Deserialize)]
struct Parts<L, M>(Option<L>, Option<L>, Option<M>, Option<M>, Option<String>, Option<i64>);

impl Packed {
    /// Packs an object.
    pub(super) fn of(object: &Object) -> Self {
        let (key, version) = (object.key.clone(), object.metadata.resource_version.clone());
        Self { key, version, content: text(object).map_or_else(|| Content::Tree(object.clone().into()), Content::Text) }
    }

    pub(super) fn key(&self) -> &ObjectKey {
        &self.key
    }

    pub(super) fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// The whole object.
    ///
    /// # Panics
    /// Never: a text was written from an object, by [`of`](Self::of).
    pub(super) fn unpack(&self) -> Object {
        let text = match &self.content {
            Content::Text(text) => text,
            Content::Tree(object) => return Object::clone(object),
        };
        let Parts(labels, annotations, other, fields, uid, generation) =
            serde_json::from_str::<Parts<BTreeMap<String, String>, Map<String, Value>>>(text)
                .expect("what was written from maps of bounded depth reads back");
        Object {
            key: self.key.clone(),
            metadata: Metadata {
                labels: labels.unwrap_or_default(),
                annotations: annotations.unwrap_or_default(),
                resource_version: self.version.clone(),
                uid,
                generation,
                other: other.unwrap_or_default(),
            },
            fields: fields.unwrap_or_default(),
        }
    }

    /// As [`Query::matches`]; unpacks only what has to be looked into.
    pub(super) fn matches(&self, query: &Query) -> bool {
        query.matches_key(&self.key) && (query.node.is_none() || query.matches(&self.unpack()))
    }
}

/// Versions follow from the content in every store, so the texts need no comparison.
impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.version == other.version
    }
}

/// `None` for an object that would not read back.
fn text(object: &Object) -> Option<Box<str>> {
    let Metadata { labels, annotations, resource_version: _, uid, generation, other } = &object.metadata;
    if other.values().chain(object.fields.values()).any(|value| is_deeper_than(DEEPEST, value)) {
        return None;
    }
    let parts = Parts(
        Some(labels).filter(|texts| !texts.is_empty()),
        Some(annotations).filter(|texts| !texts.is_empty()),
        Some(other).filter(|fields| !fields.is_empty()),
        Some(&object.fields).filter(|fields| !fields.is_empty()),
        uid.clone(),
        *generation,
    );
    Some(serde_json::to_string(&parts).ok()?.into())
}

fn is_deeper_than(levels: usize, value: &Value) -> bool {
    let Some(below) = levels.checked_sub(1) else { return true };
    match value {
        Value::Array(values) => values.iter().any(|value| is_deeper_than(below, value)),
        Value::Object(fields) => fields.values().any(|value| is_deeper_than(below, value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Kind;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("\\PC{0,6}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_object_comes_out_as_it_went_in(
            labels in proptest::collection::btree_map("\\PC{0,6}", "\\PC{0,6}", 0..3),
            annotations in proptest::collection::btree_map("\\PC{0,6}", "(\\PC|\n|\"){0,12}", 0..3),
            uid in proptest::option::of("\\PC{0,8}"),
            generation: Option<i64>,
            version in proptest::option::of("[0-9a-f]{1,8}"),
            other in proptest::collection::btree_map("(labels|name|\\PC{0,6})", value(), 0..3),
            fields in proptest::collection::btree_map("(spec|kind|\\PC{0,6})", value(), 0..3),
        ) {
            let mut object = Object::new(ObjectKey::namespaced(Kind::new("", "Odd"), "", "n"));
            let resource_version = version.map(|text| Version::new(&text));
            let other = other.into_iter().collect();
            object.metadata = Metadata { labels, annotations, resource_version, uid, generation, other };
            object.fields = fields.into_iter().collect();
            prop_assert_eq!(Packed::of(&object).unpack(), object);
        }
    }

    #[test]
    fn an_object_of_any_depth_comes_out_as_it_went_in() {
        for depth in [1, DEEPEST - 1, DEEPEST, DEEPEST + 1, 128, 500] {
            let deep = (0..depth).fold(Value::Null, |inner, _| serde_json::json!([inner]));
            let mut object = Object::new(ObjectKey::cluster(Kind::NODE, "n"));
            object.fields.insert("spec".to_owned(), deep.clone());
            object.metadata.other.insert("deep".to_owned(), deep);
            assert_eq!(Packed::of(&object).unpack(), object, "{depth}");
        }
    }
}

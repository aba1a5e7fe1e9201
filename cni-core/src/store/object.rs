//! The generic object in Kubernetes format. Never drops a field that it does not know.

use super::{InvalidObject, Kind, ObjectKey, Scope, Version};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// An object's metadata, apart from its name and namespace, which are in [`Object::key`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// Labels, for selectors.
    pub labels: BTreeMap<String, String>,
    /// Annotations, for programs.
    pub annotations: BTreeMap<String, String>,
    /// The version in force when this was read; `None` for an object that was not read from a store.
    pub resource_version: Option<Version>,
    /// The object's identity: another object under the same name later has another uid.
    pub uid: Option<String>,
    /// How many times the spec changed, counted by the store, from 1.
    pub generation: Option<i64>,
    /// Everything else that was there: `ownerReferences`, `finalizers`, ...
    pub other: Map<String, Value>,
}

/// An object: `apiVersion`, `kind`, `metadata`, and its other fields as they were written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Object {
    /// Kind, namespace and name.
    pub key: ObjectKey,
    /// The rest of the metadata.
    pub metadata: Metadata,
    /// `spec`, `status`, `data`, ... everything but `apiVersion`, `kind` and `metadata`.
    pub fields: Map<String, Value>,
}

impl Object {
    /// An object without metadata and fields.
    #[must_use]
    pub fn new(key: ObjectKey) -> Self {
        Self { key, metadata: Metadata::default(), fields: Map::new() }
    }

    /// An object with a spec.
    ///
    /// # Errors
    /// The spec does not serialise to JSON.
    pub fn with_spec(key: ObjectKey, spec: &impl Serialize) -> Result<Self, InvalidObject> {
        let mut object = Self::new(key);
        object.set("spec", spec)?;
        Ok(object)
    }

    /// Reads an object from its JSON form.
    ///
    /// A known kind that lives in a namespace gets `default` where none is written, as `kubectl` does.
    ///
    /// # Errors
    /// `apiVersion`, `kind` or `metadata.name` is missing, or a part of the metadata has the wrong type;
    /// the error names object and field.
    pub fn from_value(value: Value) -> Result<Self, InvalidObject> {
        let Value::Object(mut fields) = value else {
            return Err(InvalidObject::new("object", ".", format!("is {}, not a mapping", type_name(&value))));
        };
        let mut place = "object".to_owned();
        let api_version = take_text(&mut fields, &place, "", "apiVersion")?;
        let kind = take_text(&mut fields, &place, "", "kind")?;
        let required = |text: Option<String>, place: &str, field: &str, example: &str| {
            text.filter(|text| !text.is_empty())
                .ok_or_else(|| InvalidObject::new(place, field, format!("is missing; write it, as in {example}")))
        };
        let api_version = required(api_version, &place, "apiVersion", "apiVersion: v1")?;
        let kind = Kind::new(&api_version, &required(kind, &place, "kind", "kind: Node")?);
        place = kind.to_string();
        let mut other = match fields.remove("metadata") {
            Some(Value::Object(metadata)) => metadata,
            None | Some(Value::Null) => {
                return Err(InvalidObject::new(place, "metadata", "is missing; write at least metadata.name"));
            }
            Some(wrong) => {
                return Err(InvalidObject::new(place, "metadata", format!("is {}, not a mapping", type_name(&wrong))));
            }
        };
        let name = take_text(&mut other, &place, "metadata.", "name")?;
        let name = required(name, &place, "metadata.name", "name: node-1")?;
        let namespace = take_text(&mut other, &place, "metadata.", "namespace")?.filter(|text| !text.is_empty());
        let namespace = match (namespace, kind.scope()) {
            (None, Some(Scope::Namespaced)) => Some("default".to_owned()),
            (namespace, _) => namespace,
        };
        let key = ObjectKey { kind, namespace: namespace.map(Into::into), name: name.into() };
        key.check()?;
        place = key.to_string();
        let resource_version = match other.remove("resourceVersion") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.is_empty() => None,
            Some(Value::String(text)) => Some(Version::new(&text)),
            // Unquoted digits are a number to YAML.
            Some(Value::Number(number)) => Some(Version::new(&number.to_string())),
            Some(wrong) => return Err(wrong_type(&place, "metadata.resourceVersion", "a text", &wrong)),
        };
        let generation = match other.remove("generation") {
            None | Some(Value::Null) => None,
            Some(value) => Some(
                value.as_i64().ok_or_else(|| wrong_type(&place, "metadata.generation", "a whole number", &value))?,
            ),
        };
        let metadata = Metadata {
            labels: take_texts(&mut other, &place, "labels")?,
            annotations: take_texts(&mut other, &place, "annotations")?,
            resource_version,
            uid: take_text(&mut other, &place, "metadata.", "uid")?,
            generation,
            other,
        };
        Ok(Self { key, metadata, fields })
    }

    /// The object's JSON form.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut metadata = self.metadata.other.clone();
        let mut put = |name: &str, value: Value| metadata.insert(name.to_owned(), value);
        put("name", Value::from(&*self.key.name));
        if let Some(namespace) = &self.key.namespace {
            put("namespace", Value::from(&**namespace));
        }
        let texts = |texts: &BTreeMap<String, String>| {
            Value::Object(texts.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str()))).collect())
        };
        if !self.metadata.labels.is_empty() {
            put("labels", texts(&self.metadata.labels));
        }
        if !self.metadata.annotations.is_empty() {
            put("annotations", texts(&self.metadata.annotations));
        }
        if let Some(version) = &self.metadata.resource_version {
            put("resourceVersion", Value::from(version.as_str()));
        }
        if let Some(uid) = &self.metadata.uid {
            put("uid", Value::from(uid.as_str()));
        }
        if let Some(generation) = self.metadata.generation {
            put("generation", Value::from(generation));
        }
        let mut fields = self.fields.clone();
        fields.insert("apiVersion".to_owned(), Value::from(self.key.kind.api_version()));
        fields.insert("kind".to_owned(), Value::from(self.key.kind.kind()));
        fields.insert("metadata".to_owned(), Value::Object(metadata));
        Value::Object(fields)
    }

    /// A field by its path: `spec.nodeName`. `None` when any part of the path is missing or no mapping.
    #[must_use]
    pub fn field(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let first = self.fields.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part)).filter(|value| !value.is_null())
    }

    /// A top-level field as a type: `object.read::<PoolSpec>("spec")`. A missing field reads as null.
    ///
    /// # Errors
    /// The field is not what the type wants; the error names object and field.
    pub fn read<T: DeserializeOwned>(&self, field: &str) -> Result<T, InvalidObject> {
        let value = self.fields.get(field).unwrap_or(&Value::Null);
        T::deserialize(value).map_err(|error| InvalidObject::new(&self.key, field, error))
    }

    /// Sets a top-level field.
    ///
    /// # Errors
    /// The value does not serialise to JSON.
    pub fn set(&mut self, field: &str, value: &impl Serialize) -> Result<(), InvalidObject> {
        let value = serde_json::to_value(value).map_err(|error| InvalidObject::new(&self.key, field, error))?;
        self.fields.insert(field.to_owned(), value);
        Ok(())
    }

    /// Whether both have the same content; the version that each was read at does not count.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        let Metadata { labels, annotations, resource_version: _, uid, generation, other: rest } = &self.metadata;
        let them = &other.metadata;
        self.key == other.key
            && self.fields == other.fields
            && (labels, annotations, uid, generation, rest)
                == (&them.labels, &them.annotations, &them.uid, &them.generation, &them.other)
    }
}

impl TryFrom<Value> for Object {
    type Error = InvalidObject;

    fn try_from(value: Value) -> Result<Self, InvalidObject> {
        Self::from_value(value)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        object.to_value()
    }
}

/// What a value is, in words.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn wrong_type(place: &str, field: &str, wanted: &str, found: &Value) -> InvalidObject {
    InvalidObject::new(place, field, format!("is {}, not {wanted}", type_name(found)))
}

fn take_text(
    map: &mut Map<String, Value>,
    place: &str,
    prefix: &str,
    name: &str,
) -> Result<Option<String>, InvalidObject> {
    match map.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(wrong) => Err(wrong_type(place, &format!("{prefix}{name}"), "a text (put it in quotes)", &wrong)),
    }
}

fn take_texts(
    map: &mut Map<String, Value>,
    place: &str,
    name: &str,
) -> Result<BTreeMap<String, String>, InvalidObject> {
    let field = || format!("metadata.{name}");
    match map.remove(name) {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(texts)) => texts
            .into_iter()
            .map(|(key, value)| match value {
                Value::String(text) => Ok((key, text)),
                wrong => Err(wrong_type(place, &format!("{}[{key}]", field()), "a text (put it in quotes)", &wrong)),
            })
            .collect(),
        Some(wrong) => Err(wrong_type(place, &field(), "a mapping of texts", &wrong)),
    }
}

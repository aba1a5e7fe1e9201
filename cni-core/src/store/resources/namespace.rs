//! `v1` Namespace: its name and labels. Never what is in it.

use super::expect_kind;
use crate::store::{InvalidObject, Kind, Object};
use std::collections::BTreeMap;

/// A namespace, for selectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl TryFrom<&Object> for Namespace {
    type Error = InvalidObject;

    fn try_from(object: &Object) -> Result<Self, InvalidObject> {
        expect_kind(object, &Kind::NAMESPACE)?;
        Ok(Self {
            name: (*object.key.name).to_owned(),
            labels: object.metadata.labels.clone(),
            annotations: object.metadata.annotations.clone(),
        })
    }
}

//! A block of the store as this node remembers it. Never the whole object, unless there is more in it than we know.

use super::block::{IpBlockSpec, block_key};
use crate::ipam::IpamError;
use crate::store::{Metadata, Object, ObjectKey, Version};

/// Which object under a name, and which state of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) uid: Option<Box<str>>,
    generation: Option<i64>,
}

impl Stamp {
    pub(super) fn of(object: &Object) -> Self {
        let Metadata { uid, generation, .. } = &object.metadata;
        Self { uid: uid.as_deref().map(Into::into), generation: *generation }
    }

    /// Whether the other is an earlier state of the same object.
    pub(super) fn is_after(&self, other: &Self) -> bool {
        self.uid == other.uid && self.generation > other.generation
    }

    /// Whether the other is the same object under its name, in this state or in a later one.
    pub(super) fn is_at_most(&self, other: &Self) -> bool {
        self.uid == other.uid && self.generation <= other.generation
    }
}

/// A block as it was last read.
#[derive(Debug, Clone)]
pub(super) struct SeenBlock {
    pub(super) spec: IpBlockSpec,
    pub(super) stamp: Stamp,
    version: Option<Version>,
    /// The object without its spec, where somebody wrote more into it than we do.
    rest: Option<Box<Object>>,
}

impl SeenBlock {
    /// Remembers an object that was read as `spec`.
    pub(super) fn new(spec: IpBlockSpec, object: &Object) -> Self {
        let Object { key: _, metadata, fields } = object;
        let Metadata { labels, annotations, resource_version, uid: _, generation: _, other } = metadata;
        let bare = labels.is_empty() && annotations.is_empty() && other.is_empty();
        let rest = (!bare || fields.keys().any(|field| field != "spec")).then(|| {
            let mut rest = object.clone();
            rest.fields.remove("spec");
            Box::new(rest)
        });
        Self { spec, stamp: Stamp::of(object), version: resource_version.clone(), rest }
    }

    pub(super) fn key(&self) -> ObjectKey {
        block_key(self.spec.cidr)
    }

    pub(super) fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// The object that makes `spec` of this block: what is unknown to us stays.
    pub(super) fn with(&self, spec: &IpBlockSpec) -> Result<Object, IpamError> {
        let mut object = self.rest.as_deref().cloned().unwrap_or_else(|| Object::new(self.key()));
        object.metadata.resource_version.clone_from(&self.version);
        set_spec(&mut object, spec)?;
        Ok(object)
    }
}

/// The object of a new block.
pub(super) fn new_object(spec: &IpBlockSpec) -> Result<Object, IpamError> {
    let mut object = Object::new(block_key(spec.cidr));
    set_spec(&mut object, spec)?;
    Ok(object)
}

fn set_spec(object: &mut Object, spec: &IpBlockSpec) -> Result<(), IpamError> {
    let failed = |error: crate::store::InvalidObject| {
        IpamError::invalid(format!("block {}", spec.cidr), "spec", error.to_string())
    };
    object.set("spec", spec).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_others_wrote_into_a_block_is_written_back_with_a_new_spec() {
        let metadata = json!({"name": "10-1-0-0-26", "uid": "u", "generation": 3, "resourceVersion": "7"});
        for (labels, status) in
            [(json!({}), json!(null)), (json!({"a": "b"}), json!(null)), (json!({}), json!({"x": 1}))]
        {
            let mut value = json!({"apiVersion": "cnidarian.io/v1", "kind": "IPBlock", "metadata": metadata,
                "spec": {"pool": "p", "cidr": "10.1.0.0/26", "newer": [1]}});
            value["metadata"]["labels"] = labels;
            if !status.is_null() {
                value["status"] = status;
            }
            let object = Object::from_value(value).unwrap();
            let mut spec = IpBlockSpec::from_object(&object).unwrap();
            spec.pool = "q".into();
            let written = SeenBlock::new(IpBlockSpec::from_object(&object).unwrap(), &object).with(&spec).unwrap();
            let mut expected = object.clone();
            expected.fields["spec"]["pool"] = json!("q");
            // The store sets these two whatever is written.
            (expected.metadata.uid, expected.metadata.generation) =
                (written.metadata.uid.clone(), written.metadata.generation);
            assert_eq!(written, expected);
        }
    }
}

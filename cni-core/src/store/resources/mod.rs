//! Typed views of the objects of Kubernetes that we read. Never the whole type: what we do not use stays in the object.

mod namespace;
mod node;
mod node_endpoints;
mod pod;

pub use namespace::Namespace;
pub use node::{AddressKind, Node, NodeAddress};
pub use node_endpoints::{NodeEndpoints, PodAddresses};
pub use pod::Pod;

use super::{InvalidObject, Kind, Object};

/// Refuses an object of another kind.
fn expect_kind(object: &Object, kind: &Kind) -> Result<(), InvalidObject> {
    if object.key.kind == *kind {
        return Ok(());
    }
    let (api, name) = (kind.api_version(), kind.kind());
    let found = (object.key.kind.api_version(), object.key.kind.kind());
    Err(InvalidObject::new(&object.key, "kind", format!("is {} {}, not {api} {name}", found.0, found.1)))
}

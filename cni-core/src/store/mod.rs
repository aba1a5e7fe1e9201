//! The desired state of the cluster as objects in Kubernetes format. Never interprets a spec: owners of a kind do.
//!
//! | part | what it is |
//! |---|---|
//! | [`Store`] | get, list, watch, and writes that compare and swap on `resourceVersion` |
//! | [`Object`], [`ObjectKey`], [`Kind`] | the generic object; unknown fields survive a read and a write |
//! | [`resources`] | typed views of the objects of Kubernetes that we read: Node, Pod, Namespace |
//! | [`MemoryStore`] | for tests and for one process |
//! | `FilesStore` | a watched directory of manifests, shared by several processes (feature `files`) |
//! | `LocalDatabase` | leases and endpoint records of one node, not a [`Store`] (feature `redb`) |
//!
//! ```text
//!  list ----> List { objects, version } --+
//!                                         +--> watch(query, version): Put, Delete, ... no gap, no repetition
//!  create / update / delete (CAS) --------+
//! ```

mod api;
mod error;
#[cfg(feature = "files")]
pub(crate) mod files;
mod journal;
mod key;
#[cfg(feature = "redb")]
mod local;
mod memory;
mod object;
mod packed;
pub mod resources;

pub use api::{Event, List, Store, StoreExt, Watch};
pub use error::{Error, InvalidObject, Result};
#[cfg(all(feature = "files", feature = "testkit"))]
pub use files::fuzz_manifest;
#[cfg(feature = "files")]
pub use files::{FilesOptions, FilesStore, Problem};
pub use key::{Kind, ObjectKey, Query, Scope, Version};
#[cfg(feature = "redb")]
pub use local::{LocalDatabase, LocalDatabaseError, LocalDatabaseLock};
pub use memory::MemoryStore;
pub(crate) use object::type_name;
pub use object::{Metadata, Object};

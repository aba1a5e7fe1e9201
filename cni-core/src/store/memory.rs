//! A store in memory: for tests, and for a process that is its own cluster. Never durable.

use super::journal::{Journal, Transaction};
use super::packed::Packed;
use super::{Error, InvalidObject, List, Object, ObjectKey, Query, Result, Store, Version, Watch};
use async_trait::async_trait;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

/// The store in memory. Clones are handles of one store.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    journal: Arc<Journal>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self { journal: Arc::new(Journal::new(new_uid())) }
    }

    /// An empty store that remembers only so many changes for watches that lag behind,
    /// to test that readers take [`super::Event::Resynced`].
    #[must_use]
    pub fn with_log_length(changes: usize) -> Self {
        Self { journal: Arc::new(Journal::with_log_length(new_uid(), changes)) }
    }

    /// Tells all watches of a disturbance, to test that readers survive one.
    pub fn disturb(&self, error: Error) {
        self.journal.disturb(error);
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// A random uid in the form of RFC 9562, section 5.4 (version 4).
pub(super) fn new_uid() -> String {
    // The standard library seeds each `RandomState` from the system's randomness: enough for names that must differ.
    let half = || RandomState::new().build_hasher().finish();
    let random = u128::from(half()) << 64 | u128::from(half());
    let bits = random & !(0xf << 76) & !(0b11 << 62) | (0x4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The object to store for a create: with the server's own fields set.
pub(super) fn created(object: &Object) -> Result<Object, InvalidObject> {
    object.key.check()?;
    let mut new = object.clone();
    new.metadata.uid = Some(new_uid());
    new.metadata.generation = Some(1);
    new.metadata.resource_version = None;
    Ok(new)
}

/// The object to store for an update of `present`, or `None` when nothing changes.
pub(super) fn updated(object: &Object, present: &Object) -> Result<Option<Object>> {
    object.key.check()?;
    let mut new = object.clone();
    new.metadata.uid.clone_from(&present.metadata.uid);
    new.metadata.generation = present.metadata.generation;
    check_version(&object.key, expected_version(object)?, present.metadata.resource_version.as_ref())?;
    if new.same_content(present) {
        return Ok(None);
    }
    if new.fields.get("spec") != present.fields.get("spec") {
        new.metadata.generation = Some(present.metadata.generation.unwrap_or(1).saturating_add(1));
    }
    Ok(Some(new))
}

/// The version that an update is based on.
pub(super) fn expected_version(object: &Object) -> Result<&Version, InvalidObject> {
    object.metadata.resource_version.as_ref().ok_or_else(|| {
        InvalidObject::new(&object.key, "metadata.resourceVersion", "is missing; read the object before updating it")
    })
}

/// Compares, for compare-and-swap.
pub(super) fn check_version(key: &ObjectKey, expected: &Version, found: Option<&Version>) -> Result<()> {
    if found == Some(expected) {
        Ok(())
    } else {
        Err(Error::Conflict { key: key.clone(), expected: expected.clone(), found: found.cloned() })
    }
}

fn not_found(key: &ObjectKey) -> Error {
    Error::NotFound { key: key.clone() }
}

fn put(transaction: &mut Transaction<'_>, mut object: Object) -> Arc<Object> {
    object.metadata.resource_version = Some(Version::new(&transaction.next_number().to_string()));
    transaction.set(&object.key, Some(Arc::new(Packed::of(&object))));
    Arc::new(object)
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &ObjectKey) -> Result<Arc<Object>> {
        self.journal.get(key)
    }

    async fn list(&self, query: &Query) -> Result<List> {
        Ok(self.journal.list(query))
    }

    async fn watch(&self, query: &Query, from: &Version) -> Result<Watch> {
        Ok(self.journal.watch(query, from))
    }

    async fn create(&self, object: &Object) -> Result<Arc<Object>> {
        self.journal.transact(|transaction| {
            let new = created(object)?;
            if transaction.get(&object.key).is_some() {
                return Err(Error::AlreadyExists { key: object.key.clone() });
            }
            Ok(put(transaction, new))
        })
    }

    async fn update(&self, object: &Object) -> Result<Arc<Object>> {
        self.journal.transact(|transaction| {
            let present = transaction.get(&object.key).ok_or_else(|| not_found(&object.key))?.unpack();
            match updated(object, &present)? {
                None => Ok(Arc::new(present)),
                Some(new) => Ok(put(transaction, new)),
            }
        })
    }

    async fn delete(&self, key: &ObjectKey, expected: &Version) -> Result<()> {
        self.journal.transact(|transaction| {
            let present = transaction.get(key).ok_or_else(|| not_found(key))?;
            check_version(key, expected, present.version())?;
            transaction.set(key, None);
            Ok(())
        })
    }
}

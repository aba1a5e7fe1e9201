//! Stores that break one law each, to see that the suite catches them. Never a correct store.

use super::{Fixture, conformance};
use crate::store::{Event, List, MemoryStore, Object, ObjectKey, Query, Result, Store, StoreExt, Version, Watch};
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::stream::StreamExt;
use serde_json::json;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    DropsUnknownFields,
    IgnoresVersions,
    CreatesTwice,
    BumpsWithoutChange,
    LosesEvents,
    RepeatsEvents,
    StartsWatchesLate,
    IgnoresOldVersions,
    IgnoresSelection,
    KeepsUids,
    TakesBadNames,
    DeletesAnything,
}

#[derive(Clone)]
struct Broken {
    mutant: Mutant,
    inner: MemoryStore,
}

impl Broken {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == mutant
    }

    async fn with_current_version(&self, object: &Object) -> Object {
        let mut object = object.clone();
        if let Ok(Some(present)) = self.inner.find(&object.key).await {
            object.metadata.resource_version.clone_from(&present.metadata.resource_version);
        }
        object
    }
}

#[async_trait]
impl Store for Broken {
    async fn get(&self, key: &ObjectKey) -> Result<Arc<Object>> {
        self.inner.get(key).await
    }

    async fn list(&self, query: &Query) -> Result<List> {
        let query = if self.is(Mutant::IgnoresSelection) { Query::kind(query.kind.clone()) } else { query.clone() };
        self.inner.list(&query).await
    }

    async fn watch(&self, query: &Query, from: &Version) -> Result<Watch> {
        let now = self.inner.list(query).await?.version;
        let query = if self.is(Mutant::IgnoresSelection) { Query::kind(query.kind.clone()) } else { query.clone() };
        let watch = match self.mutant {
            Mutant::StartsWatchesLate if !from.as_str().ends_with(".old") => self.inner.watch(&query, &now).await?,
            Mutant::IgnoresOldVersions if from.as_str().ends_with(".old") => self.inner.watch(&query, &now).await?,
            _ => self.inner.watch(&query, from).await?,
        };
        let mut count = 0;
        let mutant = self.mutant;
        let copies = move |event: Result<Event>| {
            count += 1;
            let copies = match mutant {
                Mutant::LosesEvents if count % 5 == 0 => 0,
                Mutant::RepeatsEvents if count % 5 == 0 => 2,
                _ => 1,
            };
            futures_util::stream::iter(vec![event; copies])
        };
        Ok(watch.flat_map(copies).boxed())
    }

    async fn create(&self, object: &Object) -> Result<Arc<Object>> {
        let mut object = object.clone();
        if self.is(Mutant::DropsUnknownFields) {
            object.fields.remove("future");
        }
        if self.is(Mutant::TakesBadNames) && object.key.check().is_err() {
            return Ok(Arc::new(object));
        }
        if self.is(Mutant::CreatesTwice) && self.inner.find(&object.key).await?.is_some() {
            let object = self.with_current_version(&object).await;
            return self.inner.update(&object).await;
        }
        let created = self.inner.create(&object).await?;
        if self.is(Mutant::KeepsUids) {
            let mut same = Object::clone(&created);
            same.metadata.uid = Some("uid".to_owned());
            return Ok(Arc::new(same));
        }
        Ok(created)
    }

    async fn update(&self, object: &Object) -> Result<Arc<Object>> {
        if self.is(Mutant::IgnoresVersions) && object.metadata.resource_version.is_some() {
            let object = self.with_current_version(object).await;
            return self.inner.update(&object).await;
        }
        if self.is(Mutant::BumpsWithoutChange) && self.inner.get(&object.key).await?.same_content(object) {
            let mut object = object.clone();
            let count = object.metadata.other.len();
            object.metadata.other.insert(format!("bump-{count}"), json!(count));
            return self.inner.update(&object).await;
        }
        self.inner.update(object).await
    }

    async fn delete(&self, key: &ObjectKey, expected: &Version) -> Result<()> {
        if self.is(Mutant::DeletesAnything) {
            let present = self.inner.get(key).await?;
            let version = present.metadata.resource_version.clone();
            return self.inner.delete(key, &version.unwrap_or_else(|| expected.clone())).await;
        }
        self.inner.delete(key, expected).await
    }
}

async fn passes(mutant: Mutant) -> bool {
    let fresh = || {
        let store = Broken { mutant, inner: MemoryStore::new() };
        let fixture = Fixture::new(Arc::new(store.clone()), Arc::new(store), Version::new("epoch.old"));
        Fixture { patience: Duration::from_millis(300), ..fixture }
    };
    AssertUnwindSafe(conformance(fresh)).catch_unwind().await.is_ok()
}

#[tokio::test]
async fn the_suite_passes_a_correct_store_and_catches_every_mutant() {
    assert!(passes(Mutant::None).await);
    for mutant in [
        Mutant::DropsUnknownFields,
        Mutant::IgnoresVersions,
        Mutant::CreatesTwice,
        Mutant::BumpsWithoutChange,
        Mutant::LosesEvents,
        Mutant::RepeatsEvents,
        Mutant::StartsWatchesLate,
        Mutant::IgnoresOldVersions,
        Mutant::IgnoresSelection,
        Mutant::KeepsUids,
        Mutant::TakesBadNames,
        Mutant::DeletesAnything,
    ] {
        assert!(!passes(mutant).await, "{mutant:?} is not caught");
    }
}

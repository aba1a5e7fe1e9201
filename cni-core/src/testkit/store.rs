//! The laws of [`Store`] as a suite for every implementation. Never knows how a store keeps its objects.
//!
//! ```
//! use cni_core::store::{MemoryStore, Version};
//! use cni_core::testkit::store::{conformance, Fixture};
//! use std::sync::Arc;
//!
//! let fresh = || {
//!     let store = MemoryStore::new();
//!     Fixture::new(Arc::new(store.clone()), Arc::new(store), Version::new("of-yesterday.1"))
//! };
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! conformance(fresh).await;
//! # });
//! ```

use crate::store::{Error, Event, Kind, List, Metadata, Object, ObjectKey, Query, Store, StoreExt, Version, Watch};
use futures_util::future::{Either, join_all, select};
use futures_util::stream::StreamExt;
use serde_json::{Value, json};
use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

#[cfg(test)]
mod mutants;

/// One fresh, empty store for one law.
pub struct Fixture {
    /// A handle of the store.
    pub one: Arc<dyn Store>,
    /// Another handle of the same store, as another process would have it.
    pub other: Arc<dyn Store>,
    /// A version that a watch cannot go on from any more.
    pub too_old: Version,
    /// How long anything that must happen may take; 20 seconds unless set.
    pub patience: Duration,
    /// What must live as long as the store: a temporary directory, a server.
    pub keep: Option<Box<dyn Any + Send + Sync>>,
}

impl Fixture {
    /// A fixture that needs nothing to be kept alive.
    #[must_use]
    pub fn new(one: Arc<dyn Store>, other: Arc<dyn Store>, too_old: Version) -> Self {
        Self { one, other, too_old, patience: Duration::from_secs(20), keep: None }
    }
}

/// Runs every law, each on a fresh store.
///
/// # Panics
/// When a law is broken; the message says which.
pub async fn conformance(fresh: impl Fn() -> Fixture) {
    what_was_written_is_read_unknown_fields_included(&fresh()).await;
    absent_objects_and_bad_names_are_refused(&fresh()).await;
    one_of_many_writers_wins(&fresh()).await;
    one_of_many_creators_wins(&fresh()).await;
    modify_loses_no_update(&fresh()).await;
    a_failed_write_is_seen_by_nobody(&fresh()).await;
    a_version_changes_with_the_content_only(&fresh()).await;
    list_and_watch_leave_no_gap(&fresh()).await;
    a_watch_from_too_old_a_version_begins_with_the_whole_state(&fresh()).await;
    a_selective_watch_tells_what_ceases_to_match(&fresh()).await;
    a_name_used_again_is_another_object(&fresh()).await;
}

/// Waits for what must happen.
async fn soon<T>(what: &str, patience: Duration, future: impl Future<Output = T>) -> T {
    let (done, deadline) = futures_channel::oneshot::channel::<()>();
    let (finished, wait) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        // Dropping `finished` ends the wait at once.
        if wait.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            drop(done);
        } else {
            // Keeps `deadline` pending; nobody polls it any more.
            std::mem::forget(done);
        }
    });
    let _finished = finished;
    match select(pin!(future), deadline).await {
        Either::Left((value, _)) => value,
        Either::Right(_) => panic!("{what}: did not happen within {patience:?}"),
    }
}

fn block(name: &str, spec: Value) -> Object {
    let mut object = Object::new(ObjectKey::cluster(Kind::IP_BLOCK, name));
    object.fields.insert("spec".to_owned(), spec);
    object
}

fn version(object: &Object) -> Version {
    object.metadata.resource_version.clone().expect("law 1: a stored object has a resourceVersion")
}

async fn watch_from_now(store: &Arc<dyn Store>, query: &Query) -> (List, Watch) {
    let list = store.list(query).await.expect("list");
    let watch = store.watch(query, &list.version).await.expect("watch");
    (list, watch)
}

async fn next(fixture: &Fixture, watch: &mut Watch) -> Event {
    soon("an event of a watch", fixture.patience, watch.next())
        .await
        .expect("the watch ended")
        .expect("the watch was disturbed")
}

async fn what_was_written_is_read_unknown_fields_included(fixture: &Fixture) {
    let mut object =
        block("b-1", json!({"cidr": "10.0.0.0/26", "deep": {"list": [1, -2.5, true, null, "x"], "e": {}}}));
    object.fields.insert("future".to_owned(), json!({"field": ["of", "a", "later", "version"]}));
    object.metadata.labels.insert("zone".to_owned(), "a".to_owned());
    object.metadata.annotations.insert("note".to_owned(), "two\nlines: \"quoted\" # no comment".to_owned());
    object.metadata.other.insert("finalizers".to_owned(), json!(["cnidarian.io/block"]));
    let created = fixture.one.create(&object).await.expect("create");
    assert!(created.metadata.uid.is_some(), "law 1: a created object has a uid");
    let without = |object: &Object| {
        let metadata = Metadata { resource_version: None, uid: None, generation: None, ..object.metadata.clone() };
        Object { metadata, ..object.clone() }
    };
    assert_eq!(without(&created), object, "law 1: create keeps every field");
    for store in [&fixture.one, &fixture.other] {
        assert_eq!(store.get(&object.key).await.expect("get"), created, "law 1: get gives what create answered");
        let list = store.list_kind(Kind::IP_BLOCK).await.expect("list");
        assert_eq!(list.objects, std::slice::from_ref(&created), "law 1: list gives what create answered");
        assert_eq!(store.list_kind(Kind::IP_POOL).await.expect("list").objects, [], "law 1: a list is of one kind");
    }
    let mut changed = Object::clone(&created);
    changed.fields.insert("spec".to_owned(), json!({"cidr": "10.0.0.0/27"}));
    let updated = fixture.other.update(&changed).await.expect("update");
    assert_eq!(without(&updated), without(&changed), "law 1: update keeps every field");
    assert_eq!(updated.metadata.uid, created.metadata.uid, "law 1: update keeps the uid");
    assert_eq!(fixture.one.get(&object.key).await.expect("get"), updated, "law 1: get gives what update answered");
    fixture.one.delete(&object.key, &version(&updated)).await.expect("delete");
    assert!(fixture.other.find(&object.key).await.expect("find").is_none(), "law 1: what was deleted is gone");
}

async fn absent_objects_and_bad_names_are_refused(fixture: &Fixture) {
    let mut object = block("absent", json!({}));
    object.metadata.resource_version = Some(Version::new("1"));
    let store = &fixture.one;
    assert!(matches!(store.get(&object.key).await, Err(Error::NotFound { .. })), "get of an absent object");
    assert!(matches!(store.update(&object).await, Err(Error::NotFound { .. })), "update of an absent object");
    let deleted = store.delete(&object.key, &Version::new("1")).await;
    assert!(matches!(deleted, Err(Error::NotFound { .. })), "delete of an absent object");
    for name in ["", ".", "..", "../escape", "a/b", "a%2fb", "a\nb", &"x".repeat(254)] {
        let refused = store.create(&block(name, json!({}))).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "create of {name:?} answered {refused:?}");
    }
    let created = store.create(&block("present", json!({}))).await.expect("create");
    let mut unread = Object::clone(&created);
    unread.metadata.resource_version = None;
    assert!(matches!(store.update(&unread).await, Err(Error::Invalid(_))), "law 2: an update names what it read");
}

async fn one_of_many_writers_wins(fixture: &Fixture) {
    let created = fixture.one.create(&block("contended", json!({"owner": "nobody"}))).await.expect("create");
    let contenders = (0..16).map(|number| {
        let mut mine = Object::clone(&created);
        mine.fields.insert("spec".to_owned(), json!({"owner": format!("node-{number}")}));
        let store = if number % 2 == 0 { fixture.one.clone() } else { fixture.other.clone() };
        async move { store.update(&mine).await }
    });
    let answers = join_all(contenders).await;
    let winners: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(winners.len(), 1, "law 2: exactly one update from one version succeeds");
    let lost = |answer: &&Result<Arc<Object>, Error>| matches!(answer, Err(Error::Conflict { .. }));
    assert_eq!(answers.iter().filter(lost).count(), 15, "law 2: the others conflict: {answers:?}");
    assert_eq!(&fixture.other.get(&created.key).await.expect("get"), winners[0], "law 2: the winner is in force");
    let stale = fixture.one.delete(&created.key, &version(&created)).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })), "law 2: a delete from an old version conflicts");
    let current = version(winners[0]);
    let deletes = [&fixture.one, &fixture.other].map(|store| store.delete(&created.key, &current));
    let answers = join_all(deletes).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "law 2: one delete succeeds: {answers:?}");
}

async fn one_of_many_creators_wins(fixture: &Fixture) {
    let contenders = (0..16).map(|number| {
        let store = if number % 2 == 0 { fixture.one.clone() } else { fixture.other.clone() };
        async move { store.create(&block("contended", json!({"owner": format!("node-{number}")}))).await }
    });
    let answers = join_all(contenders).await;
    let winners: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(winners.len(), 1, "law 3: exactly one create of a key succeeds");
    let lost = |answer: &&Result<Arc<Object>, Error>| matches!(answer, Err(Error::AlreadyExists { .. }));
    assert_eq!(answers.iter().filter(lost).count(), 15, "law 3: the others hear it exists: {answers:?}");
    assert_eq!(&fixture.one.get(&winners[0].key).await.expect("get"), winners[0], "law 3: the winner is in force");
}

async fn modify_loses_no_update(fixture: &Fixture) {
    let key = fixture.one.create(&block("counter", json!(0))).await.expect("create").key.clone();
    let writers = [&fixture.one, &fixture.other, &fixture.one, &fixture.other].map(|store| async {
        for _ in 0..5 {
            let add = |object: &mut Object| {
                let count = object.read::<i64>("spec")?;
                Ok(object.set("spec", &(count + 1))?)
            };
            store.modify(&key, add).await.expect("modify");
        }
    });
    join_all(writers).await;
    assert_eq!(fixture.one.get(&key).await.expect("get").read::<i64>("spec"), Ok(20), "law 2: no update is lost");
}

async fn a_failed_write_is_seen_by_nobody(fixture: &Fixture) {
    let first = fixture.one.create(&block("a", json!(1))).await.expect("create");
    let mut second = Object::clone(&first);
    second.fields.insert("spec".to_owned(), json!(2));
    let second = fixture.one.update(&second).await.expect("update");
    let (_, mut watch) = watch_from_now(&fixture.other, &Query::kind(Kind::IP_BLOCK)).await;
    let mut stale = Object::clone(&first);
    stale.fields.insert("spec".to_owned(), json!(3));
    assert!(fixture.one.update(&stale).await.is_err(), "law 2: an update from an old version fails");
    assert!(fixture.one.create(&stale).await.is_err(), "law 3: a create of what is there fails");
    assert!(fixture.one.delete(&first.key, &version(&first)).await.is_err(), "law 2: a stale delete fails");
    let sentinel = fixture.one.create(&block("sentinel", json!(0))).await.expect("create");
    assert_eq!(next(fixture, &mut watch).await, Event::Put(sentinel), "law 4: a failed write is seen by no watch");
    assert_eq!(fixture.other.get(&first.key).await.expect("get"), second, "law 4: a failed write changes nothing");
}

async fn a_version_changes_with_the_content_only(fixture: &Fixture) {
    let first = fixture.one.create(&block("a", json!({"n": 1}))).await.expect("create");
    let (_, mut watch) = watch_from_now(&fixture.other, &Query::kind(Kind::IP_BLOCK)).await;
    let same = fixture.one.update(&first).await.expect("law 5: an update with the content in force is Ok");
    assert_eq!(same, first, "law 5: and changes nothing");
    let mut changed = Object::clone(&first);
    changed.metadata.labels.insert("l".to_owned(), "v".to_owned());
    let changed = fixture.one.update(&changed).await.expect("update");
    assert_ne!(version(&changed), version(&first), "law 5: a change of a label changes the version");
    assert_eq!(next(fixture, &mut watch).await, Event::Put(changed), "law 5: what changed nothing is seen by no watch");
}

/// The state as a watcher knows it.
#[derive(Default, PartialEq, Debug)]
struct Follower {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
}

impl Follower {
    fn take(&mut self, event: Event) {
        match event {
            Event::Put(object) => {
                if let Some(known) = self.objects.get(&object.key) {
                    let step = |object: &Object| object.read::<u64>("spec").unwrap_or_default();
                    assert!(step(&object) > step(known), "law 6: changes of {} come in order, once", object.key);
                }
                self.objects.insert(object.key.clone(), object);
            }
            Event::Delete(key) => {
                assert!(self.objects.remove(&key).is_some(), "law 6: {key} was deleted, but was never there");
            }
            Event::Resynced(list) => {
                self.objects = list.objects.into_iter().map(|object| (object.key.clone(), object)).collect();
            }
        }
    }
}

async fn list_and_watch_leave_no_gap(fixture: &Fixture) {
    let query = Query::kind(Kind::IP_BLOCK);
    for store in [&fixture.one, &fixture.other] {
        let list = store.list(&query).await.expect("list");
        let between = fixture.one.create(&block("between", json!(1))).await.expect("create");
        let mut watch = store.watch(&query, &list.version).await.expect("watch");
        assert_eq!(next(fixture, &mut watch).await, Event::Put(between.clone()), "law 6: nothing is missed");
        fixture.other.delete(&between.key, &version(&between)).await.expect("delete");
        assert_eq!(next(fixture, &mut watch).await, Event::Delete(between.key.clone()), "law 6: a delete is told");
    }
    let mut followers = Vec::new();
    for step in 0..60_u64 {
        // Watches begin in the middle of the changes, on either handle, with a change between list and watch.
        let watcher = if step % 2 == 0 { &fixture.one } else { &fixture.other };
        let list = watcher.list(&query).await.expect("list");
        let store = if step % 3 == 0 { &fixture.one } else { &fixture.other };
        let mut object = block(&format!("b-{}", (step * 7) % 5), json!(step));
        match store.find(&object.key).await.expect("find") {
            None => drop(store.create(&object).await.expect("create")),
            Some(present) if step % 4 == 0 => {
                store.delete(&object.key, &version(&present)).await.expect("delete");
            }
            Some(present) => {
                object.metadata = present.metadata.clone();
                store.update(&object).await.expect("update");
            }
        }
        if step % 9 == 0 {
            let watch = watcher.watch(&query, &list.version).await.expect("watch");
            let mut follower = Follower::default();
            follower.take(Event::Resynced(list));
            followers.push((follower, watch));
        }
    }
    let last = fixture.one.create(&block("last", json!(1))).await.expect("create");
    let wanted = fixture.other.list(&query).await.expect("list").objects;
    for (mut follower, mut watch) in followers {
        while !follower.objects.contains_key(&last.key) {
            follower.take(next(fixture, &mut watch).await);
        }
        let known: Vec<_> = follower.objects.into_values().collect();
        assert_eq!(known, wanted, "law 6: list and watch together are the state");
    }
}

async fn a_watch_from_too_old_a_version_begins_with_the_whole_state(fixture: &Fixture) {
    let first = fixture.one.create(&block("a", json!(1))).await.expect("create");
    let query = Query::kind(Kind::IP_BLOCK);
    let mut watch = fixture.one.watch(&query, &fixture.too_old).await.expect("law 7: an old version is no error");
    let Event::Resynced(list) = next(fixture, &mut watch).await else {
        panic!("law 7: a watch from too old a version begins with Resynced");
    };
    assert_eq!(list.objects, [first], "law 7: Resynced carries the whole state");
    let second = fixture.one.create(&block("b", json!(1))).await.expect("create");
    assert_eq!(next(fixture, &mut watch).await, Event::Put(second), "law 7: and changes follow");
}

async fn a_selective_watch_tells_what_ceases_to_match(fixture: &Fixture) {
    let pod = |namespace: &str, name: &str, node: &str| {
        let mut object = Object::new(ObjectKey::namespaced(Kind::POD, namespace, name));
        object.fields.insert("spec".to_owned(), json!({"nodeName": node}));
        object
    };
    let (ours, theirs) = (Query::kind(Kind::POD).on_node("node-1"), Query::kind(Kind::POD).in_namespace("theirs"));
    let (_, mut on_node) = watch_from_now(&fixture.other, &ours).await;
    let (_, mut in_namespace) = watch_from_now(&fixture.other, &theirs).await;
    let foreign = fixture.one.create(&pod("theirs", "a", "node-2")).await.expect("create");
    let own = fixture.one.create(&pod("default", "a", "node-1")).await.expect("create");
    assert_eq!(
        next(fixture, &mut on_node).await,
        Event::Put(own.clone()),
        "law 8: a watch of a node sees its pods only"
    );
    assert_eq!(
        next(fixture, &mut in_namespace).await,
        Event::Put(foreign),
        "law 8: a watch of a namespace sees its pods only"
    );
    let mut moved = Object::clone(&own);
    moved.fields.insert("spec".to_owned(), json!({"nodeName": "node-2"}));
    fixture.one.update(&moved).await.expect("update");
    assert_eq!(
        next(fixture, &mut on_node).await,
        Event::Delete(own.key.clone()),
        "law 8: what ceases to match is deleted"
    );
    assert_eq!(fixture.one.list(&ours).await.expect("list").objects, [], "law 8: a list selects as a watch does");
}

async fn a_name_used_again_is_another_object(fixture: &Fixture) {
    let first = fixture.one.create(&block("a", json!(1))).await.expect("create");
    fixture.other.delete(&first.key, &version(&first)).await.expect("delete");
    let second = fixture.one.create(&block("a", json!(1))).await.expect("create");
    assert_ne!(second.metadata.uid, first.metadata.uid, "law 9: another object has another uid");
    let mut stale = Object::clone(&first);
    stale.fields.insert("spec".to_owned(), json!(2));
    let refused = fixture.other.update(&stale).await;
    assert!(matches!(refused, Err(Error::Conflict { .. })), "law 9: the old version is void: {refused:?}");
    let refused = fixture.other.delete(&first.key, &version(&first)).await;
    assert!(matches!(refused, Err(Error::Conflict { .. })), "law 9: the old version is void: {refused:?}");
}

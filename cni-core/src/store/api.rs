//! The store's contract. Never how it is kept: memory, a directory of files, or Kubernetes.

use super::{Error, Kind, Object, ObjectKey, Query, Result, Version};
use async_trait::async_trait;
use futures_util::stream::{self, Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;

/// All objects of a query at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct List {
    /// The objects, sorted by key.
    pub objects: Vec<Arc<Object>>,
    /// The moment; a [`Store::watch`] from here misses nothing and repeats nothing.
    pub version: Version,
}

/// What a watch delivers.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The object exists now with this content, or begins to match the query.
    Put(Arc<Object>),
    /// The object does not exist any more, or ceased to match the query.
    Delete(ObjectKey),
    /// The watch could not go on from where it was (Kubernetes: 410 Gone), so here is the whole state:
    /// what is not in it does not exist any more. Changes after it follow.
    Resynced(List),
}

/// A running watch.
///
/// An `Err` tells of a disturbance (API server away, a directory unreadable) and does not end it: the store tries
/// again by itself and sends [`Event::Resynced`] where it may have missed something. It ends when the store is gone.
pub type Watch = Pin<Box<dyn Stream<Item = Result<Event>> + Send>>;

/// Objects with compare-and-swap and gapless watches. Object safe; shared as `Arc<dyn Store>`.
///
/// # Laws
/// The suite `testkit::store` tests each of them.
/// 1. What `create` or `update` answered, `get` and `list` give, unknown fields included.
/// 2. Of several updates or deletes from one version, exactly one succeeds; the others are [`Error::Conflict`]
///    (or [`Error::NotFound`] after a delete).
/// 3. Of several creates of one key, exactly one succeeds; the others are [`Error::AlreadyExists`].
/// 4. A write that failed changed nothing and is seen by no watch.
/// 5. An object's version changes with its content. An update with the content in force is `Ok`, changes no version
///    and is seen by no watch.
/// 6. A list followed by a watch from its version gives every later change, in order for each object. Several changes
///    of one object may be squashed to its last.
/// 7. A watch from a version too old to go on from begins with [`Event::Resynced`], never with a gap.
/// 8. A watch with a selective query says [`Event::Delete`] of an object that ceases to match.
/// 9. An object created again under an old name has another uid, and writes with the old version fail.
#[async_trait]
pub trait Store: Send + Sync {
    /// The object under a key.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the store cannot be read.
    async fn get(&self, key: &ObjectKey) -> Result<Arc<Object>>;

    /// All objects of a query, and the moment to watch from.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn list(&self, query: &Query) -> Result<List>;

    /// Every change after a moment, for as long as the store lives.
    ///
    /// # Errors
    /// The store cannot be watched at all. A version that is too old is no error: see [`Event::Resynced`].
    async fn watch(&self, query: &Query, from: &Version) -> Result<Watch>;

    /// Creates an object; `resourceVersion`, `uid` and `generation` of the argument are ignored.
    /// Answers the object as stored. It is durable when this answers, in stores that are durable at all.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::Invalid`], or it could not be written.
    async fn create(&self, object: &Object) -> Result<Arc<Object>>;

    /// Replaces an object, if it still has the `resourceVersion` of the argument. `uid` and `generation` of the
    /// argument are ignored. Answers the object as stored.
    ///
    /// # Errors
    /// [`Error::Conflict`], [`Error::NotFound`], [`Error::Invalid`] (also without a `resourceVersion`),
    /// or it could not be written.
    async fn update(&self, object: &Object) -> Result<Arc<Object>>;

    /// Deletes an object, if it still has this version.
    ///
    /// # Errors
    /// [`Error::Conflict`], [`Error::NotFound`], or it could not be written.
    async fn delete(&self, key: &ObjectKey, expected: &Version) -> Result<()>;
}

/// Conveniences over every [`Store`].
#[async_trait]
pub trait StoreExt: Store {
    /// As [`get`](Store::get), with `None` where there is no such object.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn find(&self, key: &ObjectKey) -> Result<Option<Arc<Object>>> {
        match self.get(key).await {
            Ok(object) => Ok(Some(object)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects of a kind.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn list_kind(&self, kind: Kind) -> Result<List> {
        self.list(&Query::kind(kind)).await
    }

    /// Reads, lets `change` change, writes, and begins again when somebody else was faster.
    ///
    /// `change` may run several times, each on a fresh copy; its error ends the loop and nothing is written.
    ///
    /// # Errors
    /// As of `get` and `update`, and [`Error::Conflict`] after 64 lost races.
    async fn modify<F>(&self, key: &ObjectKey, mut change: F) -> Result<Arc<Object>>
    where
        F: FnMut(&mut Object) -> Result<()> + Send,
    {
        let mut races_left = 64;
        loop {
            let mut object = Object::clone(&*self.get(key).await?);
            change(&mut object)?;
            match self.update(&object).await {
                Err(Error::Conflict { .. }) if races_left > 0 => races_left -= 1,
                answer => return answer,
            }
        }
    }

    /// A watch that begins with [`Event::Resynced`]: the whole state, then every change after it.
    ///
    /// # Errors
    /// As of `list` and `watch`.
    async fn follow(&self, query: &Query) -> Result<Watch> {
        let list = self.list(query).await?;
        let changes = self.watch(query, &list.version).await?;
        Ok(stream::once(async { Ok(Event::Resynced(list)) }).chain(changes).boxed())
    }
}

impl<S: Store + ?Sized> StoreExt for S {}

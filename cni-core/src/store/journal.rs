//! Objects in memory with a bounded log of their changes, and the watches that read it. Never decides who may write.

use super::packed::Packed;
use super::{Error, Event, List, Object, ObjectKey, Query, Result, Version, Watch};
use futures_util::stream::Stream;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// How many changes are kept for watches that lag behind. One that lags further gets the whole state instead.
const LOG_LENGTH: usize = 4096;

/// One entry of the log.
#[derive(Debug, Clone)]
enum Entry {
    Change {
        before: Option<Arc<Packed>>,
        after: Option<Arc<Packed>>,
    },
    /// Boxed: the log is thousands of changes.
    Disturbance(Box<Error>),
}

/// An object in a set, found by the key that it has anyway.
#[derive(Debug)]
struct ByKey(Arc<Packed>);

impl Borrow<ObjectKey> for ByKey {
    fn borrow(&self) -> &ObjectKey {
        self.0.key()
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey {}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key().cmp(other.0.key())
    }
}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug)]
struct State {
    /// Tells versions of this journal from those of another one: an earlier process, another process.
    epoch: String,
    objects: BTreeSet<ByKey>,
    /// The sequence number of the first entry of `log`; the next entry gets `first + log.len()`.
    first: u64,
    log: VecDeque<Entry>,
    log_length: usize,
    wakers: HashMap<u64, Waker>,
    next_watcher: u64,
    closed: bool,
}

impl State {
    fn head(&self) -> u64 {
        self.first + self.log.len() as u64
    }

    fn push(&mut self, entry: Entry) {
        // Before the push, so that the room of the log never grows beyond its length.
        while self.log.len() >= self.log_length.max(1) {
            self.log.pop_front();
            self.first += 1;
        }
        self.log.push_back(entry);
        self.wake();
    }

    fn wake(&mut self) {
        for (_, waker) in self.wakers.drain() {
            waker.wake();
        }
    }

    /// What a query may ask for, with the version of the moment. [`whole`] makes a list of it, without the lock.
    fn list(&self, query: &Query) -> (Vec<Arc<Packed>>, Version) {
        let from = ObjectKey { kind: query.kind.clone(), namespace: None, name: "".into() };
        let objects = self.objects.range(from..).map(|ByKey(object)| object);
        let objects = objects.take_while(|object| object.key().kind == query.kind);
        let objects = objects.filter(|object| query.matches_key(object.key())).cloned().collect();
        (objects, Version::new(&format!("{}.{}", self.epoch, self.head())))
    }

    /// The sequence number in one of our versions, `None` when it is not ours or no longer in the log.
    fn position(&self, version: &Version) -> Option<u64> {
        let (epoch, number) = version.as_str().rsplit_once('.')?;
        let number = number.parse().ok()?;
        (epoch == self.epoch && (self.first..=self.head()).contains(&number)).then_some(number)
    }
}

/// The journal. Watches end when it is dropped.
#[derive(Debug)]
pub(super) struct Journal {
    shared: Arc<Mutex<State>>,
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    // No code panics half way through a change of the state, so it is whole even after a panic elsewhere.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Journal {
    /// An empty journal. Versions of another epoch are unknown to it.
    pub(super) fn new(epoch: String) -> Self {
        Self::with_log_length(epoch, LOG_LENGTH)
    }

    pub(super) fn with_log_length(epoch: String, log_length: usize) -> Self {
        let state = State {
            epoch,
            objects: BTreeSet::new(),
            first: 1,
            log: VecDeque::new(),
            log_length,
            wakers: HashMap::new(),
            next_watcher: 0,
            closed: false,
        };
        Self { shared: Arc::new(Mutex::new(state)) }
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Result<Arc<Object>> {
        let found = lock(&self.shared).objects.get(key).map(|ByKey(object)| object.clone());
        let found = found.ok_or_else(|| Error::NotFound { key: key.clone() })?;
        Ok(Arc::new(found.unpack()))
    }

    pub(super) fn list(&self, query: &Query) -> List {
        let listed = lock(&self.shared).list(query);
        whole(listed, query)
    }

    pub(super) fn watch(&self, query: &Query, from: &Version) -> Watch {
        let mut state = lock(&self.shared);
        let watcher = state.next_watcher;
        state.next_watcher += 1;
        let next = state.position(from);
        Box::pin(Reader { shared: self.shared.clone(), watcher, query: query.clone(), next })
    }

    /// Runs a decision and its change as one: nobody changes the journal in between.
    pub(super) fn transact<T>(&self, decide: impl FnOnce(&mut Transaction<'_>) -> Result<T>) -> Result<T> {
        decide(&mut Transaction { state: &mut lock(&self.shared) })
    }

    /// Tells all watches of a disturbance.
    pub(super) fn disturb(&self, error: Error) {
        lock(&self.shared).push(Entry::Disturbance(error.into()));
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        state.closed = true;
        state.wake();
    }
}

/// The journal while it is locked.
pub(super) struct Transaction<'a> {
    state: &'a mut State,
}

impl Transaction<'_> {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Arc<Packed>> {
        self.state.objects.get(key).map(|ByKey(object)| object)
    }

    /// The keys of all objects that `kept` is not true of.
    #[cfg(feature = "files")]
    pub(super) fn keys_without(&self, kept: impl Fn(&ObjectKey) -> bool) -> Vec<ObjectKey> {
        let keys = self.state.objects.iter().map(|ByKey(object)| object.key());
        keys.filter(|key| !kept(key)).cloned().collect()
    }

    /// The number that the next change gets: grows with every change.
    pub(super) fn next_number(&self) -> u64 {
        self.state.head()
    }

    pub(super) fn set(&mut self, key: &ObjectKey, after: Option<Arc<Packed>>) {
        // Mostly nothing changed, and then the same object is there.
        if let (Some(before), Some(after)) = (self.get(key), &after)
            && Arc::ptr_eq(before, after)
        {
            return;
        }
        let before = match &after {
            Some(object) => self.state.objects.replace(ByKey(object.clone())),
            None => self.state.objects.take(key),
        };
        let before = before.map(|ByKey(object)| object);
        if before != after {
            self.state.push(Entry::Change { before, after });
        }
    }
}

/// One watch: a position in the log, so a slow reader costs no memory of its own.
struct Reader {
    shared: Arc<Mutex<State>>,
    watcher: u64,
    query: Query,
    /// The next entry to read; `None` when the whole state is due.
    next: Option<u64>,
}

impl Stream for Reader {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Event>>> {
        let shared = self.shared.clone();
        let mut state = lock(&shared);
        let Some(mut next) = self.next.filter(|next| *next >= state.first) else {
            self.next = Some(state.head());
            let listed = state.list(&self.query);
            drop(state);
            return Poll::Ready(Some(Ok(Event::Resynced(whole(listed, &self.query)))));
        };
        while next < state.head() {
            let index = usize::try_from(next - state.first).unwrap_or(usize::MAX);
            let event = state.log.get(index).and_then(|entry| event(entry, &self.query));
            next += 1;
            self.next = Some(next);
            if event.is_some() {
                return Poll::Ready(event);
            }
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.wakers.insert(self.watcher, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        lock(&self.shared).wakers.remove(&self.watcher);
    }
}

fn whole((objects, version): (Vec<Arc<Packed>>, Version), query: &Query) -> List {
    let objects = objects.iter().map(|object| Arc::new(object.unpack())).filter(|object| query.matches(object));
    List { objects: objects.collect(), version }
}

/// What an entry means to a query, `None` when it is none of its business.
fn event(entry: &Entry, query: &Query) -> Option<Result<Event>> {
    match entry {
        Entry::Disturbance(error) => Some(Err(Error::clone(error))),
        Entry::Change { before, after } => {
            let wanted = |object: &&Arc<Packed>| object.matches(query);
            match (before.as_ref().filter(wanted), after.as_ref().filter(wanted)) {
                (_, Some(after)) => Some(Ok(Event::Put(Arc::new(after.unpack())))),
                (Some(before), None) => Some(Ok(Event::Delete(before.key().clone()))),
                (None, None) => None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Kind;
    use futures_util::{FutureExt, StreamExt};

    fn object(name: &str, version: u64) -> Arc<Object> {
        let mut object = Object::new(ObjectKey::cluster(Kind::NODE, name));
        object.metadata.resource_version = Some(Version::new(&version.to_string()));
        Arc::new(object)
    }

    fn set(journal: &Journal, object: &Arc<Object>) {
        let put = |transaction: &mut Transaction<'_>| {
            transaction.set(&object.key, Some(Arc::new(Packed::of(object))));
            Ok(())
        };
        journal.transact(put).unwrap();
    }

    #[test]
    fn a_watch_that_lags_behind_the_log_gets_the_whole_state_and_goes_on_from_there() {
        let journal = Journal::with_log_length("e".to_owned(), 2);
        let query = Query::kind(Kind::NODE);
        let mut watch = journal.watch(&query, &journal.list(&query).version);
        for number in 0..5 {
            set(&journal, &object("a", number));
        }
        let Some(Some(Ok(Event::Resynced(list)))) = watch.next().now_or_never() else { panic!("no Resynced") };
        assert_eq!(list.objects, [object("a", 4)]);
        assert!(watch.next().now_or_never().is_none());
        set(&journal, &object("b", 5));
        assert_eq!(watch.next().now_or_never().unwrap().unwrap().unwrap(), Event::Put(object("b", 5)));
    }

    #[test]
    fn a_watch_ends_when_the_journal_is_gone_but_gives_the_last_changes_first() {
        let journal = Journal::new("e".to_owned());
        let query = Query::kind(Kind::NODE);
        let mut watch = journal.watch(&query, &journal.list(&query).version);
        set(&journal, &object("a", 1));
        drop(journal);
        assert!(watch.next().now_or_never().unwrap().is_some());
        assert!(watch.next().now_or_never().unwrap().is_none());
    }
}

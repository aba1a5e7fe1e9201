//! What a directory of manifests says: which objects are in force, which files are wrong, and writes under the lock.
//! Never waits for changes: the worker does.

use super::disk::{Disk, Locked, Stamp, Unreadable};
use super::manifest::{Flaw, Manifest, render_one, salvage};
use super::names::{candidates, form};
use super::{Problem, digest};
use crate::store::journal::Journal;
use crate::store::memory::{check_version, created, expected_version, updated};
use crate::store::packed::Packed;
use crate::store::{Error, Object, ObjectKey, Result, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A file written in place is read when it has been left alone for so long; until then its last state counts.
/// Also covers the tick of a file system's clock, so that a stamp taken later tells every change.
pub(super) const SETTLE: Duration = Duration::from_millis(200);

/// A file as last read.
#[derive(Debug)]
struct Tracked {
    stamp: Stamp,
    /// The stamp was too young to tell later changes, so the file is read again next time.
    unsure: bool,
    /// The objects of its last good state.
    objects: Box<[Arc<Packed>]>,
    /// What is wrong with its present state.
    flaw: Option<Box<Flaw>>,
}

impl Tracked {
    fn holds(&self, key: &ObjectKey) -> bool {
        self.objects.iter().any(|object| object.key() == key)
    }
}

/// The directory and what is known of it.
#[derive(Debug)]
pub(super) struct Directory {
    disk: Disk,
    journal: Arc<Journal>,
    /// By name. Of the objects in them those in force are in the journal.
    files: BTreeMap<Box<str>, Tracked>,
    problems: Vec<Problem>,
    /// Files that inotify named since the last scan; read whatever their stamps say.
    touched: BTreeSet<String>,
}

impl Directory {
    pub(super) fn new(disk: Disk, journal: Arc<Journal>) -> Self {
        Self { disk, journal, files: BTreeMap::new(), problems: Vec::new(), touched: BTreeSet::new() }
    }

    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    pub(super) fn touch(&mut self, file: String) {
        self.touched.insert(file);
    }

    /// Whether a file is waiting to settle, so that another scan is due after [`SETTLE`].
    pub(super) fn is_unsettled(&self) -> bool {
        !self.touched.is_empty() || self.files.values().any(|file| file.unsure)
    }

    /// Removes what killed writers left, and reads everything.
    pub(super) fn open(&mut self) -> Result<()> {
        let lock = self.disk.lock()?;
        self.disk.remove_leftovers(&lock)?;
        self.scan()
    }

    /// Reads what changed, and tells the journal.
    pub(super) fn scan(&mut self) -> Result<()> {
        let mut listing = self.disk.listing()?;
        // A file that is renamed during a listing may be missed under both names, so one that shows a removal is
        // made again until two agree.
        while self.files.keys().any(|name| !listing.contains_key(&**name)) {
            let again = self.disk.listing()?;
            if again.keys().eq(listing.keys()) {
                break;
            }
            listing = again;
        }
        let mut changed = false;
        self.files.retain(|name, _| {
            let listed = listing.contains_key(&**name);
            changed |= !listed;
            listed
        });
        self.touched.retain(|name| listing.contains_key(name));
        for (name, stamp) in listing {
            let known = self.files.get(&*name).is_some_and(|file| file.stamp == stamp && !file.unsure);
            if !known || self.touched.contains(&name) {
                changed |= self.read(name, stamp);
            }
        }
        if changed {
            // A tree that grew in order is half empty; made anew it is full.
            self.files = std::mem::take(&mut self.files).into_iter().collect();
            self.settle_who_is_in_force();
        }
        Ok(())
    }

    /// Reads one file. Answers whether anything came of it.
    fn read(&mut self, name: String, listed: Stamp) -> bool {
        let now = SystemTime::now();
        let before = self.files.get(&*name);
        // Whoever writes in place passes through states that nobody wants in force: empty, cut short.
        let in_place = |stamp: &Stamp| {
            let other = before.is_some_and(|file| file.stamp.is_of_the_same_file(stamp) && file.stamp != *stamp);
            other && stamp.is_younger_than(SETTLE, now)
        };
        if in_place(&listed) {
            self.touched.insert(name);
            return false;
        }
        let form = form(&name).unwrap_or(super::names::Form::Yaml);
        let (stamp, parsed) = match self.disk.read(&name) {
            Ok((_, stamp)) if in_place(&stamp) => {
                self.touched.insert(name);
                return false;
            }
            Ok((text, stamp)) => (stamp, Manifest::parse(&text, form).map_err(|flaw| (flaw, salvage(&text, form)))),
            Err(Unreadable::Gone) => return false,
            Err(Unreadable::Changing) => {
                self.touched.insert(name);
                return false;
            }
            Err(Unreadable::Refused(detail)) => (listed, Err((Flaw { line: 1, detail }, Vec::new()))),
        };
        self.touched.remove(&name);
        let unsure = stamp.is_younger_than(SETTLE, now);
        let (objects, flaw) = match parsed {
            Ok(manifest) => (pack(manifest.objects()), None),
            Err((flaw, good)) => {
                // Of a file that was good once all stays as it was; of any other the good objects count, once it settled.
                let kept = before.map_or_else(Box::default, |file| file.objects.clone());
                let kept = if kept.is_empty() && !unsure { pack(good.iter()) } else { kept };
                // A new file may be half written; if it is still broken when it settled, it is reported.
                (kept, if unsure { before.and_then(|file| file.flaw.clone()) } else { Some(flaw.into()) })
            }
        };
        let changed = before.is_none_or(|file| file.objects != objects || file.flaw != flaw);
        self.files.insert(name.into(), Tracked { stamp, unsure, objects, flaw });
        changed
    }

    /// Of several definitions of one object the first counts, by file name, then by place in the file.
    fn settle_who_is_in_force(&mut self) {
        let mut in_force: BTreeMap<&ObjectKey, (&str, &Arc<Packed>)> = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, file) in &self.files {
            let path = || self.disk.path.join(&**name);
            if let Some(Flaw { line, detail }) = file.flaw.as_deref() {
                let detail = match file.objects.len() {
                    0 => detail.clone(),
                    kept => format!("{detail}; {kept} object(s) of it are in force as they were last good"),
                };
                problems.push(Problem { path: path(), line: *line, detail });
            }
            for object in &file.objects {
                let key = object.key();
                if let Some((winner, _)) = in_force.get(key) {
                    let detail =
                        format!("{key} stands in {winner} already, and that one counts; remove it from one of the two");
                    problems.push(Problem { path: path(), line: 1, detail });
                } else {
                    in_force.insert(key, (name, object));
                }
            }
        }
        // The journal ignores what did not change.
        let told = self.journal.transact(|transaction| {
            for key in transaction.keys_without(|key| in_force.contains_key(key)) {
                transaction.set(&key, None);
            }
            for (key, (_, object)) in in_force {
                transaction.set(key, Some(object.clone()));
            }
            Ok(())
        });
        debug_assert!(told.is_ok());
        self.problems = problems;
    }

    /// The file that an object in force stands in: the first that has it.
    fn file_of(&self, key: &ObjectKey) -> Option<&str> {
        self.files.iter().find(|(_, file)| file.holds(key)).map(|(name, _)| &**name)
    }

    pub(super) fn create(&mut self, object: &Object) -> Result<Arc<Object>> {
        let new = created(object)?;
        let lock = self.disk.lock()?;
        self.scan()?;
        if self.journal.get(&object.key).is_ok() {
            return Err(Error::AlreadyExists { key: object.key.clone() });
        }
        for name in candidates(&object.key) {
            match self.files.get(&*name) {
                // It may hold this very object: whoever broke the file must repair it first.
                Some(file) if self.is_broken(&name) => return Err(self.broken(&object.key, &name, file)),
                Some(_) => {}
                None => {
                    self.disk.replace(&lock, &name, &render_one(&new))?;
                    return self.written(&object.key);
                }
            }
        }
        let name = candidates(&object.key).next().unwrap_or_default();
        let detail = format!("no file name is free for it; {name} and its successors hold other objects");
        Err(Error::BrokenFile { key: object.key.clone(), path: self.disk.path.join(name), detail })
    }

    pub(super) fn update(&mut self, object: &Object) -> Result<Arc<Object>> {
        expected_version(object)?;
        let lock = self.disk.lock()?;
        self.scan()?;
        let present = self.journal.get(&object.key)?;
        let Some(new) = updated(object, &present)? else { return Ok(present) };
        self.edit(&lock, self.file_of(&object.key).unwrap_or_default(), &object.key, Some(&new))?;
        self.written(&object.key)
    }

    pub(super) fn delete(&mut self, key: &ObjectKey, expected: &Version) -> Result<()> {
        let lock = self.disk.lock()?;
        self.scan()?;
        check_version(key, expected, self.journal.get(key)?.metadata.resource_version.as_ref())?;
        // A second definition must not come into force by the removal of the first, so the winner goes last.
        let files: Vec<_> =
            self.files.iter().filter(|(_, file)| file.holds(key)).map(|(name, _)| name.clone()).collect();
        for name in &files {
            if let Some(file) = self.files.get(name).filter(|_| self.is_broken(name)) {
                return Err(self.broken(key, name, file));
            }
        }
        for name in files.iter().rev() {
            self.edit(&lock, name, key, None)?;
        }
        self.scan()
    }

    /// Whether the file as it is now cannot be edited. Asks the disk: the last scan may have left it to settle.
    fn is_broken(&self, name: &str) -> bool {
        let parse = |text: &str| form(name).is_some_and(|form| Manifest::parse(text, form).is_ok());
        !self.disk.read(name).is_ok_and(|(text, _)| parse(&text))
    }

    fn broken(&self, key: &ObjectKey, name: &str, file: &Tracked) -> Error {
        let detail = file.flaw.as_ref().map_or_else(
            || "it is being written, or cannot be read".to_owned(),
            |flaw| format!("line {}: {}", flaw.line, flaw.detail),
        );
        Error::BrokenFile { key: key.clone(), path: self.disk.path.join(name), detail }
    }

    /// Replaces or removes one object in a file, as the file is now.
    fn edit(&self, lock: &Locked, name: &str, key: &ObjectKey, new: Option<&Object>) -> Result<()> {
        let broken = |detail: String| Error::BrokenFile { key: key.clone(), path: self.disk.path.join(name), detail };
        let form = form(name).unwrap_or(super::names::Form::Yaml);
        let text = match self.disk.read(name) {
            Ok((text, _)) => text,
            Err(Unreadable::Gone) => return Err(Error::NotFound { key: key.clone() }),
            Err(Unreadable::Changing) => return Err(broken("it is being written; try again".to_owned())),
            Err(Unreadable::Refused(detail)) => return Err(broken(detail)),
        };
        let manifest =
            Manifest::parse(&text, form).map_err(|flaw| broken(format!("line {}: {}", flaw.line, flaw.detail)))?;
        // Editors take no lock: what the user saved since the scan counts.
        let known = self.files.get(name).and_then(|file| file.objects.iter().find(|object| object.key() == key));
        let known = known.and_then(|object| object.version());
        let found = manifest.objects().find(|object| object.key == *key);
        let found = found.and_then(|object| object.metadata.resource_version.as_ref());
        if found != known {
            let expected = known.cloned().unwrap_or_else(|| Version::new(""));
            return Err(Error::Conflict { key: key.clone(), expected, found: found.cloned() });
        }
        match manifest.edited(&text, key, new) {
            Some(text) => self.disk.replace(lock, name, &text),
            None => self.disk.remove(lock, name),
        }
    }

    /// The object as it is in force after a write of ours.
    fn written(&mut self, key: &ObjectKey) -> Result<Arc<Object>> {
        self.scan()?;
        let object = self.journal.get(key)?;
        debug_assert_eq!(object.metadata.resource_version, Some(digest::version(&object)));
        Ok(object)
    }
}

fn pack<'a>(objects: impl Iterator<Item = &'a Object>) -> Box<[Arc<Packed>]> {
    objects.map(Packed::of).map(Arc::new).collect()
}

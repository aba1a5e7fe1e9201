//! The store in a directory: the laws, users who edit files, and processes that are killed at any time.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use cni_core::store::{
    Error, Event, FilesOptions, FilesStore, Kind, Object, ObjectKey, Problem, Query, Store, StoreExt, Version, Watch,
};
use cni_core::testkit::store::{Fixture, conformance};
use futures_util::stream::StreamExt;
use serde_json::json;
use std::fs;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const NODE_A: &str = "apiVersion: v1\nkind: Node\nmetadata:\n  name: a\n";

fn node(name: &str) -> ObjectKey {
    ObjectKey::cluster(Kind::NODE, name)
}

fn directory() -> (TempDir, FilesStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = FilesStore::open(directory.path()).unwrap();
    (directory, store)
}

/// Saves a file as editors do: whole. One written in place counts when it was left alone for a while.
fn save(path: &Path, text: impl AsRef<[u8]>) {
    let temporary = path.with_extension("swp");
    fs::write(&temporary, text).unwrap();
    fs::rename(temporary, path).unwrap();
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("did not happen within 30 s")
}

async fn follow(store: &FilesStore) -> Watch {
    store.follow(&Query::kind(Kind::NODE)).await.unwrap()
}

/// The next event, which is no error.
async fn next(watch: &mut Watch) -> Event {
    soon(watch.next()).await.unwrap().unwrap()
}

/// Waits until the problems are as wanted.
async fn problems(store: &FilesStore, wanted: impl Fn(&[Problem]) -> bool) -> Vec<Problem> {
    let mut states = store.follow_problems().await.unwrap();
    soon(async { states.by_ref().filter(|state| std::future::ready(wanted(state))).next().await.unwrap() }).await
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != ".cnidarian.lock");
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_open_directories_keep_the_laws_of_a_store() {
    let fresh = || {
        let directory = tempfile::tempdir().unwrap();
        let open = || Arc::new(FilesStore::open(directory.path()).unwrap());
        let fixture = Fixture::new(open(), open(), Version::new("an-earlier-process.7"));
        Fixture { keep: Some(Box::new(directory)), ..fixture }
    };
    conformance(fresh).await;
}

#[tokio::test]
async fn what_a_user_drops_in_changes_and_removes_is_told() {
    let (directory, store) = directory();
    let mut watch = follow(&store).await;
    assert!(matches!(next(&mut watch).await, Event::Resynced(list) if list.objects.is_empty()));
    let path = directory.path().join("mine.yaml");
    fs::write(&path, NODE_A).unwrap();
    let Event::Put(first) = next(&mut watch).await else { panic!("not put") };
    assert_eq!(first.key, node("a"));
    fs::write(&path, format!("{NODE_A}  labels: {{zone: north}}\n")).unwrap();
    let Event::Put(second) = next(&mut watch).await else { panic!("not put") };
    assert_eq!(second.metadata.labels["zone"], "north");
    assert_ne!(first.metadata.resource_version, second.metadata.resource_version);
    fs::rename(&path, directory.path().join("other-name.yaml")).unwrap();
    fs::write(directory.path().join("b.json"), r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"b"}}"#).unwrap();
    let Event::Put(third) = next(&mut watch).await else { panic!("a renamed file is no change") };
    assert_eq!(third.key, node("b"));
    fs::remove_file(directory.path().join("other-name.yaml")).unwrap();
    assert_eq!(next(&mut watch).await, Event::Delete(node("a")));
}

#[tokio::test]
async fn a_broken_file_is_reported_and_its_last_good_state_stays_in_force() {
    let (directory, store) = directory();
    let path = directory.path().join("mine.yaml");
    save(&path, NODE_A);
    save(&directory.path().join("never-good.json"), "{\n  \"kind\": }");
    let first = problems(&store, |problems| problems.len() == 1).await;
    assert_eq!((first[0].path.file_name().unwrap().to_str(), first[0].line), (Some("never-good.json"), 2));
    assert!(store.get(&node("a")).await.is_ok(), "other files are unaffected");
    fs::write(&path, NODE_A.replace("  name: a", "  name: [")).unwrap();
    let both = problems(&store, |problems| problems.len() == 2).await;
    assert!(both[0].path.ends_with("mine.yaml") && both[0].line >= 4, "{both:?}");
    assert!(both[0].detail.contains("1 object(s) of it are in force as they were last good"), "{both:?}");
    let kept = store.get(&node("a")).await.unwrap();
    let mut changed = Object::clone(&kept);
    changed.metadata.labels.insert("l".to_owned(), "v".to_owned());
    let refused = store.update(&changed).await;
    assert!(matches!(&refused, Err(Error::BrokenFile { path: broken, .. }) if *broken == path), "{refused:?}");
    let refused = store.delete(&node("a"), kept.metadata.resource_version.as_ref().unwrap()).await;
    assert!(matches!(refused, Err(Error::BrokenFile { .. })), "{refused:?}");
    fs::write(&path, NODE_A).unwrap();
    problems(&store, |problems| problems.len() == 1).await;
    store.update(&changed).await.unwrap();
}

#[tokio::test]
async fn good_objects_of_a_file_that_was_never_good_are_in_force_and_it_is_not_written_to() {
    let (directory, store) = directory();
    let text = format!("{NODE_A}---\napiVersion: v1\nkind: Node\nmetadata: {{name: bad/name}}\n---\nkind: [\n");
    save(&directory.path().join("new.yaml"), &text);
    let found = problems(&store, |problems| problems.len() == 1).await;
    assert!(found[0].detail.contains("1 object(s) of it are in force"), "{found:?}");
    let good = store.get(&node("a")).await.unwrap();
    let refused = store.delete(&node("a"), good.metadata.resource_version.as_ref().unwrap()).await;
    assert!(matches!(refused, Err(Error::BrokenFile { .. })), "{refused:?}");
}

#[tokio::test]
async fn an_object_is_not_created_beside_its_own_broken_file() {
    let (directory, store) = directory();
    save(&directory.path().join("node__a.json"), "{");
    let refused = store.create(&Object::new(node("a"))).await;
    assert!(matches!(&refused, Err(Error::BrokenFile { path, .. }) if path.ends_with("node__a.json")), "{refused:?}");
    assert_eq!(fs::read_to_string(directory.path().join("node__a.json")).unwrap(), "{");
}

#[tokio::test]
async fn of_two_definitions_the_first_file_counts_whoever_came_first() {
    for order in [["1.yaml", "2.yaml"], ["2.yaml", "1.yaml"]] {
        let (directory, store) = directory();
        for name in order {
            save(&directory.path().join(name), format!("{NODE_A}  labels: {{from: {name}}}\n"));
            store.list_kind(Kind::NODE).await.unwrap();
        }
        let found = problems(&store, |problems| problems.len() == 1).await;
        assert!(found[0].path.ends_with("2.yaml"), "{found:?}");
        assert!(found[0].detail.contains("Node a stands in 1.yaml already"), "{found:?}");
        let object = store.get(&node("a")).await.unwrap();
        assert_eq!(object.metadata.labels["from"], "1.yaml");
        store.delete(&node("a"), object.metadata.resource_version.as_ref().unwrap()).await.unwrap();
        assert!(store.find(&node("a")).await.unwrap().is_none(), "no second definition comes into force by a delete");
        assert_eq!(names(directory.path()), [""; 0]);
    }
}

#[tokio::test]
async fn a_write_keeps_a_users_file_apart_from_its_own_document() {
    let (directory, store) = directory();
    let rest = "---\n# b is special\napiVersion: v1\nkind: Node\nmetadata: {name: b}   # so it stays\n";
    let path = directory.path().join("nodes.yaml");
    save(&path, format!("{NODE_A}{rest}"));
    let label = |object: &mut Object| {
        object.metadata.labels.insert("zone".to_owned(), "north".to_owned());
        Ok(())
    };
    store.modify(&node("a"), label).await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.ends_with(rest) && text.contains("zone: north"), "{text}");
    let b = store.get(&node("b")).await.unwrap();
    store.delete(&node("b"), b.metadata.resource_version.as_ref().unwrap()).await.unwrap();
    assert_eq!(store.list_kind(Kind::NODE).await.unwrap().objects.len(), 1);
    assert_eq!(names(directory.path()), ["nodes.yaml"]);
}

#[tokio::test]
async fn hostile_files_neither_stop_nor_fool_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = FilesOptions::default();
    options.max_file_bytes = 1000;
    let path = |name: &str| directory.path().join(name);
    save(&path("large.json"), format!("{{\"a\": \"{}\"}}", "x".repeat(1000)));
    save(&path("binary.yaml"), [0xff, 0xfe, 0x00]);
    save(&path("climbs.yaml"), NODE_A.replace("name: a", "name: ../../etc/passwd"));
    save(
        &path("bomb.yaml"),
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n",
    );
    save(&path("deep.json"), "[".repeat(900));
    std::os::unix::fs::symlink("/nonexistent", path("dangling.yaml")).unwrap();
    std::os::unix::fs::symlink("loop.yaml", path("loop.yaml")).unwrap();
    assert!(Command::new("mkfifo").arg(path("fifo.yaml")).status().unwrap().success());
    fs::create_dir(path("directory.yaml")).unwrap();
    save(&path("good.yaml"), NODE_A);
    let store = FilesStore::with_options(directory.path(), options).unwrap();
    assert_eq!(soon(store.list_kind(Kind::NODE)).await.unwrap().objects.len(), 1);
    let found = problems(&store, |problems| problems.len() == 7).await;
    let mut files: Vec<_> = found.iter().map(|problem| problem.path.file_name().unwrap().to_str().unwrap()).collect();
    files.dedup();
    assert_eq!(files, ["binary.yaml", "bomb.yaml", "climbs.yaml", "deep.json", "fifo.yaml", "large.json", "loop.yaml"]);
}

#[tokio::test]
async fn a_directory_that_goes_away_deletes_nothing_and_may_come_back() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("store");
    let mut options = FilesOptions::default();
    options.rescan = Duration::from_millis(50);
    let store = FilesStore::with_options(&path, options).unwrap();
    store.create(&Object::new(node("a"))).await.unwrap();
    let mut watch = follow(&store).await;
    assert!(matches!(next(&mut watch).await, Event::Resynced(list) if list.objects.len() == 1));
    fs::rename(&path, parent.path().join("away")).unwrap();
    let disturbance = soon(watch.next()).await.unwrap();
    assert!(matches!(disturbance, Err(Error::Io { .. })), "{disturbance:?}");
    assert!(matches!(store.get(&node("a")).await, Err(Error::Io { .. })));
    fs::rename(parent.path().join("away"), &path).unwrap();
    save(&path.join("b.yaml"), NODE_A.replace("name: a", "name: b"));
    assert!(matches!(next(&mut watch).await, Event::Put(object) if object.key == node("b")));
}

#[tokio::test]
async fn a_lock_held_for_ever_is_an_error_and_not_a_hang() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = FilesOptions::default();
    options.lock_patience = Duration::from_millis(20);
    let store = FilesStore::with_options(directory.path(), options).unwrap();
    let lock = fs::File::open(directory.path().join(".cnidarian.lock")).unwrap();
    lock.lock().unwrap();
    let refused = soon(store.create(&Object::new(node("a")))).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    assert!(store.list_kind(Kind::NODE).await.unwrap().objects.is_empty(), "reading needs no lock");
    lock.unlock().unwrap();
    soon(store.create(&Object::new(node("a")))).await.unwrap();
}

const CHILD: &str = "CNIDARIAN_TEST_FILES_STORE_CHILD";

/// The other processes of the test below: counts up until it is killed, and says so after each step.
#[tokio::test]
async fn child_that_counts_up() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let store = FilesStore::open(PathBuf::from(path)).unwrap();
    for step in 0_usize.. {
        let key = ObjectKey::cluster(Kind::IP_BLOCK, &format!("counter-{}", step % 2));
        let add = |object: &mut Object| {
            let count = object.read::<u64>("first")? + 1;
            object.set("first", &count)?;
            object.set("padding", &"x".repeat(20_000))?;
            Ok(object.set("second", &count)?)
        };
        store.modify(&key, add).await.unwrap();
        println!("\ncounted");
    }
}

/// Children, killed when dropped, so that a failing test leaves none.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn count_up(directory: &Path, steps: usize) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child_that_counts_up", "--exact", "--nocapture"]).env(CHILD, directory);
    let mut child = Killed(command.stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let counted = lines.map_while(Result::ok).filter(|line| line == "counted").take(steps).count();
    assert_eq!(counted, steps, "the child failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_killed_at_any_time_lose_no_update_and_leave_no_half_object() {
    const PROCESSES: usize = 3;
    const LIVES: usize = 4;
    let (directory, store) = directory();
    for name in ["counter-0", "counter-1"] {
        let mut object = Object::new(ObjectKey::cluster(Kind::IP_BLOCK, name));
        object.set("first", &0).unwrap();
        object.set("second", &0).unwrap();
        store.create(&object).await.unwrap();
    }
    let mut watch = store.follow(&Query::kind(Kind::IP_BLOCK)).await.unwrap();
    let watcher = tokio::spawn(async move {
        while let Some(event) = watch.next().await {
            if let Event::Put(object) = event.unwrap() {
                assert_eq!(object.field("first"), object.field("second"), "a half written object was seen");
            }
        }
    });
    let lives = (0..PROCESSES).map(|process| {
        let directory = directory.path().to_owned();
        tokio::task::spawn_blocking(move || {
            let steps = (0..LIVES).map(|life| 3 + (process + life) % 4).inspect(|steps| count_up(&directory, *steps));
            steps.sum::<usize>()
        })
    });
    let mut acknowledged = 0;
    for life in lives.collect::<Vec<_>>() {
        acknowledged += u64::try_from(life.await.unwrap()).unwrap();
    }
    let mut counted = 0;
    for object in store.list_kind(Kind::IP_BLOCK).await.unwrap().objects {
        assert_eq!(object.field("first"), object.field("second"));
        counted += object.read::<u64>("first").unwrap();
    }
    assert!(counted >= acknowledged, "{counted} counted, {acknowledged} acknowledged");
    assert_eq!(store.problems().await.unwrap(), []);
    drop(store);
    watcher.await.unwrap();
    drop(FilesStore::open(directory.path()).unwrap());
    assert_eq!(
        names(directory.path()),
        ["ipblock.cnidarian.io__counter-0.json", "ipblock.cnidarian.io__counter-1.json"]
    );
}

#[tokio::test]
async fn what_killed_writers_left_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(".cnidarian-writing-4711"), "{\"apiVersion\": \"v1").unwrap();
    fs::write(directory.path().join(".theirs"), json!(1).to_string()).unwrap();
    let store = FilesStore::open(directory.path()).unwrap();
    assert_eq!(names(directory.path()), [".theirs"]);
    assert_eq!(store.problems().await.unwrap(), []);
}

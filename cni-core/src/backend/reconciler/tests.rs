//! Laws of order, gates, belief and cancellation on a driver that keeps a protocol. The rest is in the conformance suite.

use super::Reconciler;
use crate::backend::{Capabilities, Change, Driver, Engine, Error, ErrorKind, Gate, Item, Known, Op, Rank, Result};
use crate::model::NodeContext;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// An item that says itself what it compiles to: keys with contents. The key `bad` does not compile.
#[derive(Clone)]
struct Wish(&'static str, Vec<(&'static str, u32)>);

impl Item for Wish {
    type Key = String;
    fn key(&self) -> String {
        self.0.to_owned()
    }
}

#[derive(Default)]
struct Table {
    objects: BTreeMap<String, u32>,
    failing: BTreeSet<String>,
    unreadable: bool,
    protocol: Vec<String>,
}

/// Keys are `<level><gate><name>`: `0*dev` gates all, `1!policy` gates its item, `2 route` nothing. Its configuration is a
/// number that is added to all contents.
#[derive(Clone, Default)]
struct Toy(Arc<Mutex<Table>>, Capabilities, u32);

impl Toy {
    fn edit(&self, edit: impl FnOnce(&mut Table)) {
        edit(&mut self.0.lock().unwrap());
    }
    fn fail(&self, keys: &[&str]) {
        self.edit(|table| table.failing = keys.iter().map(|key| (*key).to_owned()).collect());
    }
    fn protocol(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().protocol)
    }
    fn objects(&self) -> Vec<(String, u32)> {
        self.0.lock().unwrap().objects.clone().into_iter().collect()
    }
}

#[async_trait]
impl Driver for Toy {
    type Item = Wish;
    type Key = String;
    type Object = u32;

    fn capabilities(&self) -> &Capabilities {
        &self.1
    }
    fn adopt(&mut self, _: &NodeContext) -> Result<()> {
        Ok(())
    }
    fn configure(&mut self, section: &serde_json::Value) -> Result<()> {
        let number = section.as_u64().and_then(|number| u32::try_from(number).ok());
        self.2 = number.ok_or_else(|| Error::invalid("toy", "number", "write a number"))?;
        Ok(())
    }
    fn base(&self) -> Result<Vec<(String, u32)>> {
        Ok(Vec::new())
    }
    fn compile(&self, item: &Wish) -> Result<Vec<(String, u32)>> {
        if item.1.iter().any(|(key, _)| *key == "bad") {
            return Err(Error::invalid(item.0, "key", "bad"));
        }
        Ok(item.1.iter().map(|(key, object)| ((*key).to_owned(), *object + self.2)).collect())
    }
    fn rank(&self, key: &String) -> Rank {
        let level = key.as_bytes()[0] - b'0';
        let gate = match key.as_bytes()[1] {
            b'*' => Gate::All,
            b'!' => Gate::Item,
            _ => Gate::Open,
        };
        Rank::level(level).gate(gate)
    }
    async fn observe(&mut self) -> Result<Vec<(String, u32)>> {
        if self.0.lock().unwrap().unreadable {
            return Err(Error::new(ErrorKind::Denied, "observe", "table", "no right to read"));
        }
        Ok(self.objects())
    }
    async fn apply(&mut self, batch: &[Op<String, u32>]) -> Vec<Result<()>> {
        let mut table = self.0.lock().unwrap();
        let mut line = Vec::new();
        let results = batch.iter().map(|op| {
            let (Op::Put { key, .. } | Op::Delete { key, .. }) = op;
            if table.failing.contains(key) {
                line.push(format!("x{key}"));
                return Err(Error::new(ErrorKind::Busy, "apply", key, "told to fail"));
            }
            match op {
                Op::Put { object, present, .. } => {
                    let sign = if *present == Known::Absent { '+' } else { '~' };
                    line.push(format!("{sign}{key}"));
                    table.objects.insert(key.clone(), *object);
                }
                Op::Delete { .. } => {
                    line.push(format!("-{key}"));
                    table.objects.remove(key);
                }
            }
            Ok(())
        });
        let results = results.collect();
        table.protocol.push(line.join(" "));
        results
    }
}

fn engine(toy: &Toy) -> Reconciler<Toy> {
    let mut engine = Reconciler::new(toy.clone()).unwrap();
    engine.stage(Change::InSync).unwrap();
    engine
}

fn put(engine: &mut Reconciler<Toy>, item: &'static str, wishes: &[(&'static str, u32)]) {
    engine.stage(Change::Put(Wish(item, wishes.to_vec()))).unwrap();
}

#[tokio::test]
async fn puts_go_up_level_by_level_then_deletes_go_down() {
    let toy = Toy::default();
    let mut engine = engine(&toy);
    put(&mut engine, "a", &[("0 dev1", 1), ("2 route1", 1), ("1 neigh1", 1), ("1 neigh2", 1)]);
    engine.commit().await;
    put(&mut engine, "a", &[("0 dev2", 1), ("1 neigh1", 2), ("2 route2", 1)]);
    engine.commit().await;
    let expected = [
        "+0 dev1",
        "+1 neigh1 +1 neigh2",
        "+2 route1",
        "+0 dev2",
        "~1 neigh1",
        "+2 route2",
        "-2 route1",
        "-1 neigh2",
        "-0 dev1",
    ];
    assert_eq!(toy.protocol(), expected);
}

#[tokio::test]
async fn a_put_that_needs_what_a_delete_frees_gets_a_second_chance() {
    struct Exclusive(Toy);
    #[async_trait]
    impl Driver for Exclusive {
        type Item = Wish;
        type Key = String;
        type Object = u32;
        fn capabilities(&self) -> &Capabilities {
            &self.0.1
        }
        fn adopt(&mut self, _: &NodeContext) -> Result<()> {
            Ok(())
        }
        fn configure(&mut self, _: &serde_json::Value) -> Result<()> {
            Ok(())
        }
        fn base(&self) -> Result<Vec<(String, u32)>> {
            Ok(Vec::new())
        }
        fn compile(&self, item: &Wish) -> Result<Vec<(String, u32)>> {
            self.0.compile(item)
        }
        fn rank(&self, key: &String) -> Rank {
            self.0.rank(key)
        }
        async fn observe(&mut self) -> Result<Vec<(String, u32)>> {
            self.0.observe().await
        }
        async fn apply(&mut self, batch: &[Op<String, u32>]) -> Vec<Result<()>> {
            // One device has room, as with two VXLAN devices of one VNI.
            let full = self.0.objects().iter().filter(|(key, _)| key.starts_with('0')).count() > 0;
            let devices = batch.iter().filter_map(|op| match op {
                Op::Put { key, .. } if key.starts_with('0') && full => Some(key.as_str()),
                _ => None,
            });
            let failing: Vec<&str> = devices.collect();
            self.0.fail(&failing);
            self.0.apply(batch).await
        }
    }
    let toy = Toy::default();
    let mut engine = Reconciler::new(Exclusive(toy.clone())).unwrap();
    engine.stage(Change::InSync).unwrap();
    engine.stage(Change::Put(Wish("a", vec![("0*dev1", 1), ("1 route", 1)]))).unwrap();
    assert!(engine.commit().await.is_complete());
    engine.stage(Change::Put(Wish("a", vec![("0*dev2", 1), ("1 route", 2)]))).unwrap();
    let report = engine.commit().await;
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(toy.objects(), [("0*dev2".to_owned(), 1), ("1 route".to_owned(), 2)]);
    assert_eq!(toy.protocol()[2..], ["x0*dev2", "-0*dev1", "~0*dev2", "~1 route"]);
}

#[tokio::test]
async fn a_gate_that_was_not_put_holds_back_what_it_guards_and_nothing_else() {
    let toy = Toy::default();
    toy.fail(&["1!policy-a"]);
    let mut engine = engine(&toy);
    put(
        &mut engine,
        "a",
        &[("1!policy-a", 1), ("1 same-level", 1), ("2!second-gate", 1), ("3 open-a", 1), ("3 shared", 1)],
    );
    put(&mut engine, "b", &[("1!policy-b", 1), ("3 open-b", 1), ("3 shared", 1)]);
    let report = engine.commit().await;
    let deferred: Vec<&str> = report.deferred.iter().map(|failure| failure.object.as_str()).collect();
    assert_eq!(deferred, ["2!second-gate", "3 open-a"]);
    assert_eq!(report.problem_of(&"a").unwrap().kind, ErrorKind::Busy);
    assert!(report.problem_of(&"b").is_none());
    assert!(report.should_retry());

    toy.fail(&[]);
    let report = engine.commit().await;
    assert!(report.is_complete());
    assert_eq!(report.written, 3);

    toy.fail(&["0*dev"]);
    put(&mut engine, "c", &[("0*dev", 1)]);
    put(&mut engine, "d", &[("0 other-dev", 1), ("1!policy-d", 1)]);
    let report = engine.commit().await;
    assert_eq!((report.written, report.failed.len(), report.deferred.len()), (1, 1, 1));
}

#[tokio::test]
async fn a_gate_outlives_what_it_guards() {
    let toy = Toy::default();
    let mut engine = engine(&toy);
    put(&mut engine, "a", &[("1!policy-a", 1), ("3 open-a", 1)]);
    put(&mut engine, "b", &[("1!policy-b", 1), ("3 open-b", 1)]);
    engine.commit().await;
    toy.fail(&["3 open-a"]);
    for item in ["a", "b"] {
        engine.stage(Change::Remove(item.to_owned())).unwrap();
    }
    let report = engine.commit().await;
    assert_eq!(toy.objects(), [("1!policy-a".to_owned(), 1), ("3 open-a".to_owned(), 1)]);
    assert_eq!(report.deferred[0].object, "1!policy-a");
    assert_eq!(report.problem_of(&"a").unwrap().operation, "apply");
    toy.fail(&[]);
    assert!(engine.commit().await.is_complete());
    assert_eq!(toy.objects(), []);

    put(&mut engine, "a", &[("0*dev", 1), ("2 route", 1)]);
    engine.commit().await;
    toy.fail(&["2 route"]);
    engine.stage(Change::Remove("a".to_owned())).unwrap();
    assert_eq!(engine.commit().await.deferred[0].object, "0*dev");
    toy.fail(&[]);
    assert!(engine.commit().await.is_complete());

    // A gate that two share outlives what either has behind it, whoever goes last.
    for failing in ["3 open-a", "3 open-b"] {
        put(&mut engine, "a", &[("1!shared", 1), ("3 open-a", 1)]);
        put(&mut engine, "b", &[("1!shared", 1), ("3 open-b", 1)]);
        engine.commit().await;
        toy.fail(&[failing]);
        for item in ["a", "b"] {
            engine.stage(Change::Remove(item.to_owned())).unwrap();
        }
        engine.commit().await;
        assert_eq!(toy.objects(), [("1!shared".to_owned(), 1), (failing.to_owned(), 1)]);
        toy.fail(&[]);
        assert!(engine.commit().await.is_complete());
        assert_eq!(toy.objects(), []);
    }

    // The policy of an open endpoint is replaced: the old one stays until the new one is there.
    put(&mut engine, "a", &[("1!old-policy", 1), ("3 open-a", 1)]);
    engine.commit().await;
    toy.fail(&["1!new-policy"]);
    put(&mut engine, "a", &[("1!new-policy", 1), ("3 open-a", 1)]);
    engine.commit().await;
    assert_eq!(toy.objects(), [("1!old-policy".to_owned(), 1), ("3 open-a".to_owned(), 1)]);
}

#[tokio::test]
async fn staging_back_to_what_is_there_leaves_nothing_to_do() {
    let toy = Toy::default();
    let mut engine = engine(&toy);
    put(&mut engine, "a", &[("0 x", 1)]);
    engine.commit().await;
    put(&mut engine, "a", &[("0 x", 2), ("0 y", 2)]);
    engine.stage(Change::Remove("a".to_owned())).unwrap();
    assert_eq!(engine.plan().steps.len(), 1);
    put(&mut engine, "a", &[("0 x", 1)]);
    assert!(engine.plan().steps.is_empty());
    assert_eq!(engine.belief.pending.len(), 0);
}

#[tokio::test]
async fn an_item_that_does_not_compile_is_blocked_and_its_objects_go() {
    let toy = Toy::default();
    let mut engine = engine(&toy);
    put(&mut engine, "a", &[("0 x", 1)]);
    engine.commit().await;
    assert!(engine.stage(Change::Put(Wish("a", vec![("bad", 1)]))).is_err());
    let report = engine.commit().await;
    assert_eq!(report.blocked[0].item, "a");
    assert!(!report.is_complete());
    assert_eq!(toy.objects(), []);
    put(&mut engine, "a", &[("0 x", 1)]);
    assert!(engine.commit().await.is_complete());
}

#[tokio::test]
async fn an_item_with_two_contents_under_one_key_is_blocked() {
    let mut engine = engine(&Toy::default());
    let error = engine.stage(Change::Put(Wish("a", vec![("0 x", 1), ("0 x", 2)]))).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    put(&mut engine, "a", &[("0 x", 1), ("0 x", 1)]);
    assert!(engine.commit().await.is_complete());
}

#[tokio::test]
async fn the_kernel_unread_is_a_failure_to_retry_and_nothing_is_written() {
    let toy = Toy::default();
    toy.edit(|table| table.unreadable = true);
    let mut engine = engine(&toy);
    put(&mut engine, "a", &[("0 x", 1)]);
    let report = engine.commit().await;
    assert!(report.should_retry());
    assert_eq!(report.failed[0].error.kind, ErrorKind::Denied);
    assert!(engine.resync().await.is_err());
    assert!(toy.protocol().is_empty());
    toy.edit(|table| table.unreadable = false);
    assert!(engine.commit().await.is_complete());
}

#[tokio::test]
async fn a_resync_names_what_is_missing_changed_and_unexpected_and_repairs_it() {
    let toy = Toy::default();
    let mut engine = engine(&toy);
    put(&mut engine, "a", &[("0 gone", 1), ("0 changed", 1), ("0 same", 1)]);
    engine.commit().await;
    toy.edit(|table| {
        table.objects.remove("0 gone");
        table.objects.insert("0 changed".to_owned(), 7);
        table.objects.insert("0 new".to_owned(), 7);
    });
    // Staged, not written: its absence is no drift.
    put(&mut engine, "b", &[("0 b", 1)]);
    let drift = engine.resync().await.unwrap();
    assert_eq!(
        (drift.missing, drift.changed, drift.unexpected),
        (vec!["0 gone".to_owned()], vec!["0 changed".to_owned()], vec!["0 new".to_owned()])
    );
    assert_eq!(drift.repair.written, 4);
    let drift = engine.resync().await.unwrap();
    assert!(drift.is_none());
    assert_eq!(drift.repair.written, 0);
}

#[tokio::test]
async fn a_dropped_commit_believes_nothing_of_what_was_under_way() {
    struct Hanging(Toy, bool);
    #[async_trait]
    impl Driver for Hanging {
        type Item = Wish;
        type Key = String;
        type Object = u32;
        fn capabilities(&self) -> &Capabilities {
            &self.0.1
        }
        fn adopt(&mut self, _: &NodeContext) -> Result<()> {
            Ok(())
        }
        fn configure(&mut self, _: &serde_json::Value) -> Result<()> {
            Ok(())
        }
        fn base(&self) -> Result<Vec<(String, u32)>> {
            Ok(Vec::new())
        }
        fn compile(&self, item: &Wish) -> Result<Vec<(String, u32)>> {
            self.0.compile(item)
        }
        fn rank(&self, key: &String) -> Rank {
            self.0.rank(key)
        }
        async fn observe(&mut self) -> Result<Vec<(String, u32)>> {
            self.0.observe().await
        }
        async fn apply(&mut self, batch: &[Op<String, u32>]) -> Vec<Result<()>> {
            let results = self.0.apply(batch).await;
            if std::mem::take(&mut self.1) {
                std::future::pending::<()>().await;
            }
            results
        }
    }
    let toy = Toy::default();
    let mut engine = Reconciler::new(Hanging(toy.clone(), true)).unwrap();
    engine.stage(Change::InSync).unwrap();
    engine.stage(Change::Put(Wish("a", vec![("0 x", 1)]))).unwrap();
    tokio::select! {
        biased;
        _ = engine.commit() => panic!("the first write hangs"),
        () = tokio::task::yield_now() => {}
    }
    // The write was made, the engine does not know: it must delete it all the same.
    engine.stage(Change::Remove("a".to_owned())).unwrap();
    assert!(engine.commit().await.is_complete());
    assert_eq!(toy.objects(), []);
}

#[tokio::test]
async fn another_configuration_compiles_everything_anew_and_a_refused_one_changes_nothing() {
    let toy = Toy::default();
    let mut engine = engine(&toy);
    put(&mut engine, "a", &[("2 a", 1)]);
    put(&mut engine, "b", &[("2 b", 2)]);
    engine.commit().await;
    assert!(engine.stage(Change::Config("ten".into())).is_err());
    assert!(engine.plan().steps.is_empty());
    engine.stage(Change::Config(10.into())).unwrap();
    assert_eq!(engine.plan().steps.len(), 2);
    assert_eq!(engine.plan().steps[0].detail, "1 -> 11");
    // A dry run of a configuration is its staging and that of the one in force.
    engine.stage(Change::Config(0.into())).unwrap();
    assert!(engine.plan().steps.is_empty());
    engine.stage(Change::Config(10.into())).unwrap();
    engine.commit().await;
    assert_eq!(toy.objects(), [("2 a".to_owned(), 11), ("2 b".to_owned(), 12)]);
}

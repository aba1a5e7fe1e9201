//! Many writes at once: what the driver says of each is what is in the maps, also where some find no room. On maps of the test's
//! own. Never a program at a hook.

use crate::services::{V4, V6, item};
use crate::sockets::in_a_namespace;
use backend_ebpf::service::{Config, Key, Object, Sizes, SocketDriver, compile};
use cni_core::backend::{Driver as _, Known, Op, Result};
use cni_core::model::ServiceItem;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use testlab::bed::Cgroup;

const ROUNDS: usize = 150;

/// Entries of every map, few enough that they are met again.
fn entries() -> Vec<(Key, Object)> {
    let ranges = ["10.0.0.0/8", "192.0.2.0/24", "192.0.2.7/32", "fd00::/8", "2001:db8::/32", "::ffff:10.0.0.0/104"];
    let sources: Vec<_> = ranges.iter().map(|range| range.parse().unwrap()).collect();
    let affine = |at, protocol| ServiceItem {
        affinity_seconds: std::num::NonZeroU32::new(9),
        sources: Some(sources.as_slice().into()),
        ..item(at, protocol, "abc")
    };
    let items = [affine(V4, 6), affine(V6, 6), affine(V4, 17), affine(V6, 17)];
    let mut entries: Vec<_> = items.iter().flat_map(|item| compile(item).unwrap()).collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}

fn entries_of(driver: &mut SocketDriver, runtime: &tokio::runtime::Runtime) -> BTreeMap<Key, Object> {
    let found = runtime.block_on(driver.observe()).unwrap();
    found
        .into_iter()
        .filter(|(key, _)| !matches!(key, Key::Pins | Key::OldMaps(_) | Key::Elsewhere(_) | Key::Hook(..)))
        .collect()
}

#[test]
fn of_each_write_of_a_batch_it_is_told_what_became_of_it() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let entries = entries();
        // Room for fewer than there are.
        let maps = Sizes { frontends: 3, backends: 7, members: 7, ranges: 5, ..Sizes::default() };
        let config = Config { cgroup: Some(cgroup.0.clone()), maps, ..Config::default() };
        let mut driver = SocketDriver::open(&config).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut wanted: BTreeMap<Key, Object> = BTreeMap::new();
        let choices = proptest::collection::vec(proptest::option::weighted(0.7, any::<bool>()), entries.len());
        let (choices, mut runner) = ((choices, any::<bool>()), TestRunner::default());
        let mut refused = 0;
        for _ in 0..ROUNDS {
            let (choices, puts_first) = choices.new_tree(&mut runner).unwrap().current();
            let mut batch: Vec<Op<Key, Object>> = Vec::new();
            for ((key, object), choice) in entries.iter().zip(choices) {
                let (key, object) = (*key, object.clone());
                batch.extend(choice.map(|put| match put {
                    true => Op::Put { key, present: Known::Unknown, object },
                    false => Op::Delete { key, present: Known::Unknown },
                }));
            }
            if puts_first {
                batch.sort_by_key(|op| !matches!(op, Op::Put { .. }));
            }
            let told: Vec<Result<()>> = runtime.block_on(driver.apply(&batch));
            assert_eq!(told.len(), batch.len());
            for (op, told) in batch.iter().zip(&told) {
                match (op, told) {
                    (Op::Put { key, object, .. }, Ok(())) => drop(wanted.insert(*key, object.clone())),
                    (Op::Delete { key, .. }, told) => {
                        assert!(told.is_ok(), "{key}: {told:?}");
                        wanted.remove(key);
                    }
                    (Op::Put { key, .. }, Err(error)) => {
                        assert!(error.field.is_some(), "{key}: {error}");
                        assert!(!wanted.contains_key(key), "{key} is there already, and needs no room");
                        refused += 1;
                    }
                }
            }
            assert_eq!(entries_of(&mut driver, &runtime), wanted);
        }
        assert!(refused > ROUNDS, "{refused} refused in {ROUNDS} batches: the maps were hardly ever full");
    });
}

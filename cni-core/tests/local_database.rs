//! The local database: the laws of a lease store, damage, crashes, and what yesterday's version wrote.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use cni_core::ipam::{Cooling, Lease, LeaseOp, LeaseState, LeaseStore, UnixMillis, conformance};
use cni_core::model::EndpointId;
use cni_core::store::{LocalDatabase, LocalDatabaseError};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

fn owner(number: u32) -> EndpointId {
    EndpointId::of(&format!("container-{number}"), "eth0").unwrap()
}

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + number).into()
}

fn assign(number: u32) -> Vec<LeaseOp> {
    let address = address(number);
    let lease = Lease {
        address,
        subnet: "10.0.0.0/8".parse().unwrap(),
        gateway: None,
        pool: "default".to_owned(),
        owner: owner(number),
        pod: None,
        assigned_at: UnixMillis(1_700_000_000_000),
    };
    let record = format!("record of {address}").into_bytes();
    vec![LeaseOp::Assign(lease), LeaseOp::PutEndpoint { id: owner(number), record }]
}

#[test]
fn the_database_keeps_the_laws_of_a_lease_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.redb");
    conformance::lease_store(LocalDatabase::open(&path).unwrap(), |database| {
        drop(database);
        LocalDatabase::open(&path).unwrap()
    });
}

#[test]
fn a_second_open_is_refused_and_names_the_owner() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.redb");
    let first = LocalDatabase::open(&path).unwrap();
    let refused = LocalDatabase::open(&path).unwrap_err().to_string();
    let wanted = format!("{}: in use by process {}; stop that one first", path.display(), std::process::id());
    assert_eq!(refused, wanted);
    drop(first);
    LocalDatabase::open(&path).unwrap();
}

#[test]
fn threads_that_commit_at_once_all_get_what_they_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let database = Arc::new(LocalDatabase::open(directory.path().join("local.redb")).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let database = database.clone();
            scope.spawn(move || {
                for number in 0..20 {
                    database.commit(&assign(thread * 100 + number)).unwrap();
                }
            });
        }
        // One address for all threads: one of them gets it.
        let wins = [0, 1, 2, 3].map(|thread| {
            let database = database.clone();
            scope.spawn(move || {
                let mut theft = assign(5_000);
                let LeaseOp::Assign(lease) = &mut theft[0] else { panic!("not an assignment") };
                lease.owner = owner(6_000 + thread);
                database.commit(&theft).is_ok()
            })
        });
        assert_eq!(wins.map(|win| win.join().unwrap()).into_iter().filter(|win| *win).count(), 1);
    });
    assert_eq!(database.load().unwrap().leases.len(), 161);
}

/// A database with 50 leases, closed.
fn written(path: &Path) -> LeaseState {
    let database = LocalDatabase::open(path).unwrap();
    for number in 0..50 {
        database.commit(&assign(number)).unwrap();
    }
    database.load().unwrap()
}

#[test]
fn a_damaged_file_is_refused_by_name_and_never_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.redb");
    let state = written(&path);
    let good = fs::read(&path).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let error = LocalDatabase::open(&path).expect_err(what);
        assert!(matches!(error, LocalDatabaseError::Damaged { .. }), "{what}: {error:?}");
        assert!(error.to_string().starts_with(&path.display().to_string()), "{what}: {error}");
        error
    };
    refused(&[], "empty");
    refused(b"{\"leases\": []}", "another format");
    refused(&vec![0; good.len()], "zeros");
    for kept in [1, 100, 4096, good.len() / 2] {
        refused(&good[..kept], &format!("cut to {kept} bytes"));
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(LocalDatabase::open(&path).unwrap().load().unwrap(), state);
}

#[test]
fn a_flipped_byte_is_found_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.redb");
    let state = written(&path);
    let good = fs::read(&path).unwrap();
    let used: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    let mut found = 0;
    for at in used.iter().step_by(used.len() / 60) {
        let mut bytes = good.clone();
        bytes[*at] ^= 0x55;
        fs::write(&path, &bytes).unwrap();
        match LocalDatabase::open(&path).map(|database| database.load().ok()) {
            Err(error) => {
                assert!(error.to_string().starts_with(&path.display().to_string()), "byte {at}: {error}");
                found += 1;
            }
            Ok(read) => assert_eq!(read.as_ref(), Some(&state), "byte {at} changed what is read"),
        }
    }
    assert!(found > 0, "no flipped byte was found");
}

#[test]
fn another_programs_redb_file_and_a_later_version_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.redb");
    drop(redb::Database::create(&path).unwrap());
    let refused = LocalDatabase::open(&path).unwrap_err().to_string();
    assert!(refused.contains("another program's"), "{refused}");
    fs::remove_file(&path).unwrap();
    drop(LocalDatabase::open(&path).unwrap());
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    transaction.open_table(meta).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let refused = LocalDatabase::open(&path).unwrap_err().to_string();
    assert!(refused.contains("has format version 2, and this program knows 1"), "{refused}");
}

/// What is in the fixture.
fn state_of_yesterday() -> LeaseState {
    let mut state = LeaseState::default();
    for ops in ops_of_yesterday() {
        state.apply(&ops).unwrap();
    }
    state
}

fn ops_of_yesterday() -> [Vec<LeaseOp>; 3] {
    let mut dual = assign(258);
    let json = r#"{"address":"fd00::102","subnet":"fd00::100/122","gateway":"fd00::101","pool":"six",
        "owner":"container-258/eth0","pod":{"namespace":"default","name":"web-0","uid":"u-1"},"assignedAt":1700000000001}"#;
    dual.push(LeaseOp::Assign(serde_json::from_str(json).unwrap()));
    let released_at = UnixMillis(1_700_000_100_000);
    let released = LeaseOp::Release(Cooling { address: address(7), released_at });
    [assign(7), dual, vec![released, LeaseOp::DeleteEndpoint(owner(7))]]
}

#[test]
fn what_yesterdays_version_wrote_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.redb");
    fs::write(&path, include_bytes!("fixtures/local-database-v1.redb")).unwrap();
    let database = LocalDatabase::open(&path).unwrap();
    assert_eq!(database.load().unwrap(), state_of_yesterday());
    database.commit(&assign(9)).unwrap();
}

const CHILD: &str = "CNIDARIAN_TEST_LOCAL_DATABASE_CHILD";

/// The process of the test below: assigns until it is killed, and says so after each step.
#[test]
fn child_that_assigns() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let database = LocalDatabase::open(PathBuf::from(path)).unwrap();
    let known = u32::try_from(database.load().unwrap().leases.len()).unwrap();
    for number in known.. {
        database.commit(&assign(number)).unwrap();
        println!("\nassigned {number}");
    }
}

/// A child, killed when dropped, so that a failing test leaves none.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_killed_at_any_time_loses_nothing_that_it_was_told_is_durable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.redb");
    // The first life is killed as early as can be, while the database is made.
    for life in 0..8_usize {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["child_that_assigns", "--exact", "--nocapture"]).env(CHILD, &path);
        let mut child = Killed(command.stdout(Stdio::piped()).spawn().unwrap());
        let lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(Result::ok);
        let told = lines.filter_map(|line| line.strip_prefix("assigned ")?.parse::<u32>().ok());
        let last = told.take(life * 3).last();
        assert_eq!(last.is_some(), life > 0, "the child failed");
        drop(child);
        let state = LocalDatabase::open(&path).unwrap().load().unwrap();
        let count = u32::try_from(state.leases.len()).unwrap();
        assert!(last.is_none_or(|last| count > last), "{last:?} was acknowledged, {count} are there");
        for number in 0..count {
            assert_eq!(state.leases[&address(number)].owner, owner(number));
            assert!(state.endpoints.contains_key(&owner(number)), "a lease without its record");
        }
    }
}

/// Writes the fixture anew; run by hand with the variable set when the format changes (then under a new name).
#[test]
fn fixture_is_written_on_demand() {
    let Some(target) = std::env::var_os("CNIDARIAN_WRITE_FIXTURE") else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.redb");
    let database = LocalDatabase::open(&path).unwrap();
    for ops in ops_of_yesterday() {
        database.commit(&ops).unwrap();
    }
    drop(database);
    fs::copy(path, target).unwrap();
}

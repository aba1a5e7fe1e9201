//! The laws of [`LeaseStore`].

use crate::ipam::{Cooling, Lease, LeaseOp, LeaseState, LeaseStore, LeaseStoreError, UnixMillis};
use crate::model::EndpointId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn owner(number: u8) -> EndpointId {
    EndpointId::of(&format!("container-{number}"), "eth0").expect("the name is in the alphabet")
}

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn lease(address: IpAddr, number: u8) -> Lease {
    Lease {
        address,
        subnet: ipnet::IpNet::from(address),
        gateway: None,
        pool: "default".to_owned(),
        owner: owner(number),
        pod: None,
        assigned_at: UnixMillis(1_000),
    }
}

fn put(number: u8, record: &[u8]) -> LeaseOp {
    LeaseOp::PutEndpoint { id: owner(number), record: record.to_vec() }
}

fn check<S: LeaseStore>(store: S, reopen: &impl Fn(S) -> S, model: &LeaseState, law: &str) -> S {
    assert_eq!(&store.load().expect("load"), model, "{law}");
    let store = reopen(store);
    assert_eq!(&store.load().expect("load after opening again"), model, "{law} (after opening again)");
    store
}

/// Runs all laws on an empty store. `reopen` closes it and opens the same files again.
///
/// # Panics
/// When a law does not hold.
pub fn lease_store<S: LeaseStore>(empty: S, reopen: impl Fn(S) -> S) {
    let mut model = LeaseState::default();
    let mut store = check(empty, &reopen, &model, "a new store is empty");

    let v6 = IpAddr::from(Ipv6Addr::from(0xfd00_u128 << 112 | 1));
    let steps: [Vec<LeaseOp>; 6] = [
        vec![LeaseOp::Assign(lease(v4(1), 1)), LeaseOp::Assign(lease(v6, 1)), put(1, b"one")],
        vec![LeaseOp::Assign(lease(v4(2), 2)), put(2, &[0, 255, 10])],
        vec![
            LeaseOp::Release(Cooling { address: v4(1), released_at: UnixMillis(2_000) }),
            LeaseOp::Release(Cooling { address: v6, released_at: UnixMillis(2_000) }),
            LeaseOp::DeleteEndpoint(owner(1)),
        ],
        vec![LeaseOp::Forget(v6), LeaseOp::Forget(v4(77)), LeaseOp::DeleteEndpoint(owner(77))],
        vec![LeaseOp::Assign(lease(v4(1), 3)), put(2, b"two again")],
        vec![
            LeaseOp::Release(Cooling { address: v4(1), released_at: UnixMillis(3_000) }),
            LeaseOp::Assign(lease(v4(1), 4)),
        ],
    ];
    for (number, step) in steps.iter().enumerate() {
        store.commit(step).expect("commit");
        model.apply(step).expect("the steps hold no conflict");
        store = check(store, &reopen, &model, &format!("laws 1 and 5, step {number}"));
        if number < 3 {
            store.commit(step).expect("commit again");
            store = check(store, &reopen, &model, &format!("law 4, step {number}"));
        }
    }

    let theft =
        [LeaseOp::Assign(lease(v4(9), 9)), put(9, b"nine"), LeaseOp::Assign(lease(v4(2), 9)), LeaseOp::Forget(v4(1))];
    match store.commit(&theft) {
        Err(LeaseStoreError::Conflict { address, holder, wanted_by }) => {
            assert_eq!((address, holder, wanted_by), (v4(2), owner(2), owner(9)), "law 3: the error names all three");
        }
        other => panic!("law 3: an address that another owner holds was not refused: {other:?}"),
    }
    store = check(store, &reopen, &model, "law 2: a refused transaction leaves nothing");

    let twice = [LeaseOp::Assign(lease(v4(20), 1)), LeaseOp::Assign(lease(v4(20), 2))];
    assert!(
        matches!(store.commit(&twice), Err(LeaseStoreError::Conflict { .. })),
        "law 3 holds inside one transaction, too"
    );
    store = check(store, &reopen, &model, "law 2: a refused transaction leaves nothing");
    store.commit(&[]).expect("an empty transaction is no error");
    check(store, &reopen, &model, "an empty transaction changes nothing");
}

#[cfg(test)]
mod tests {
    use super::lease_store;
    use crate::ipam::MemoryLeaseStore;

    #[test]
    fn the_journal_in_memory_keeps_the_laws() {
        lease_store(MemoryLeaseStore::new(), |store| store.clone());
    }
}

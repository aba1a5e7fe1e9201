//! The laws of draining, without a kernel.

use super::*;
use proptest::prelude::*;

fn id(protocol: u8) -> ServiceId {
    ServiceId::address(protocol, "10.96.0.10:80".parse().unwrap())
}

fn with(active: u32, inactive: u32) -> Connections {
    Connections { active, inactive, persistent: 0 }
}

const PATIENCE: Duration = Duration::from_secs(900);

#[test]
fn only_a_stream_with_connections_drains() {
    assert_eq!(fate(&id(6), with(1, 0), PATIENCE), Fate::Drains);
    assert_eq!(fate(&id(132), with(0, 1), PATIENCE), Fate::Drains);
    assert_eq!(fate(&id(6), with(0, 0), PATIENCE), Fate::Goes);
    assert_eq!(fate(&id(UDP), with(0, 9), PATIENCE), Fate::Goes);
    assert_eq!(fate(&id(6), with(1, 0), Duration::ZERO), Fate::Goes);
}

#[test]
fn one_that_drains_is_known_again_and_one_that_a_service_wants_is_not_taken_for_it() {
    let address = "10.244.1.2:8080".parse().unwrap();
    assert!(is_draining(&draining(address)));
    assert!(!is_draining(&Destination { weight: 0, ..Destination::new(address) }));
}

#[test]
fn one_in_use_again_is_forgotten_and_never_due() {
    let (address, start) = ("10.244.1.2:8080".parse().unwrap(), Instant::now());
    let mut ledger = Ledger::default();
    ledger.begin(id(6), address, start);
    let found = BTreeMap::from([(address, (false, with(0, 0)))]);
    assert!(ledger.due(&id(6), &found, start + 2 * PATIENCE, PATIENCE).is_empty());
    assert!(ledger.is_empty());
}

proptest! {
    /// It is due exactly when it is idle or its time is over, and beginning again does not give it more time.
    #[test]
    fn a_destination_goes_when_it_is_idle_or_its_time_is_over(active in 0..3_u32, inactive in 0..3_u32, waited in 0..2000_u64) {
        let (address, start) = ("10.244.1.2:8080".parse().unwrap(), Instant::now());
        let mut ledger = Ledger::default();
        ledger.begin(id(6), address, start);
        ledger.begin(id(6), address, start + Duration::from_secs(waited / 2));
        let found = BTreeMap::from([(address, (true, with(active, inactive)))]);
        let due = ledger.due(&id(6), &found, start + Duration::from_secs(waited), PATIENCE);
        let over = (active == 0 && inactive == 0) || waited >= PATIENCE.as_secs();
        prop_assert_eq!(due.len(), usize::from(over));
        prop_assert!(!ledger.is_empty(), "it is forgotten when it has gone, not before");
    }
}

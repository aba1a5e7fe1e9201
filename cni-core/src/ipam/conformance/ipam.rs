//! The laws of [`Ipam`].

use crate::ipam::{AssignRequest, Ipam, IpamError, Lease, wait};
use crate::model::EndpointId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// More addresses than this are not tried out.
const MOST_OWNERS: u32 = 1 << 12;

type Records<D> = Box<dyn Fn(&D) -> BTreeMap<EndpointId, Vec<u8>>>;

/// The laws of [`Ipam`], to be run on one implementation.
///
/// `D` is what survives a restart: a directory, a database, a shared memory. The allocator must have at least 4 and at
/// most 4,096 addresses per family, and neither 192.0.2.199 nor 2001:db8:dead::1 among them.
pub struct IpamSuite<D, I> {
    disk: Box<dyn Fn() -> D>,
    open: Box<dyn Fn(&D) -> I>,
    cool_down: Duration,
    records: Option<Records<D>>,
}

struct Run<'a, D, I> {
    suite: &'a IpamSuite<D, I>,
    disk: D,
    ipam: I,
    now: SystemTime,
}

fn owner(number: u32) -> EndpointId {
    EndpointId::of(&format!("container-{number}"), "eth0").expect("the name is in the alphabet")
}

fn addresses(leases: &[Lease]) -> BTreeSet<IpAddr> {
    leases.iter().map(|lease| lease.address).collect()
}

impl<D, I: Ipam> IpamSuite<D, I> {
    /// `disk` makes an empty durable state, `open` an allocator over one, as after a restart.
    pub fn new(disk: impl Fn() -> D + 'static, open: impl Fn(&D) -> I + 'static) -> Self {
        Self { disk: Box::new(disk), open: Box::new(open), cool_down: Duration::ZERO, records: None }
    }

    /// How long a released address rests; zero (the default) leaves law 6 out.
    #[must_use]
    pub fn cool_down(mut self, cool_down: Duration) -> Self {
        self.cool_down = cool_down;
        self
    }

    /// How to read the durable records; without it only the refusal of records is tested.
    #[must_use]
    pub fn records(mut self, records: impl Fn(&D) -> BTreeMap<EndpointId, Vec<u8>> + 'static) -> Self {
        self.records = Some(Box::new(records));
        self
    }

    fn start(&self) -> Run<'_, D, I> {
        let disk = (self.disk)();
        let ipam = (self.open)(&disk);
        Run { suite: self, disk, ipam, now: UNIX_EPOCH + Duration::from_secs(1_800_000_000) }
    }

    /// Runs all laws.
    ///
    /// # Panics
    /// When a law does not hold.
    pub fn run(&self) {
        self.the_same_owner_gets_the_same();
        self.filling_up_gives_every_address_once_and_says_when_none_is_left();
        self.release_is_repeatable();
        self.all_or_nothing();
        self.a_restart_changes_nothing();
        self.released_addresses_rest();
        self.wanted_addresses_are_given_or_refused();
        self.gc_releases_what_is_not_valid();
        self.check_compares();
        self.records_come_and_go_with_leases();
        for seed in 1..=8 {
            self.any_order_keeps_the_laws(seed);
        }
    }

    fn the_same_owner_gets_the_same(&self) {
        let run = self.start();
        let (first, again) = (run.must_assign(1), run.must_assign(1));
        assert!(!first.is_empty(), "law 1: assign gave no address");
        assert_eq!(first, again, "law 1: assign again for one owner returns the same leases");
    }

    fn filling_up_gives_every_address_once_and_says_when_none_is_left(&self) {
        let run = self.start();
        let mut given = BTreeSet::new();
        for number in 0..MOST_OWNERS {
            let status = run.ipam.status(run.now);
            match run.assign(number) {
                Ok(leases) => {
                    assert!(status.is_ok(), "law 9: status failed though an address was left: {status:?}");
                    for lease in leases {
                        assert!(given.insert(lease.address), "law 2: {} was given twice", lease.address);
                    }
                }
                Err(error) => {
                    let IpamError::Exhausted { usage, .. } = &error else {
                        panic!("law 9: not Exhausted but {error:?}");
                    };
                    let told = usage.first().unwrap_or_else(|| panic!("law 9: no usage in {error}"));
                    assert!(error.to_string().contains(&told.pool), "law 9: {error} does not name the pool");
                    assert!(status.is_err(), "law 9: status was fine though no address was left");
                    assert!(number >= 4, "the suite needs at least 4 addresses per family, there were {number}");
                    let used: u128 = run.ipam.usage(run.now).expect("usage").iter().map(|usage| usage.used).sum();
                    assert_eq!(used, given.len() as u128, "usage counts the leases");
                    return;
                }
            }
        }
        panic!("the suite needs at most {MOST_OWNERS} addresses per family");
    }

    fn release_is_repeatable(&self) {
        let run = self.start();
        assert_eq!(run.release(1), BTreeSet::new(), "law 3: release of an unknown owner is Ok and returns nothing");
        let given = run.must_assign(1);
        assert_eq!(run.release(1), given, "release returns what the owner had");
        assert_eq!(run.release(1), BTreeSet::new(), "law 3: release again is Ok and returns nothing");
        assert!(run.leases().is_empty(), "release leaves nothing");
    }

    fn all_or_nothing(&self) {
        let run = self.start();
        let mine = run.must_assign(1);
        run.release(1);
        let mut wanted: Vec<IpAddr> = mine.iter().copied().collect();
        wanted.push(Ipv4Addr::new(192, 0, 2, 199).into());
        wanted.push(Ipv6Addr::new(0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 1).into());
        let outcome = run.assign_these(1, &wanted);
        assert!(outcome.is_err(), "law 7: addresses of nobody's were given: {outcome:?}");
        assert!(run.leases().is_empty(), "law 4: a failing assign left {:?}", run.leases());
        assert!(run.ipam.check(&owner(1), &[]).is_err(), "law 4: a failing assign left leases");
        assert_eq!(run.must_assign_these(2, &mine), mine, "law 4: a failing assign kept addresses back");
    }

    fn a_restart_changes_nothing(&self) {
        let mut run = self.start();
        let (one, two) = (run.must_assign(1), run.must_assign(2));
        run.release(2);
        run.restart();
        assert_eq!(run.leases(), BTreeMap::from([(owner(1), one.clone())]), "law 5: leases after a restart");
        assert_eq!(run.must_assign(1), one, "law 1 holds over a restart");
        let three = run.must_assign(3);
        assert!(three.is_disjoint(&one), "law 2 holds over a restart");
        if !self.cool_down.is_zero() {
            assert!(three.is_disjoint(&two), "law 6 holds over a restart: {three:?} was released just now");
        }
    }

    fn released_addresses_rest(&self) {
        if self.cool_down.is_zero() {
            return;
        }
        let mut run = self.start();
        let released = run.must_assign(1);
        run.release(1);
        run.now += self.cool_down - Duration::from_millis(1);
        for number in 2..MOST_OWNERS {
            let Ok(given) = run.assign(number) else { break };
            if addresses(&given).is_disjoint(&released) {
                continue;
            }
            let next = run.assign(number + 1);
            assert!(next.is_err(), "law 6: a cooling address was given though {next:?} was free");
            assert!(number > 4, "law 6: a cooling address was given first of all");
            return;
        }
        panic!("law 6: the cooling address was not given though nothing else was left");
    }

    fn wanted_addresses_are_given_or_refused(&self) {
        let run = self.start();
        let one = run.must_assign(1);
        let wanted: Vec<IpAddr> = one.iter().copied().collect();
        let outcome = run.assign_these(2, &wanted);
        assert!(outcome.is_err(), "law 7: addresses of another owner were wanted, and given were {outcome:?}");
        assert_eq!(run.leases().len(), 1, "law 4: a failing assign left leases");
        run.release(1);
        assert_eq!(run.must_assign_these(2, &one), one, "law 7: wanted addresses are the ones that are given");
    }

    fn gc_releases_what_is_not_valid(&self) {
        let mut run = self.start();
        let (one, two, three) = (run.must_assign(1), run.must_assign(2), run.must_assign(3));
        let gc = |run: &Run<'_, D, I>| {
            let valid = BTreeSet::from([owner(2), owner(99)]);
            addresses(&wait(run.ipam.gc(&valid, run.now)).expect("gc"))
        };
        assert_eq!(gc(&run), &one | &three, "law 8: gc returns what it released");
        assert_eq!(run.leases(), BTreeMap::from([(owner(2), two)]), "law 8: gc keeps what is valid");
        run.restart();
        assert_eq!((gc(&run).len(), run.leases().len()), (0, 1), "law 8: gc again releases nothing");
    }

    fn check_compares(&self) {
        let run = self.start();
        let unknown = run.ipam.check(&owner(1), &[]);
        assert!(matches!(unknown, Err(IpamError::NotAssigned { .. })), "check of an unknown owner: {unknown:?}");
        let held: Vec<IpAddr> = run.must_assign(1).into_iter().collect();
        run.ipam.check(&owner(1), &held).expect("check of what is held");
        run.ipam.check(&owner(1), &[]).expect("check of anything");
        let other = run.ipam.check(&owner(1), &[Ipv4Addr::new(192, 0, 2, 199).into()]);
        assert!(matches!(other, Err(IpamError::Drifted { .. })), "check of other addresses: {other:?}");
    }

    fn records_come_and_go_with_leases(&self) {
        let run = self.start();
        let one = owner(1);
        let make = |leases: &[Lease]| format!("{:?}", addresses(leases)).into_bytes();
        let stored = || self.records.as_ref().map(|records| records(&run.disk));
        let nobodys =
            [Ipv4Addr::new(192, 0, 2, 199).into(), Ipv6Addr::new(0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 1).into()];
        let failed = wait(run.ipam.assign(&AssignRequest::new(&one).addresses(&nobodys).record(&make), run.now));
        assert!(failed.is_err(), "law 7: nobody's addresses were given");
        assert!(stored().is_none_or(|records| records.is_empty()), "law 10: a failing assign left a record");
        match wait(run.ipam.assign(&AssignRequest::new(&one).record(&make), run.now)) {
            Err(IpamError::Unsupported { .. }) => {
                assert!(run.leases().is_empty(), "law 10: records were refused, but leases given");
                assert!(self.records.is_none(), "law 10: records were refused, though the suite is to read them");
            }
            Err(error) => panic!("law 10: assign with a record failed: {error}"),
            Ok(leases) => {
                let expected = BTreeMap::from([(one.clone(), make(&leases))]);
                assert!(stored().is_none_or(|records| records == expected), "law 10: the record is not stored");
                run.release(1);
                assert!(stored().is_none_or(|records| records.is_empty()), "law 10: a record outlived its leases");
            }
        }
    }

    /// Random calls and restarts against a plain map.
    fn any_order_keeps_the_laws(&self, seed: u64) {
        let mut run = self.start();
        let mut model: BTreeMap<EndpointId, BTreeSet<IpAddr>> = BTreeMap::new();
        let mut random = seed;
        for _ in 0..200 {
            // xorshift64: the same steps in every run.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let number = u32::try_from(random >> 8 & 7).expect("three bits");
            run.now += Duration::from_millis(random >> 16 & 0x3fff);
            match random & 7 {
                0..=3 => match run.assign(number) {
                    Ok(leases) => {
                        let given = addresses(&leases);
                        if let Some(held) = model.get(&owner(number)) {
                            assert_eq!(&given, held, "law 1, seed {seed}");
                        } else {
                            let taken = model.values().any(|held| !held.is_disjoint(&given));
                            assert!(!taken, "law 2, seed {seed}: {given:?} is in {model:?}");
                        }
                        model.insert(owner(number), given);
                    }
                    Err(IpamError::Exhausted { .. }) => {}
                    Err(error) => panic!("assign, seed {seed}: {error}"),
                },
                4 | 5 => {
                    let held = model.remove(&owner(number)).unwrap_or_default();
                    assert_eq!(run.release(number), held, "release, seed {seed}");
                }
                6 => run.restart(),
                _ => {
                    let valid: BTreeSet<EndpointId> = (number..8).map(owner).collect();
                    wait(run.ipam.gc(&valid, run.now)).expect("gc");
                    model.retain(|owner, _| valid.contains(owner));
                }
            }
            assert_eq!(run.leases(), model, "leases, seed {seed}");
        }
    }
}

impl<D, I: Ipam> Run<'_, D, I> {
    fn restart(&mut self) {
        self.ipam = (self.suite.open)(&self.disk);
    }

    fn assign(&self, number: u32) -> Result<Vec<Lease>, IpamError> {
        wait(self.ipam.assign(&AssignRequest::new(&owner(number)), self.now))
    }

    fn assign_these(&self, number: u32, wanted: &[IpAddr]) -> Result<Vec<Lease>, IpamError> {
        wait(self.ipam.assign(&AssignRequest::new(&owner(number)).addresses(wanted), self.now))
    }

    fn must_assign(&self, number: u32) -> BTreeSet<IpAddr> {
        addresses(&self.assign(number).expect("assign"))
    }

    fn must_assign_these(&self, number: u32, wanted: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        let wanted: Vec<IpAddr> = wanted.iter().copied().collect();
        addresses(&self.assign_these(number, &wanted).expect("assign of wanted addresses"))
    }

    fn release(&self, number: u32) -> BTreeSet<IpAddr> {
        addresses(&wait(self.ipam.release(&owner(number), self.now)).expect("release"))
    }

    fn leases(&self) -> BTreeMap<EndpointId, BTreeSet<IpAddr>> {
        let mut by_owner: BTreeMap<EndpointId, BTreeSet<IpAddr>> = BTreeMap::new();
        for lease in self.ipam.leases().expect("leases") {
            by_owner.entry(lease.owner).or_default().insert(lease.address);
        }
        by_owner
    }
}

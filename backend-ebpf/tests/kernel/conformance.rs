//! The laws of the engine on a real namespace. Never more than the laws: packets are elsewhere.
//!
//! A rig of its own: entries of the maps are made of many items, so there is no driver that writes one by one, and nothing
//! that fails single writes. What that leaves untested, full maps and kills, is in `full` and `engine`.

use crate::items::{ONE, TWO, states};
use crate::place::{block_on, in_own_place, run};
use async_trait::async_trait;
use aya::Ebpf;
use aya::maps::lpm_trie::Key as Prefix;
use aya::maps::{LpmTrie, Map, MapData};
use aya::programs::links::LinkOrder;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{SchedClassifier, TcAttachType};
use backend_ebpf::engine::{self, Config, Key, Object, Objects, probe};
use backend_ebpf::kernel::{Hook, OBJECT, Sizes, Way};
use backend_ebpf::policy::{Device, Outlook, Tables};
use cni_core::backend::{Capabilities, Capability, Change, Engine, Error, ErrorKind, Item as _, Result};
use cni_core::model::{InterfaceName, NodeContext, NodeName, Underlay};
use cni_core::policy::program::{PolicyItem, PolicyKey};
use cni_core::testkit::engine::{
    Compiled, Faults, NODE, Rig, Settings, Snapshot, Strangers, Tamper, Wanted, conformance,
};
use ipnet::IpNet;
use net_linux::netns::NetNs;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// Small, so that a generation is made soon.
pub(crate) fn config() -> Config {
    let maps = Sizes {
        endpoints: 64,
        identities: 1024,
        peers: 4096,
        classes: 4096,
        verdicts: 4096,
        fragments: 64,
        connections: 1024,
    };
    Config { maps, ..Config::default() }
}

/// The thread's own namespace, a new one at every reset.
struct Bed {
    hook: Hook,
    strangers: Option<Ebpf>,
    capabilities: Capabilities,
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Kernel, "prepare", "test", error)
}

fn names(objects: Objects) -> Snapshot {
    objects.into_iter().map(|(key, object)| (key.to_string(), format!("{object:?}"))).collect()
}

/// The folder of this namespace's pins.
pub(crate) fn place() -> PathBuf {
    PathBuf::from(format!("{}/cnidarian/{}/policy", engine::BPFFS, NetNs::current().unwrap().cookie().unwrap()))
}

/// The newest generation's.
fn newest() -> PathBuf {
    let numbers =
        fs::read_dir(place()).unwrap().filter_map(|file| file.unwrap().file_name().to_str()?.parse::<u32>().ok());
    place().join(numbers.max().unwrap().to_string())
}

#[async_trait]
impl Rig<PolicyItem> for Bed {
    async fn open(&mut self) -> Result<Box<dyn Engine<PolicyItem>>> {
        Ok(engine::open_at(&config(), self.capabilities.clone(), self.hook)?)
    }

    async fn observe(&mut self) -> Result<Snapshot> {
        Ok(names(engine::observe_at(self.hook)?))
    }

    /// What the tables make of the items at once; blocked is what cannot be enforced, by hand.
    fn compile(&mut self, _node: &NodeContext, items: &[PolicyItem]) -> Compiled {
        let mut tables = Tables::default();
        let device = |(name, index): (&str, u32)| {
            let is_pods = name.starts_with("cni");
            (InterfaceName::new(name).unwrap(), Device { index, is_pods, is_ethernet: true })
        };
        tables.set_devices([(ONE, 1), (TWO, 2), ("one", 3), ("two", 4)].map(device).into());
        let mut blocked = BTreeSet::new();
        for item in items {
            let key = item.key().to_string();
            let bad = match item {
                PolicyItem::Endpoint(program) => program.host_interface.as_str() == "eth7",
                PolicyItem::Member(_, member) => member.to_string() == "fd00::3",
                _ => false,
            };
            if bad {
                blocked.insert(key);
            }
            if let PolicyItem::Endpoint(program) = item {
                tables.set_interface(&program.host_interface, Some(1));
            }
            if !bad {
                tables.apply(Change::Put(item.clone()));
            }
        }
        let _ = tables.drain();
        blocked.extend(tables.closed().map(|(id, _)| PolicyKey::Endpoint(id.clone()).to_string()));
        let Outlook { identities, interfaces, hosts } = tables.whole();
        let identities = identities
            .into_iter()
            .filter_map(|(net, digest)| digest.map(|digest| (Key::Identity(net), Object::Identity(digest))));
        let at = |(_, addresses): &(InterfaceName, BTreeMap<_, _>)| !addresses.is_empty();
        let interfaces = interfaces
            .into_iter()
            .filter(at)
            .map(|(name, addresses)| (Key::Interface(name), Object::Interface { addresses, attached: true }));
        let hosts = hosts
            .unwrap_or_default()
            .into_iter()
            .map(|(name, addresses)| (Key::Host(name), Object::Interface { addresses, attached: true }));
        let objects = names(identities.chain(interfaces).chain(hosts).collect());
        let wanted = |content| Wanted { content, rank: None, items: BTreeSet::from([NODE.to_owned()]) };
        let objects = objects.into_iter().map(|(name, content)| (name, wanted(content))).collect();
        Compiled { objects, blocked }
    }

    async fn reset(&mut self) -> Result<()> {
        engine::clear()?;
        self.strangers = None;
        NetNs::new().and_then(|netns| netns.enter()).map_err(failed)?;
        for (name, peer) in [(ONE, "one"), (TWO, "two")] {
            run(&format!("ip link add {name} type veth peer name {peer}"));
        }
        Ok(())
    }

    fn contexts(&self) -> Vec<NodeContext> {
        let underlay =
            Underlay { interface: InterfaceName::new("eth0").unwrap(), index: 2, mtu_bytes: 1500, v4: None, v6: None };
        let name = NodeName::new("node-1").unwrap();
        vec![NodeContext { name, labels: Default::default(), underlay, masquerade: None }]
    }

    fn unsupported(&self) -> Vec<PolicyItem> {
        Vec::new()
    }

    fn faults(&self) -> Option<Faults> {
        None
    }

    fn tamper(&mut self) -> Option<&mut dyn Tamper> {
        Some(self)
    }

    fn strangers(&mut self) -> Option<&mut dyn Strangers> {
        Some(self)
    }
}

/// Writes the identity of a prefix, or takes it away.
fn set_identity(net: IpNet, number: Option<u32>) {
    let open = |name: &str| Map::from_map_data(MapData::from_pin(newest().join(name)).unwrap()).unwrap();
    match net {
        IpNet::V4(net) => {
            let mut map = LpmTrie::<_, [u8; 4], u32>::try_from(open("IDENTITIES_V4")).unwrap();
            let key = Prefix::new(net.prefix_len().into(), net.addr().octets());
            match number {
                Some(number) => map.insert(&key, number, 0).unwrap(),
                None => map.remove(&key).unwrap(),
            }
        }
        IpNet::V6(net) => {
            let mut map = LpmTrie::<_, [u8; 16], u32>::try_from(open("IDENTITIES_V6")).unwrap();
            let key = Prefix::new(net.prefix_len().into(), net.addr().octets());
            match number {
                Some(number) => map.insert(&key, number, 0).unwrap(),
                None => map.remove(&key).unwrap(),
            }
        }
    }
}

#[async_trait]
impl Tamper for Bed {
    async fn remove(&mut self, object: &str) -> Result<bool> {
        if let Some(net) = object.strip_prefix("identity of ") {
            set_identity(net.parse().unwrap(), None);
            return Ok(true);
        }
        let of_host = object.strip_prefix("policy of the node at ");
        let ways = if of_host.is_some() { Way::HOST } else { Way::PODS };
        let interface = of_host.or_else(|| object.strip_prefix("policy at ")).unwrap();
        for way in ways {
            self.hook.detach(way, interface).map_err(failed)?;
        }
        // A filter of clsact cannot be asked for: it is put there again without being missed.
        Ok(self.hook == Hook::Tcx)
    }

    async fn alter(&mut self, object: &str) -> Result<bool> {
        let Some(net) = object.strip_prefix("identity of ") else { return Ok(false) };
        set_identity(net.parse().unwrap(), Some(99_999));
        Ok(true)
    }

    async fn add(&mut self) -> Result<bool> {
        set_identity("198.51.100.250/32".parse().unwrap(), Some(99_999));
        set_identity("2001:db8:ff::/48".parse().unwrap(), Some(1));
        Ok(true)
    }
}

#[async_trait]
impl Strangers for Bed {
    /// A program of somebody else's at the same hooks, and pins beside ours.
    async fn add(&mut self) -> Result<()> {
        let mut theirs = Ebpf::load(OBJECT).map_err(failed)?;
        let program: &mut SchedClassifier = theirs.program_mut("to_pod").unwrap().try_into().unwrap();
        program.load().map_err(failed)?;
        if self.hook == Hook::Tcx {
            let options = TcAttachOptions::TcxOrder(LinkOrder::default());
            program.attach_with_options(ONE, TcAttachType::Egress, options).map_err(failed)?;
        }
        self.strangers = Some(theirs);
        fs::create_dir_all(format!("{}/cnidarian/theirs", engine::BPFFS)).map_err(failed)
    }

    async fn occupy(&mut self, _object: &str) -> Result<bool> {
        Ok(false)
    }

    async fn leave(&mut self, _object: &str) -> Result<()> {
        Ok(())
    }

    async fn list(&mut self) -> Result<Snapshot> {
        let mut all = Snapshot::new();
        if let Some(theirs) = &self.strangers {
            let program: &SchedClassifier = theirs.program("to_pod").unwrap().try_into().unwrap();
            let id = program.info().map_err(failed)?.id();
            let there = self.hook.programs(Way::ToPod, ONE).map_err(failed)?;
            let there = there.is_none_or(|programs| programs.contains(&id));
            all.insert("their program".to_owned(), there.to_string());
            let folder = fs::exists(format!("{}/cnidarian/theirs", engine::BPFFS)).map_err(failed)?;
            all.insert("their pins".to_owned(), folder.to_string());
        }
        Ok(all)
    }
}

fn every_law(hook: Hook) {
    let report = in_own_place(|| {
        let settings = Settings { walks: 2, ..Settings::default() };
        let mut bed = Bed { hook, strangers: None, capabilities: probe() };
        block_on(conformance(&mut bed, &states(), settings))
    });
    println!("{}", report.unwrap_or_else(|violation| panic!("{violation}")));
}

#[test]
fn the_engine_keeps_every_law() {
    every_law(Hook::probe());
}

#[test]
fn the_engine_keeps_every_law_at_clsact() {
    // Without TCX the other test was there.
    if Hook::probe() == Hook::Tcx {
        every_law(Hook::Clsact);
    }
}

#[test]
fn this_kernel_can_do_it_and_probing_leaves_nothing() {
    in_own_place(|| {
        let before = run("tc qdisc show dev lo");
        let capabilities = probe();
        capabilities.require(&[Capability::Policy, Capability::HostPolicy, Capability::SurvivesAgent]).unwrap();
        assert_eq!(run("tc qdisc show dev lo"), before);
        assert!(!place().exists());
    });
}

//! What the engine has in the kernel, as its reports name it. Never an entry of a map: those have numbers, which differ from
//! one process to the next, and this is what they mean.

use crate::policy::{AtAddress, Digest, Meant, Write};
use backend_ebpf_abi::{Endpoint, EndpointKey};
use cni_core::model::InterfaceName;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// What holds of a prefix.
    Identity(IpNet),
    /// What is enforced at an interface of a pod.
    Interface(InterfaceName),
    /// What is enforced of the node itself at an interface.
    Host(InterfaceName),
}

/// Its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// The meaning of its identity.
    Identity(Digest),
    /// What is enforced there.
    Interface {
        /// By address.
        addresses: BTreeMap<IpAddr, AtAddress>,
        /// Whether both programs are there.
        attached: bool,
    },
}

/// All of them.
pub type Objects = BTreeMap<Key, Object>;

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(prefix) => write!(f, "identity of {prefix}"),
            Self::Interface(name) => write!(f, "policy at {name}"),
            Self::Host(name) => write!(f, "policy of the node at {name}"),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |digest: &Digest| digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>();
        match self {
            Self::Identity(digest) => f.write_str(&hex(digest)),
            Self::Interface { addresses, attached } => {
                for (address, [ingress, egress]) in addresses {
                    write!(f, "{address} ingress {} egress {} ", hex(ingress), hex(egress))?;
                }
                f.write_str(if *attached { "attached" } else { "not attached" })
            }
        }
    }
}

/// Objects as writes make them.
#[derive(Debug, Default)]
pub(super) struct View {
    meanings: HashMap<Meant, Digest>,
    /// Where programs are.
    attached: BTreeSet<Key>,
    /// Objects of interfaces where they are not.
    bare: BTreeSet<Key>,
    objects: Objects,
    /// What objects were before they were first changed since the last call of `settle`.
    before: BTreeMap<Key, Option<Object>>,
}

impl View {
    pub(super) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Interfaces where something is to be enforced, and no programs are.
    pub(super) fn bare(&self) -> impl Iterator<Item = (&Key, &Object)> {
        self.bare.iter().filter_map(|key| self.objects.get_key_value(key))
    }

    /// Takes in an entry that was written, or read. Meanings come before what they are of.
    pub(super) fn take(&mut self, write: &Write, names: &BTreeMap<u32, InterfaceName>) {
        match write {
            Write::Meaning(meant, Some(digest)) => drop(self.meanings.insert(*meant, *digest)),
            Write::Meaning(meant, None) => drop(self.meanings.remove(meant)),
            Write::Identity(prefix, identity) => {
                // Without a meaning it is nothing that we wrote.
                let digest = |number| self.meanings.get(&Meant::Identity(number)).copied().unwrap_or_default();
                self.set(Key::Identity(*prefix), identity.map(|number| Object::Identity(digest(number))));
            }
            Write::Endpoint(key, endpoint) => self.take_at(Key::Interface, key, endpoint.as_ref(), names),
            Write::Host(key, endpoint) => self.take_at(Key::Host, key, endpoint.as_ref(), names),
            Write::Peer(..) | Write::Class(..) | Write::Verdict(..) | Write::Advance => {}
        }
    }

    fn take_at(
        &mut self,
        of: impl Fn(InterfaceName) -> Key,
        key: &EndpointKey,
        endpoint: Option<&Endpoint>,
        names: &BTreeMap<u32, InterfaceName>,
    ) {
        let Some(name) = names.get(&key.interface) else { return };
        let (at, address) = (of(name.clone()), Ipv6Addr::from(key.address).to_canonical());
        let mut addresses = self.addresses(&at);
        match endpoint {
            Some(endpoint) => {
                let digest = |program| self.meanings.get(&Meant::Program(program)).copied().unwrap_or_default();
                let meant = [digest(endpoint.ingress.program), digest(endpoint.egress.program)];
                addresses.insert(address, meant);
            }
            None => drop(addresses.remove(&address)),
        }
        self.set_addresses(at, addresses);
    }

    /// The programs are at an interface, or not.
    pub(super) fn set_attached(&mut self, at: Key, attached: bool) {
        if attached {
            self.attached.insert(at.clone());
        } else {
            self.attached.remove(&at);
        }
        let addresses = self.addresses(&at);
        self.set_addresses(at, addresses);
    }

    fn addresses(&self, at: &Key) -> BTreeMap<IpAddr, AtAddress> {
        match self.objects.get(at) {
            Some(Object::Interface { addresses, .. }) => addresses.clone(),
            _ => BTreeMap::new(),
        }
    }

    fn set_addresses(&mut self, at: Key, addresses: BTreeMap<IpAddr, AtAddress>) {
        let attached = self.attached.contains(&at);
        // Where nothing is enforced of a pod everything is dropped, and of the node everything passes: that is no object.
        let object = (!addresses.is_empty()).then_some(Object::Interface { addresses, attached });
        match &object {
            Some(_) if !attached => drop(self.bare.insert(at.clone())),
            _ => drop(self.bare.remove(&at)),
        }
        self.set(at, object);
    }

    fn set(&mut self, key: Key, object: Option<Object>) {
        let before = match object {
            Some(object) => self.objects.insert(key.clone(), object),
            None => self.objects.remove(&key),
        };
        self.before.entry(key).or_insert(before);
    }

    /// How many objects differ from what they were at the last call.
    pub(super) fn settle(&mut self) -> usize {
        let before = std::mem::take(&mut self.before);
        before.iter().filter(|(key, object)| self.objects.get(key) != object.as_ref()).count()
    }
}

/// How many objects differ.
pub(super) fn differing(before: &Objects, after: &Objects) -> usize {
    let gone = before.keys().filter(|key| !after.contains_key(key)).count();
    gone + after.iter().filter(|(key, object)| before.get(key) != Some(object)).count()
}

//! What the speaker of this process is told, as a table in memory that outlives drivers. Never acts on it: that is the
//! task's.

use crate::object::{FarEnd, Ground, Key, Object, Secured};
use crate::task::setup::Problem;
use bgp_speaker::config::{ListenRange, PeerConfig, PeerName};
use bgp_speaker::speaker::{Origination, Speaker};
use bgp_speaker::transport::Handle;
use cni_core::model::Encapsulation;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The table. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Table(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    wanted: Mutex<Wanted>,
    in_sync: AtomicBool,
    changed: Notify,
    speaker: Mutex<Option<Handle<Speaker>>>,
    complaints: Mutex<Complaints>,
}

/// What is not as it should be, for questions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Complaints {
    /// Peers and ranges that are left out, or are as they were.
    pub(crate) problems: Vec<Problem>,
    /// Why there is no speaker, where it was tried.
    pub(crate) failure: Option<String>,
}

/// All that the speaker shall be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// The speaker itself; `None`: there shall be none.
    pub ground: Option<Ground>,
    /// Peers.
    pub sessions: BTreeMap<PeerName, Secured<PeerConfig>>,
    /// Ranges.
    pub ranges: BTreeMap<PeerName, Secured<ListenRange>>,
    /// What is announced.
    pub announcements: BTreeMap<IpNet, Origination>,
    /// Addresses of local pods.
    pub pods: BTreeMap<IpNet, ()>,
    /// By a next hop that is a node's: the far end of its tunnel.
    pub nodes: BTreeMap<IpAddr, FarEnd>,
    /// What pools of other nodes' prefixes say.
    pub carriage: BTreeMap<IpNet, Encapsulation>,
    /// Prefixes of other nodes' pods.
    pub blocks: BTreeMap<IpNet, ()>,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every object.
    #[must_use]
    pub fn objects(&self) -> Vec<(Key, Object)> {
        let wanted = self.lock();
        let ground = wanted.ground.iter().map(|ground| (Key::Speaker, Object::Speaker(ground.clone().into())));
        let sessions = wanted
            .sessions
            .iter()
            .map(|(name, session)| (Key::Session(name.clone()), Object::Session(session.clone().into())));
        let ranges =
            wanted.ranges.iter().map(|(name, range)| (Key::Range(name.clone()), Object::Range(range.clone().into())));
        let announcements = wanted
            .announcements
            .iter()
            .map(|(prefix, what)| (Key::Announcement(*prefix), Object::Announcement(what.clone().into())));
        let pods = wanted.pods.keys().map(|prefix| (Key::PodAddress(*prefix), Object::PodAddress));
        let nodes = wanted.nodes.iter().map(|(address, end)| (Key::Node(*address), Object::Node(*end)));
        let carriage = wanted.carriage.iter().map(|(prefix, how)| (Key::Carriage(*prefix), Object::Carriage(*how)));
        let blocks = wanted.blocks.keys().map(|prefix| (Key::Block(*prefix), Object::Block));
        let speaker = ground.chain(sessions).chain(ranges).chain(announcements).chain(pods);
        speaker.chain(nodes).chain(carriage).chain(blocks).collect()
    }

    /// Puts an object. `false` when the object is none for the key; nothing has changed then.
    pub fn put(&self, key: &Key, object: &Object) -> bool {
        let mut wanted = self.lock();
        match (key, object) {
            (Key::Speaker, Object::Speaker(ground)) => wanted.ground = Some((**ground).clone()),
            (Key::Session(name), Object::Session(session)) => {
                wanted.sessions.insert(name.clone(), (**session).clone());
            }
            (Key::Range(name), Object::Range(range)) => {
                wanted.ranges.insert(name.clone(), (**range).clone());
            }
            (Key::Announcement(prefix), Object::Announcement(what)) => {
                wanted.announcements.insert(*prefix, (**what).clone());
            }
            (Key::PodAddress(prefix), Object::PodAddress) => {
                wanted.pods.insert(*prefix, ());
            }
            (Key::Node(address), Object::Node(end)) => {
                wanted.nodes.insert(*address, *end);
            }
            (Key::Carriage(prefix), Object::Carriage(how)) => {
                wanted.carriage.insert(*prefix, *how);
            }
            (Key::Block(prefix), Object::Block) => {
                wanted.blocks.insert(*prefix, ());
            }
            _ => return false,
        }
        true
    }

    /// Takes an object away.
    pub fn delete(&self, key: &Key) {
        let mut wanted = self.lock();
        match key {
            Key::Speaker => wanted.ground = None,
            Key::Session(name) => drop(wanted.sessions.remove(name)),
            Key::Range(name) => drop(wanted.ranges.remove(name)),
            Key::Announcement(prefix) => drop(wanted.announcements.remove(prefix)),
            Key::PodAddress(prefix) => drop(wanted.pods.remove(prefix)),
            Key::Node(address) => drop(wanted.nodes.remove(address)),
            Key::Carriage(prefix) => drop(wanted.carriage.remove(prefix)),
            Key::Block(prefix) => drop(wanted.blocks.remove(prefix)),
            _ => {}
        }
    }

    /// The first whole state is in the table.
    pub fn set_in_sync(&self) {
        self.0.in_sync.store(true, Ordering::Release);
        self.announce_change();
    }

    /// Whether the first whole state is in the table: before that, a speaker would tell its peers of a part only, and
    /// they would drop the rest.
    #[must_use]
    pub fn is_in_sync(&self) -> bool {
        self.0.in_sync.load(Ordering::Acquire)
    }

    /// The speaker that heeds this table now, for questions.
    #[must_use]
    pub fn speaker(&self) -> Option<Handle<Speaker>> {
        self.0.speaker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_speaker(&self, speaker: Option<Handle<Speaker>>) {
        *self.0.speaker.lock().unwrap_or_else(PoisonError::into_inner) = speaker;
    }

    /// What the task complained of last.
    pub(crate) fn complaints(&self) -> Complaints {
        self.complain(|complaints| complaints.clone())
    }

    /// Changes what the task complains of.
    pub(crate) fn complain<T>(&self, change: impl FnOnce(&mut Complaints) -> T) -> T {
        change(&mut self.0.complaints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the task that a batch of changes is complete.
    pub fn announce_change(&self) {
        self.0.changed.notify_one();
    }

    /// Waits for [`announce_change`](Self::announce_change).
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// All of it, as it is now.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        self.lock().clone()
    }
}

impl Wanted {
    /// Everything to announce: also addresses of pods that no announcement holds.
    #[must_use]
    pub fn announced(&self) -> BTreeMap<IpNet, Origination> {
        let held = |pod: &IpNet| supernets(*pod).any(|prefix| self.announcements.contains_key(&prefix));
        let borrowed = self.pods.keys().filter(|pod| !held(pod)).map(|pod| (*pod, Origination::default()));
        let mut all: BTreeMap<IpNet, Origination> = borrowed.collect();
        all.extend(self.announcements.iter().map(|(prefix, what)| (*prefix, what.clone())));
        all
    }

    /// How packets to a learned prefix are carried: what the pool says that holds it, else the node's configuration.
    #[must_use]
    pub fn carriage_of(&self, prefix: IpNet) -> Encapsulation {
        let usual = self.ground.as_ref().map_or(Encapsulation::Never, |ground| ground.encapsulation);
        if self.carriage.is_empty() {
            return usual;
        }
        supernets(prefix).find_map(|prefix| self.carriage.get(&prefix)).copied().unwrap_or(usual)
    }
}

/// A prefix and all that hold it, the longest first.
fn supernets(prefix: IpNet) -> impl Iterator<Item = IpNet> {
    std::iter::successors(Some(prefix), IpNet::supernet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn only_addresses_outside_of_what_is_announced_are_announced_alone() {
        let mut wanted = Wanted::default();
        wanted.announcements.insert(net("10.1.0.0/26"), Origination::default());
        wanted.pods.insert(net("10.1.0.5/32"), ());
        wanted.pods.insert(net("10.1.0.77/32"), ());
        wanted.pods.insert(net("fd00::5/128"), ());
        let announced: Vec<IpNet> = wanted.announced().into_keys().collect();
        assert_eq!(announced, [net("10.1.0.0/26"), net("10.1.0.77/32"), net("fd00::5/128")]);
    }

    #[test]
    fn the_nearest_pool_around_a_prefix_says_how_it_is_carried() {
        let mut wanted = Wanted::default();
        wanted.carriage.insert(net("10.1.0.0/16"), Encapsulation::Always);
        wanted.carriage.insert(net("10.1.2.0/24"), Encapsulation::CrossSubnet);
        assert_eq!(wanted.carriage_of(net("10.1.2.64/26")), Encapsulation::CrossSubnet);
        assert_eq!(wanted.carriage_of(net("10.1.3.5/32")), Encapsulation::Always);
        assert_eq!(wanted.carriage_of(net("10.2.0.0/26")), Encapsulation::Never);
    }
}

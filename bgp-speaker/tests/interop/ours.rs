//! Our speaker as an embedder runs it: on a thread in a namespace, with a host that writes down instead of writing to the
//! kernel. Never a route of the kernel's.

use crate::told::HOLD_SECONDS;
use bgp_speaker::config::{AddPath, Bfd, Config, Hold, PeerAddress, PeerConfig, PeerName, RemoteAsn};
use bgp_speaker::session::State;
use bgp_speaker::speaker::{
    Beginning, DownReason, Input, Origination, Output, PeerEvent, PeerStatus, Resolution, Speaker, Via,
};
use bgp_speaker::transport::{Handle, Host, Limits, Setup, Transport, Trouble};
use bgp_speaker::types::{AddPathMode, Asn, Attributes, Family, PeerId, RouterId};
use ipnet::{IpNet, Ipv4Net};
use net_linux::netns::NetNs;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

pub(crate) fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

/// A peer that is tried often, with a hold time that a test can wait for.
pub(crate) fn neighbour(address: IpAddr, number: u32) -> PeerConfig {
    let mut peer = PeerConfig::new(PeerAddress::Ip(address), RemoteAsn::Exactly(asn(number)));
    peer.hold = Hold { hold_seconds: HOLD_SECONDS, connect_retry: Duration::from_secs(1), ..Hold::default() };
    peer
}

/// A speaker that listens on all addresses.
pub(crate) fn config<const N: usize>(number: u32, id: &str, peers: [(&str, PeerConfig); N]) -> Config {
    let mut config = Config::new(asn(number), RouterId::new(id.parse().unwrap()).unwrap());
    config.listen = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()]
        .map(|address| SocketAddr::new(address, bgp_speaker::config::BGP_PORT))
        .into();
    config.peers = peers.into_iter().map(|(name, peer)| (PeerName::from(name), peer)).collect();
    config
}

/// A peer that is silent for 150 ms is gone.
pub(crate) fn bfd() -> Bfd {
    Bfd { interval: Duration::from_millis(50), multiplier: 3 }
}

/// Several paths of IPv4 prefixes, both ways.
pub(crate) fn add_path() -> BTreeMap<Family, AddPath> {
    [(Family::Ipv4, AddPath { mode: AddPathMode::Both, send_max: 8 })].into()
}

/// So much is kept for the report of a test that failed.
const MOST_SAID: usize = 500;

/// What the host was told.
#[derive(Debug, Default)]
struct Record {
    /// What the kernel would have.
    routes: BTreeMap<IpNet, Vec<IpAddr>>,
    /// What the kernel would have had to delete.
    lost: BTreeSet<IpNet>,
    in_sync: BTreeSet<Family>,
    ups: BTreeMap<PeerId, usize>,
    ends: BTreeMap<PeerId, Vec<DownReason>>,
    /// The last of everything, for the report of a test that failed.
    all: VecDeque<(Duration, String)>,
}

impl Record {
    fn say(&mut self, since: Duration, what: String) {
        if self.all.len() == MOST_SAID {
            self.all.pop_front();
        }
        self.all.push_back((since, what));
    }
}

struct Witness {
    since: Instant,
    record: Arc<Mutex<Record>>,
    handle: Arc<OnceLock<Handle<Speaker>>>,
}

impl Host for Witness {
    fn output(&mut self, output: Output) {
        let mut record = self.record.lock().unwrap();
        record.say(self.since.elapsed(), format!("{output:?}"));
        match output {
            Output::Route { prefix, hops } if hops.is_empty() => {
                record.routes.remove(&prefix);
                record.lost.insert(prefix);
            }
            Output::Route { prefix, hops } => {
                record.routes.insert(prefix, hops.into_iter().map(|hop| hop.address).collect());
            }
            Output::InSync { family } => {
                record.in_sync.insert(family);
            }
            Output::Peer { peer, event: PeerEvent::Up, .. } => *record.ups.entry(peer).or_default() += 1,
            Output::Peer { peer, event: PeerEvent::Down(reason), .. } => {
                record.ends.entry(peer).or_default().push(reason)
            }
            // Every next hop of these tests is on the link.
            Output::Track { address } => {
                let ways = vec![Resolution { metric: 0, via: Via { interface: "link".into(), gateway: None } }];
                let tell = move |speaker: &mut Speaker, now, out: &mut Vec<Output>| {
                    speaker.handle(now, Input::Resolved { address, ways }, out);
                };
                if let Some(handle) = self.handle.get() {
                    let _ = handle.post(tell);
                }
            }
            _ => {}
        }
    }

    fn trouble(&mut self, trouble: Trouble) {
        self.record.lock().unwrap().say(self.since.elapsed(), trouble.to_string());
    }
}

struct Running {
    thread: JoinHandle<()>,
    kill: oneshot::Sender<()>,
    handle: Handle<Speaker>,
}

/// Our speaker.
pub(crate) struct Ours {
    config: Config,
    running: Option<Running>,
    record: Arc<Mutex<Record>>,
}

impl Ours {
    pub(crate) fn start(namespace: &NetNs, config: Config) -> Self {
        Self::begin(namespace, config, &Beginning::Fresh, &[])
    }

    /// With routes of its own from the first moment on.
    pub(crate) fn begin(namespace: &NetNs, config: Config, beginning: &Beginning, own: &[&str]) -> Self {
        let record = Arc::default();
        let running = run(namespace, &config, beginning, &record, own);
        Self { config, running: Some(running), record }
    }

    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Speaker, Instant, &mut Vec<Output>) -> T + Send + 'static,
    ) -> T {
        let handle = &self.running.as_ref().expect("it runs").handle;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(handle.with(work)).unwrap()
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }

    pub(crate) fn peer(&self, name: &str) -> PeerStatus {
        let name = name.to_owned();
        self.with(move |speaker, _, _| speaker.peer(&name)).unwrap()
    }

    pub(crate) fn is_up(&self, name: &str) -> bool {
        self.peer(name).state == State::Established
    }

    /// How often the session was established.
    pub(crate) fn ups(&self, name: &str) -> usize {
        let id = self.peer(name).id;
        self.record().ups.get(&id).copied().unwrap_or_default()
    }

    /// Why its sessions ended.
    pub(crate) fn ends(&self, name: &str) -> Vec<DownReason> {
        let id = self.peer(name).id;
        self.record().ends.get(&id).cloned().unwrap_or_default()
    }

    /// None of its routes is stale.
    pub(crate) fn is_fresh(&self, name: &str) -> bool {
        self.peer(name).stale.is_empty()
    }

    pub(crate) fn bfd_is_up(&self, name: &str) -> bool {
        self.peer(name).bfd == Some(true)
    }

    pub(crate) fn refreshes_in(&self, name: &str) -> u64 {
        self.peer(name).counters.refreshes_in
    }

    /// Asks a peer for its IPv4 routes once more.
    pub(crate) fn refresh(&self, name: &str) {
        let handle = &self.running.as_ref().expect("it runs").handle;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(handle.refresh(name, [Family::Ipv4].into())).unwrap();
    }

    pub(crate) fn updates_in(&self, name: &str) -> u64 {
        self.peer(name).counters.updates_in
    }

    pub(crate) fn is_in_sync(&self) -> bool {
        self.record().in_sync.len() == Family::ALL.len()
    }

    pub(crate) fn originate(&self, prefixes: &[&str]) {
        for prefix in prefixes {
            self.originate_with(prefix, &[], &[], &[]);
        }
    }

    /// From 100.0.1.0/24 on.
    pub(crate) fn originate_many(&self, count: u16) {
        self.with(move |speaker, now, _| {
            for number in 1..=count {
                let [high, low] = number.to_be_bytes();
                let prefix = Ipv4Net::new_assert(Ipv4Addr::new(100, high, low, 0), 24);
                speaker.announce(now, prefix.into(), &Origination::default());
            }
        });
    }

    pub(crate) fn originate_with(&self, prefix: &str, standard: &[&str], extended: &[&str], large: &[&str]) {
        let prefix: IpNet = prefix.parse().unwrap();
        let what = Origination {
            communities: standard.iter().map(|text| text.parse().unwrap()).collect(),
            extended: extended.iter().map(|text| text.parse().unwrap()).collect(),
            large: large.iter().map(|text| text.parse().unwrap()).collect(),
            ..Origination::default()
        };
        self.with(move |speaker, now, _| speaker.announce(now, prefix, &what));
    }

    pub(crate) fn withdraw(&self, prefix: &str) {
        let prefix: IpNet = prefix.parse().unwrap();
        self.with(move |speaker, now, _| speaker.withdraw(now, prefix));
    }

    /// Another configuration from now on.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        let config = self.config.clone();
        self.with(move |speaker, now, out| speaker.reconfigure(now, config, out)).unwrap();
    }

    /// Whether the kernel would have a route.
    pub(crate) fn has(&self, prefix: &str) -> bool {
        self.record().routes.contains_key(&prefix.parse::<IpNet>().unwrap())
    }

    /// Whether the kernel would have been told to delete it, at any time.
    pub(crate) fn ever_lost(&self, prefix: &str) -> bool {
        self.record().lost.contains(&prefix.parse::<IpNet>().unwrap())
    }

    pub(crate) fn next_hops(&self, prefix: &str) -> Vec<IpAddr> {
        self.record().routes.get(&prefix.parse::<IpNet>().unwrap()).cloned().unwrap_or_default()
    }

    /// How many paths of a prefix there are.
    pub(crate) fn paths(&self, prefix: &str) -> usize {
        let prefix: IpNet = prefix.parse().unwrap();
        self.with(move |speaker, _, _| speaker.explain(&prefix)).map_or(0, |all| all.paths.len())
    }

    /// Whether the best path of a prefix is kept by long-lived graceful restart.
    pub(crate) fn is_long_lived(&self, prefix: &str) -> bool {
        let prefix: IpNet = prefix.parse().unwrap();
        let all = self.with(move |speaker, _, _| speaker.explain(&prefix));
        all.is_some_and(|all| all.paths.first().is_some_and(|path| path.is_long_lived))
    }

    /// What became of the paths of a prefix, the best first.
    pub(crate) fn explain(&self, prefix: &str) -> Vec<String> {
        let prefix: IpNet = prefix.parse().unwrap();
        let all = self.with(move |speaker, _, _| speaker.explain(&prefix));
        all.into_iter().flat_map(|all| all.paths).map(|path| format!("{:?}", path.state)).collect()
    }

    fn attributes(&self, prefix: &str) -> Option<Arc<Attributes>> {
        let prefix: IpNet = prefix.parse().unwrap();
        self.with(move |speaker, _, _| speaker.explain(&prefix))?.paths.first()?.attributes.clone()
    }

    pub(crate) fn as_path(&self, prefix: &str) -> String {
        self.attributes(prefix).map(|attributes| attributes.as_path.to_string()).unwrap_or_default()
    }

    /// Of all three kinds: standard, extended, large.
    pub(crate) fn communities(&self, prefix: &str) -> Vec<String> {
        let Some(attributes) = self.attributes(prefix) else { return Vec::new() };
        let standard = attributes.communities.iter().map(ToString::to_string);
        let extended = attributes.extended.iter().map(ToString::to_string);
        standard.chain(extended).chain(attributes.large.iter().map(ToString::to_string)).collect()
    }

    pub(crate) fn originator(&self, prefix: &str) -> Option<IpAddr> {
        Some(self.attributes(prefix)?.originator?.get().into())
    }

    pub(crate) fn state(&self) -> String {
        let peers = self.running.as_ref().map(|_| self.with(|speaker, _, _| speaker.peers()));
        let peers = peers.iter().flatten().map(|peer| format!("{peer:?}\n"));
        let all = self.record().all.clone();
        let all = all.iter().map(|(since, what)| format!("{:>8.3} {what}\n", since.as_secs_f64()));
        peers.chain(all).collect()
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        if let Some(Running { thread, kill, .. }) = self.running.take() {
            let _ = kill.send(());
            thread.join().unwrap();
        }
    }
}

fn run(
    namespace: &NetNs,
    config: &Config,
    beginning: &Beginning,
    record: &Arc<Mutex<Record>>,
    own: &[&str],
) -> Running {
    let now = Instant::now();
    let mut speaker = Speaker::new(now, config.clone(), beginning, 1).unwrap();
    for prefix in own {
        speaker.announce(now, prefix.parse().unwrap(), &Origination::default());
    }
    let setup = Setup::of(config);
    let handle = Arc::new(OnceLock::new());
    let host = Witness { since: now, record: record.clone(), handle: handle.clone() };
    let (namespace, (kill, killed), (ready, started)) = (namespace.clone(), oneshot::channel::<()>(), mpsc::channel());
    let thread = std::thread::spawn(move || {
        namespace.enter().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (transport, way) = Transport::new(speaker, host, Limits::default()).unwrap();
            handle.set(way.clone()).unwrap();
            let wait = async {
                way.set_up(setup).await.unwrap();
                ready.send(way).unwrap();
                let _ = killed.await;
            };
            tokio::select! {
                result = transport.run() => panic!("the transport ended: {:?}", result.err()),
                () = wait => {}
            }
        });
    });
    Running { handle: started.recv().unwrap(), thread, kill }
}

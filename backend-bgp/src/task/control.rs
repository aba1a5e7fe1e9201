//! The loop that keeps speaker, table and kernel together. Never waits for one while another wants something.

use super::carry::{Carrier, underlay_address};
use super::mail::{Letters, Mail};
use super::setup::{self, LeftOut};
use crate::compile::SESSION_PREFIX;
use crate::table::{Table, Wanted};
use bgp_speaker::config::{Config, PeerAddress, PeerName};
use bgp_speaker::speaker::{Beginning, Hop, Input, Origination, Resolution, Speaker, Via};
use bgp_speaker::transport::{Handle, Limits, Setup, Transport};
use bgp_speaker::types::Family;
use ipnet::IpNet;
use net_linux::fib::{Fib, FibOptions, NextHopKey, Tracker};
use net_linux::link::{Link, LinkFilter};
use net_linux::monitor::{Event, Group, Monitor};
use net_linux::netlink::{self, Socket};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep_until;

/// Routes written before the speaker gets its turn again: a few tens of milliseconds.
const SLICE: usize = 4_096;
/// What failed is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// The kernel is read again at most so long after a change of ours by somebody else.
const LOOK: Duration = Duration::from_millis(20);
/// ... and takes at most one part in so many of the time.
const LOOK_SHARE: u32 = 10;

/// So long the session with a node stays that the configuration wants no more, as long as the node is there: meanwhile the
/// reflectors that take its place tell what it told.
const LINGER: Duration = Duration::from_secs(5);
/// So often the speaker is let choose at once, before others have their turn.
const MOST_ROUNDS: u32 = 10_000;

/// Runs until it is dropped, or the kernel can no longer be talked to.
pub(super) async fn run(table: &Table) {
    while !table.is_in_sync() || table.wanted().ground.is_none() {
        table.changed().await;
    }
    loop {
        match Control::begin(table).await {
            Ok(()) => return,
            Err(error) => tracing::error!(%error, "the BGP speaker starts again in a second"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Why the loop ended.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Kernel(#[from] netlink::Error),
    #[error("configuration: {0}")]
    Config(#[from] bgp_speaker::config::ConfigError),
    #[error("transport: {0}")]
    Transport(#[from] std::io::Error),
    #[error("the transport has ended")]
    Ended,
}

impl From<bgp_speaker::transport::Stopped> for Failed {
    fn from(_: bgp_speaker::transport::Stopped) -> Self {
        Self::Ended
    }
}

struct Control<'a> {
    table: &'a Table,
    wanted: Wanted,
    handle: Handle<Speaker>,
    mail: Mail,
    socket: Socket,
    fib: Fib,
    tracker: Tracker,
    links: HashMap<Arc<str>, u32>,
    /// All learned routes as the speaker has them.
    routes: HashMap<IpNet, Vec<Hop>>,
    in_sync: BTreeSet<Family>,
    /// Everything is there; what is left of a predecessor may go soon.
    settling: bool,
    /// Sessions that stay for a while, and until when.
    lingering: BTreeMap<PeerName, Instant>,
    /// What the speaker was told last.
    config: Config,
    announced: BTreeMap<IpNet, Origination>,
    /// When to try again what failed, and when to read the kernel again.
    retry_at: Option<Instant>,
    look_at: Option<Instant>,
    looked: Instant,
    look_took: Duration,
    /// The table has to be looked at again: a socket or password was not to be had.
    unfinished: bool,
    /// What was said last of peers and ranges that are not as they should be.
    problems: Vec<(String, LeftOut)>,
}

impl<'a> Control<'a> {
    async fn begin(table: &'a Table) -> Result<(), Failed> {
        let mut monitor = Monitor::open(&[Group::Links, Group::Addresses, Group::Routes, Group::NextHops])?;
        let mut socket = Socket::route()?;
        let mut fib = Fib::new(FibOptions::default());
        fib.observe(&mut socket)?;
        let kept: BTreeSet<Family> = [(false, Family::Ipv4), (true, Family::Ipv6)]
            .into_iter()
            .filter(|(v6, _)| fib.holds(*v6))
            .map(|(_, f)| f)
            .collect();
        let beginning = if kept.is_empty() { Beginning::Fresh } else { Beginning::Restarted(kept) };
        let wanted = table.wanted();
        let Some((config, problems)) = setup::config(&wanted) else { return Ok(()) };
        warn(&problems);
        let now = Instant::now();
        let mut speaker = Speaker::new(now, config.clone(), &beginning, seed())?;
        let announced = wanted.announced();
        for (prefix, what) in &announced {
            speaker.announce(now, *prefix, what);
        }
        let mail = Mail::default();
        let (transport, handle) = Transport::new(speaker, mail.clone(), Limits::default())?;
        let mut control = Self {
            table,
            wanted,
            handle,
            mail,
            socket,
            fib,
            tracker: Tracker::new(),
            links: HashMap::new(),
            routes: HashMap::new(),
            in_sync: BTreeSet::new(),
            settling: false,
            lingering: BTreeMap::new(),
            config,
            announced,
            retry_at: (!problems.is_empty()).then(|| now + RETRY),
            look_at: None,
            looked: now,
            look_took: Duration::ZERO,
            unfinished: !problems.is_empty(),
            problems,
        };
        control.read_links()?;
        table.set_speaker(Some(control.handle.clone()));
        let ended = tokio::select! {
            ended = transport.run() => {
                Err(ended.map_or_else(Failed::from, |_| Failed::Ended))
            }
            ended = control.serve(&mut monitor) => ended,
        };
        table.set_speaker(None);
        ended
    }

    async fn serve(&mut self, monitor: &mut Monitor) -> Result<(), Failed> {
        self.open_sockets().await;
        loop {
            let due = [self.tracker.deadline(), self.retry_at, self.look_at].into_iter().flatten().min();
            let sleep = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.table.changed() => self.take_table().await?,
                () = self.mail.arrived() => {}
                notice = monitor.next() => {
                    let mut notice = Some(notice?);
                    while let Some(heard) = notice {
                        self.hear(&heard);
                        notice = monitor.try_next()?;
                    }
                }
                () = sleep => {}
            }
            let letters = self.mail.take();
            self.take_mail(letters);
            self.tend().await?;
        }
    }

    fn hear(&mut self, notice: &net_linux::monitor::Notice) {
        let now = Instant::now();
        self.tracker.hear(now, notice);
        let own = notice.port != 0 && notice.port == self.socket.port();
        if !own && self.fib.concerns(&notice.event) {
            let rested = self.looked + self.look_took * LOOK_SHARE;
            self.look_at.get_or_insert((now + LOOK).max(rested));
        }
        if matches!(notice.event, Event::Link(..) | Event::Lost) {
            self.retry_at.get_or_insert(now + LOOK);
        }
    }

    /// Does what is due.
    async fn tend(&mut self) -> Result<(), Failed> {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.tracker.deadline()) {
            self.track()?;
        }
        if is_due(self.look_at) {
            self.look_at = None;
            self.fib.observe(&mut self.socket)?;
            (self.looked, self.look_took) = (Instant::now(), now.elapsed());
        }
        if is_due(self.retry_at) {
            self.retry_at = None;
            self.read_links()?;
            if self.unfinished || !self.lingering.is_empty() {
                self.take_table().await?;
            }
        }
        let settled = self.settling && self.settle().await?;
        if self.fib.pending() > 0 || settled {
            self.write()?;
        }
        Ok(())
    }

    /// Ends the time after a restart in which nothing of the predecessor's is removed, once the speaker has chosen with
    /// the ways to all next hops known: before, a route whose next hop is not known yet is missing among its words.
    async fn settle(&mut self) -> Result<bool, Failed> {
        if self.tracker.deadline().is_some() {
            return Ok(false);
        }
        let choose = |core: &mut Speaker, now: Instant, out: &mut Vec<_>| {
            core.handle(now, Input::Tick, out);
            let mut rounds = 0;
            while rounds < MOST_ROUNDS && core.deadline().is_some_and(|due| due <= now) {
                core.handle(now, Input::Tick, out);
                rounds += 1;
            }
        };
        self.handle.with(choose).await?;
        // What that said has been carried out when the next work is done.
        self.handle.with(|_, _, _| ()).await?;
        let letters = self.mail.take();
        self.take_mail(letters);
        if self.tracker.deadline().is_some() {
            return Ok(false);
        }
        self.settling = false;
        self.fib.in_sync();
        Ok(true)
    }

    fn is_complete(&self) -> bool {
        self.config
            .peers
            .values()
            .chain(self.config.ranges.values().map(|range| &range.template))
            .all(|peer| peer.families.iter().all(|family| self.in_sync.contains(family)))
    }

    /// Writes a slice of what differs; the rest when the speaker had its turn.
    fn write(&mut self) -> Result<(), Failed> {
        let report = self.fib.commit(&mut self.socket, SLICE)?;
        for failure in &report.failed {
            tracing::warn!(destination = %failure.destination, error = %failure.error, "a learned route is not in the kernel");
        }
        if report.left > 0 {
            let pause = if report.routes + report.objects > 0 { Duration::ZERO } else { RETRY };
            self.retry_at = Some(Instant::now() + pause);
        }
        Ok(())
    }

    fn take_mail(&mut self, letters: Letters) {
        let now = Instant::now();
        // Of each the last word counts: one that is wanted again stays known.
        let tracked: BTreeMap<IpAddr, bool> = letters.tracked.into_iter().collect();
        for (address, begins) in tracked {
            let key = NextHopKey::from(underlay_address(address));
            if begins {
                self.tracker.watch(now, key);
                self.tell(address);
            } else {
                self.tracker.forget(&key);
            }
        }
        let carrier = Carrier { wanted: &self.wanted, tracker: &self.tracker, links: &self.links };
        for (prefix, hops) in letters.routes {
            carrier.set(&mut self.fib, prefix, &hops);
            if hops.is_empty() {
                self.routes.remove(&prefix);
            } else {
                self.routes.insert(prefix, hops);
            }
        }
        if !letters.in_sync.is_empty() {
            self.in_sync.extend(letters.in_sync);
            self.settling = self.is_complete();
        }
    }

    /// Every route again: what decides about them has changed.
    fn carry_all(&mut self) {
        let carrier = Carrier { wanted: &self.wanted, tracker: &self.tracker, links: &self.links };
        for (prefix, hops) in &self.routes {
            carrier.set(&mut self.fib, *prefix, hops);
        }
    }

    /// Asks the kernel for the ways to all next hops and tells those that changed.
    fn track(&mut self) -> Result<(), Failed> {
        self.read_links()?;
        let changed = self.tracker.refresh(&mut self.socket)?;
        if changed.is_empty() {
            return Ok(());
        }
        for (key, _) in &changed {
            self.tell(key.address);
            if let IpAddr::V4(v4) = key.address {
                self.tell(v4.to_ipv6_mapped().into());
            }
        }
        let moved: BTreeSet<IpAddr> = changed.into_iter().map(|(key, _)| key.address).collect();
        let carrier = Carrier { wanted: &self.wanted, tracker: &self.tracker, links: &self.links };
        let touched = |hops: &[Hop]| hops.iter().any(|hop| moved.contains(&underlay_address(hop.address)));
        for (prefix, hops) in self.routes.iter().filter(|(_, hops)| touched(hops)) {
            carrier.set(&mut self.fib, *prefix, hops);
        }
        Ok(())
    }

    /// Tells the speaker of a next hop, as far as it is known.
    fn tell(&self, address: IpAddr) {
        let known = underlay_address(address);
        let Some(found) = self.tracker.resolution(&known.into()) else { return };
        let name = |index: u32| self.links.iter().find(|(_, known)| **known == index).map(|(name, _)| name.clone());
        let way = |(way, _): &(net_linux::route::Way, u8)| {
            let gateway = way.via.filter(|via| *via != known);
            Some(Resolution { metric: found.metric, via: Via { interface: name(way.index)?, gateway } })
        };
        let ways: Vec<Resolution> = found.ways.iter().filter_map(way).collect();
        let resolved = move |core: &mut Speaker, now: Instant, out: &mut Vec<_>| {
            core.handle(now, Input::Resolved { address, ways }, out);
        };
        // A transport that has ended ends this loop too.
        let _ = self.handle.post(resolved);
    }

    /// Names and indices of devices. When any changed, every route is looked at again.
    fn read_links(&mut self) -> Result<(), Failed> {
        let links = Link::dump(&mut self.socket, &LinkFilter::default())?;
        let links: HashMap<Arc<str>, u32> = links.into_iter().map(|link| (link.name.into(), link.index)).collect();
        if links != self.links {
            self.links = links;
            self.carry_all();
        }
        Ok(())
    }

    /// Takes in what the table says now. Sessions end only where BGP cannot do without.
    async fn take_table(&mut self) -> Result<(), Failed> {
        let wanted = self.table.wanted();
        let Some((mut config, problems)) = setup::config(&wanted) else { return Ok(()) };
        setup::keep(&problems, &self.config, &mut config);
        self.linger(&wanted, &mut config);
        if problems != self.problems {
            warn(&problems);
        }
        self.unfinished = !problems.is_empty();
        self.problems = problems;
        let carried_otherwise = |old: &Wanted| {
            let ground = |wanted: &Wanted| {
                wanted
                    .ground
                    .as_ref()
                    .map(|ground| (ground.tunnel.clone(), ground.segments.clone(), ground.encapsulation))
            };
            old.carriage != wanted.carriage || old.nodes != wanted.nodes || ground(old) != ground(&wanted)
        };
        let recarry = carried_otherwise(&self.wanted);
        let announced = wanted.announced();
        self.wanted = wanted;
        if recarry {
            self.read_links()?;
            self.carry_all();
        }
        if announced != self.announced {
            let gone: Vec<IpNet> =
                self.announced.keys().filter(|prefix| !announced.contains_key(*prefix)).copied().collect();
            let put: Vec<(IpNet, Origination)> = announced
                .iter()
                .filter(|(prefix, what)| self.announced.get(*prefix) != Some(*what))
                .map(|(prefix, what)| (*prefix, what.clone()))
                .collect();
            self.handle
                .with(move |core, now, _| {
                    put.iter().for_each(|(prefix, what)| core.announce(now, *prefix, what));
                    gone.iter().for_each(|prefix| core.withdraw(now, *prefix));
                })
                .await?;
            self.announced = announced;
        }
        if config != self.config {
            let new = config.clone();
            match self.handle.with(move |core, now, out| core.reconfigure(now, new, out)).await? {
                Ok(()) => {
                    self.config = config;
                    self.open_sockets().await;
                }
                Err(error) => tracing::error!(%error, "the BGP speaker stays as it was"),
            }
        } else if self.unfinished {
            self.open_sockets().await;
        }
        if self.unfinished {
            self.retry_at.get_or_insert(Instant::now() + RETRY);
        }
        Ok(())
    }

    /// Keeps sessions with nodes that are still there for a while.
    fn linger(&mut self, wanted: &Wanted, config: &mut Config) {
        let now = Instant::now();
        let mut lingering = BTreeMap::new();
        for (name, peer) in &self.config.peers {
            let is_node = matches!(&peer.address, PeerAddress::Ip(address) if wanted.nodes.contains_key(address));
            if config.peers.contains_key(name) || !is_node || !name.starts_with(SESSION_PREFIX) {
                continue;
            }
            let until = self.lingering.get(name).copied().unwrap_or(now + LINGER);
            // Another session with that node may have taken its place.
            let is_free = config.peers.values().all(|other| other.address != peer.address);
            if until > now && is_free {
                config.peers.insert(name.clone(), peer.clone());
                lingering.insert(name.clone(), until);
            }
        }
        if let Some(next) = lingering.values().min() {
            self.retry_at = Some(self.retry_at.map_or(*next, |at| at.min(*next)));
        }
        self.lingering = lingering;
    }

    async fn open_sockets(&mut self) {
        if let Err(error) = self.handle.set_up(Setup::of(&self.config)).await {
            tracing::warn!(%error, "the BGP speaker does not hear its peers yet");
            self.unfinished = true;
            self.retry_at.get_or_insert(Instant::now() + RETRY);
        }
    }
}

fn warn(problems: &[(String, LeftOut)]) {
    for (object, problem) in problems {
        tracing::warn!(%object, %problem, "the BGP speaker goes on without, or as it was");
    }
}

/// Spreads the timers of many nodes.
fn seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64 ^ u64::from(std::process::id())
}

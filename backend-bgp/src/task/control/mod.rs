//! The loop that keeps speaker, table and kernel together. Never waits for one while another wants something.

mod ways;
mod wishes;

use super::mail::Mail;
use super::protect::protected;
use super::setup::{self, Passwords, Problem};
use crate::table::{Table, Wanted};
use bgp_speaker::config::{Config, PeerName};
use bgp_speaker::rib::Protected;
use bgp_speaker::speaker::{Beginning, Hop, Input, Origination, Speaker};
use bgp_speaker::transport::{Handle, Limits, Transport};
use bgp_speaker::types::Family;
use ipnet::IpNet;
use net_linux::fib::{Fib, FibOptions, Tracker};
use net_linux::monitor::{Event, Group, Monitor};
use net_linux::netlink::{self, Socket};
use std::collections::{BTreeMap, BTreeSet, HashMap};
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
/// Files with passwords are read again after this; a changed one counts then.
const FILES: Duration = Duration::from_secs(5);

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
            Err(error) => {
                tracing::error!(%error, "the BGP speaker starts again in a second");
                table.complain(|complaints| complaints.failure = Some(error.to_string()));
            }
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

impl From<tokio::task::JoinError> for Failed {
    fn from(_: tokio::task::JoinError) -> Self {
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
    /// Nodes that are no clients any more, and how long they are still reflected to.
    reflecting: BTreeMap<PeerName, Instant>,
    /// What the speaker was told last.
    config: Config,
    announced: BTreeMap<IpNet, Origination>,
    protected: Protected,
    /// When to try again what failed, and when to read the kernel again.
    retry_at: Option<Instant>,
    look_at: Option<Instant>,
    looked: Instant,
    look_took: Duration,
    /// The table has to be looked at again: a socket or password was not to be had.
    unfinished: bool,
    /// What was said last of peers and ranges that are not as they should be.
    problems: Vec<Problem>,
    /// That no peer can connect to us.
    deaf: Option<Problem>,
    /// What was in the files, and when to read them again.
    passwords: Passwords,
    files_at: Option<Instant>,
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
        let passwords = Passwords::read(&wanted).await?;
        let Some((config, problems)) = setup::config(&wanted, &passwords, None) else { return Ok(()) };
        setup::warn(&problems);
        table.complain(|complaints| complaints.problems.clone_from(&problems));
        let now = Instant::now();
        let mut speaker = Speaker::new(now, config.clone(), &beginning, seed())?;
        let protected = protected(&wanted);
        speaker.protect(now, protected.clone());
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
            reflecting: BTreeMap::new(),
            config,
            announced,
            protected,
            retry_at: (!problems.is_empty()).then(|| now + RETRY),
            look_at: None,
            looked: now,
            look_took: Duration::ZERO,
            unfinished: !problems.is_empty(),
            problems,
            deaf: None,
            passwords,
            files_at: None,
        };
        control.look_again();
        control.read_links()?;
        table.set_speaker(Some(control.handle.clone()));
        table.complain(|complaints| complaints.failure = None);
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
            let due = [self.tracker.deadline(), self.retry_at, self.look_at, self.files_at].into_iter().flatten().min();
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
            self.take_mail(self.mail.take());
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
            if self.unfinished || !self.lingering.is_empty() || !self.reflecting.is_empty() {
                self.take_table().await?;
            }
        }
        if is_due(self.files_at) {
            self.look_at_files().await?;
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
        self.take_mail(self.mail.take());
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
}

/// Spreads the timers of many nodes.
fn seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64 ^ u64::from(std::process::id())
}

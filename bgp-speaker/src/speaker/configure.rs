//! A speaker's configuration, from the first to each later one. Never resets a session that need not be reset.

use super::core::Speaker;
use super::deferral::Deferral;
use super::peer::{Counters, Peer};
use super::peers::Peers;
use super::retention::Retention;
use super::{Output, link, plan};
use crate::config::{Config, ConfigError, PeerAddress, PeerConfig, PeerName};
use crate::export::Export;
use crate::rib::{Own, Rib};
use crate::session::{self, Session};
use crate::types::{CeaseSubcode, Family, PeerId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a speaker begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// Nothing is left of an earlier one.
    Fresh,
    /// An earlier one has ended a moment ago, and the kernel has kept its routes of these families.
    Restarted(BTreeSet<Family>),
}

impl Speaker {
    /// A speaker of a configuration. Sessions begin with the first [`super::Input::Tick`], which is due at once.
    ///
    /// `seed` gives timers their jitter: the same seed and the same inputs give the same outputs.
    ///
    /// # Errors
    ///
    /// The first thing that cannot be.
    pub fn new(now: Instant, config: Config, beginning: &Beginning, seed: u64) -> Result<Self, ConfigError> {
        config.check()?;
        let kept = match beginning {
            Beginning::Fresh => BTreeSet::new(),
            Beginning::Restarted(kept) => kept.clone(),
        };
        let rib = Rib::new(own(&config));
        let mut speaker = Self {
            peers: Peers::default(),
            export: Export::default(),
            rib,
            addresses: Default::default(),
            neighbours: Arc::new(link::neighbours(&config)),
            told: Default::default(),
            deferral: None,
            restarting: *beginning != Beginning::Fresh,
            forwarding_kept: kept,
            pending: Some(now),
            gathers_until: None,
            sessions: 0,
            seed,
            deliveries: Vec::new(),
            actions: Vec::new(),
            begun: false,
            in_sync: false,
            config: Config { peers: Default::default(), ranges: Default::default(), ..config.clone() },
        };
        speaker.rib.set_aggregates(config.aggregates.clone());
        for (name, peer) in &config.peers {
            speaker.add_peer(now, name.clone(), peer.clone(), None);
        }
        speaker.config = config;
        let limit = Duration::from_secs(speaker.config.restart.time_seconds.into());
        speaker.deferral = speaker.restarting.then(|| {
            let expected = speaker.peers.iter().filter(|peer| peer.config.shutdown.is_none()).map(|peer| peer.id);
            Deferral::new(now, expected.collect(), speaker.config.restart_patience, limit)
        });
        Ok(speaker)
    }

    /// Takes a new configuration. Sessions end only where [`Speaker::plan`] says so; everything else is applied to sessions
    /// that stand.
    ///
    /// # Errors
    ///
    /// The first thing that cannot be; nothing has changed then.
    pub fn reconfigure(&mut self, now: Instant, config: Config, out: &mut Vec<Output>) -> Result<(), ConfigError> {
        config.check()?;
        let changes = plan::compare(&self.config, &config);
        let old = std::mem::replace(&mut self.config, config.clone());
        for name in &changes.removed {
            if let Some(id) = self.peers.named(name) {
                self.dismiss(now, id, out);
            }
        }
        let gone: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|peer| peer.range.as_ref().is_some_and(|range| config.ranges.get(range) != old.ranges.get(range)))
            .map(|peer| peer.id)
            .collect();
        for id in gone {
            self.rearrange(now, id, out);
        }
        if own(&old) != own(&config) {
            self.rib.set_own(own(&config));
        }
        let neighbours = link::neighbours(&config);
        let others = *self.neighbours != neighbours;
        if others {
            self.neighbours = Arc::new(neighbours);
        }
        if others || (old.next_hop_v4, old.next_hop_v6) != (config.next_hop_v4, config.next_hop_v6) {
            self.tell_all_anew();
        }
        if old.aggregates != config.aggregates {
            self.rib.set_aggregates(config.aggregates.clone());
        }
        for name in changes.changed.keys() {
            if let (Some(id), Some(peer)) = (self.peers.named(name), config.peers.get(name)) {
                self.change_peer(now, id, peer.clone(), out);
            }
        }
        for name in &changes.added {
            if let Some(peer) = config.peers.get(name) {
                let id = self.add_peer(now, name.clone(), peer.clone(), None);
                self.start(now, id, out);
                self.peers.set_timer(id);
            }
        }
        self.pending = Some(now);
        Ok(())
    }

    /// A peer of a range whose template has changed, or is gone.
    fn rearrange(&mut self, now: Instant, id: PeerId, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get(id) else { return };
        let listen = peer.range.as_ref().and_then(|range| self.config.ranges.get(range));
        match listen.filter(|listen| peer.address.is_some_and(|address| listen.range.contains(&address))) {
            Some(listen) => {
                let address = peer.config.address.clone();
                let config = PeerConfig { address, passive: true, ..listen.template.clone() };
                self.change_peer(now, id, config, out);
            }
            None => self.dismiss(now, id, out),
        }
    }

    /// A peer is no longer one.
    fn dismiss(&mut self, now: Instant, id: PeerId, out: &mut Vec<Output>) {
        self.stop(now, id, CeaseSubcode::Deconfigured, None, out);
        if self.peers.get(id).is_some_and(|peer| peer.bfd.is_some()) {
            // It outlived its session.
            out.push(Output::StopBfd { peer: id });
        }
        self.forget(id);
    }

    pub(super) fn forget(&mut self, id: PeerId) {
        self.rib.forget(id);
        self.export.leave(id);
        if let Some(deferral) = &mut self.deferral {
            deferral.down(id, false);
        }
        self.peers.remove(id);
    }

    pub(super) fn add_peer(
        &mut self,
        now: Instant,
        name: PeerName,
        config: PeerConfig,
        range: Option<PeerName>,
    ) -> PeerId {
        let id = self.peers.next_id();
        self.sessions += 1;
        let session =
            Session::new(self.session_config(&config, false), self.sessions, self.seed ^ u64::from(self.sessions));
        let address = match &config.address {
            PeerAddress::Ip(address) => Some(*address),
            PeerAddress::Interface(_) => None,
        };
        self.peers.insert(Peer {
            id,
            name,
            config,
            session,
            agreed: None,
            address,
            range,
            ends: Vec::new(),
            retention: Retention::default(),
            held: false,
            resume: None,
            bfd: None,
            queued_bytes: 0,
            is_full: false,
            since: now,
            last: None,
            counters: Counters::default(),
            timer: None,
        });
        id
    }

    /// What a peer's next session is. The F bit of its OPEN (RFC 4724, section 3) is about what the peer has kept of the
    /// session before. That was ours where it `had_session`, and the kernel has had all routes since we were in sync. Else it
    /// was our predecessor's, and only what was kept of that counts.
    fn session_config(&self, peer: &PeerConfig, had_session: bool) -> session::Config {
        let is_kept = self.in_sync && had_session;
        session::Config {
            asn: self.config.asn,
            router_id: self.config.router_id,
            peer: peer.clone(),
            restart: self.config.restart.clone(),
            restarting: self.restarting,
            forwarding_kept: if is_kept { Family::ALL.into() } else { self.forwarding_kept.clone() },
        }
    }

    /// The kernel has what there is to have: sessions that begin from now on are told nothing of a restart.
    pub(super) fn settled(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.in_sync = true;
        self.restarting = false;
        for id in self.peers.ids() {
            self.renew(now, id, out);
        }
    }

    pub(super) fn tell_all_anew(&mut self) {
        for id in self.peers.ids() {
            let session = self.peers.get(id).and_then(|peer| peer.session.negotiated().cloned());
            if let Some(session) = session {
                self.tell_anew(id, &session);
            }
        }
    }

    /// Tells a session what the next one of its peer is.
    pub(super) fn renew(&mut self, now: Instant, id: PeerId, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get(id) else { return };
        let config = self.session_config(&peer.config, peer.counters.sessions > 0);
        let mut actions = std::mem::take(&mut self.actions);
        if let Some(peer) = self.peers.get_mut(id) {
            peer.session.reconfigure(now, config, &mut actions);
        }
        self.carry_out(now, id, &mut actions, out);
        self.actions = actions;
    }

    fn change_peer(&mut self, now: Instant, id: PeerId, config: PeerConfig, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let old = std::mem::replace(&mut peer.config, config.clone());
        if old.address != config.address {
            peer.address = match &config.address {
                PeerAddress::Ip(address) => Some(*address),
                PeerAddress::Interface(_) => None,
            };
        }
        self.peers.moved(id);
        if old.max_prefixes != config.max_prefixes
            && let Some(peer) = self.peers.get_mut(id)
        {
            (peer.held, peer.resume) = (false, None);
        }
        self.renew(now, id, out);
        match (&old.shutdown, &config.shutdown) {
            (before, Some(text)) if before.is_none() => {
                let text = Some(text.clone()).filter(|text| !text.is_empty());
                self.stop(now, id, CeaseSubcode::AdminShutdown, text, out);
            }
            _ => self.start(now, id, out),
        }
        self.told_anew(id);
        self.change_bfd(id, old.bfd.as_ref(), out);
    }

    /// What a standing session needs when its peer's configuration has changed.
    pub(super) fn told_anew(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(id) else { return };
        let Some(session) = peer.session.negotiated().cloned() else { return };
        let import = peer.config.import.clone();
        if let Some(facts) = self.facts(id, &session) {
            self.rib.peer_up(id, facts, import);
        }
        self.tell_anew(id, &session);
    }
}

/// What the tables know of ourselves.
fn own(config: &Config) -> Own {
    Own {
        asn: config.asn,
        router_id: config.router_id,
        cluster_id: config.cluster(),
        selection: config.selection.clone(),
    }
}

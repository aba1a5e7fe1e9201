//! What the table wants, on its way to the speaker. Never a reset that BGP could do without.

use super::super::protect::protected;
use super::super::setup::{self, LeftOut, Passwords, Problem};
use super::{Control, FILES, Failed, LINGER, RETRY};
use crate::compile::SESSION_PREFIX;
use crate::table::Wanted;
use bgp_speaker::config::{Config, PeerAddress};
use bgp_speaker::speaker::Origination;
use bgp_speaker::transport::{Setup, SetupError};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::time::Instant;

impl Control<'_> {
    /// Reads the files with passwords again; what is in them now counts.
    pub(super) async fn look_at_files(&mut self) -> Result<(), Failed> {
        self.files_at = None;
        if Passwords::read(&self.wanted).await? != self.passwords {
            return self.take_table().await;
        }
        self.look_again();
        Ok(())
    }

    /// When to look at the files next.
    pub(super) fn look_again(&mut self) {
        self.files_at = (!self.passwords.is_empty()).then(|| Instant::now() + FILES);
    }

    /// Takes in what the table says now. Sessions end only where BGP cannot do without.
    pub(super) async fn take_table(&mut self) -> Result<(), Failed> {
        let wanted = self.table.wanted();
        self.passwords = Passwords::read(&wanted).await?;
        self.look_again();
        let Some((mut config, mut problems)) = setup::config(&wanted, &self.passwords, Some(&self.config)) else {
            return Ok(());
        };
        setup::keep(&mut problems, &self.config, &mut config);
        self.linger(&wanted, &mut config);
        self.go_on_reflecting(&mut config);
        self.unfinished = !problems.is_empty() || self.deaf.is_some();
        problems.extend(setup::alone(&wanted));
        if problems != self.problems {
            setup::warn(&problems);
        }
        self.problems = problems;
        self.publish();
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
        let protected = protected(&wanted);
        self.wanted = wanted;
        if protected != self.protected {
            let new = protected.clone();
            self.handle.with(move |core, now, _| core.protect(now, new)).await?;
            self.protected = protected;
        }
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

    /// Reflects for a while to nodes that are no clients any more: the sessions that they have instead, with all others, come up
    /// meanwhile. Reflecting to too many is harmless (RFC 4456, section 8); to too few loses routes.
    fn go_on_reflecting(&mut self, config: &mut Config) {
        let now = Instant::now();
        let mut reflecting = BTreeMap::new();
        for (name, peer) in config.peers.iter_mut().filter(|(name, _)| name.starts_with(SESSION_PREFIX)) {
            let was_client = self.config.peers.get(name).is_some_and(|before| before.reflector_client);
            if !was_client || peer.reflector_client {
                continue;
            }
            let until = self.reflecting.get(name).copied().unwrap_or(now + LINGER);
            if until > now {
                peer.reflector_client = true;
                reflecting.insert(name.clone(), until);
            }
        }
        if let Some(next) = reflecting.values().min() {
            self.retry_at = Some(self.retry_at.map_or(*next, |at| at.min(*next)));
        }
        self.reflecting = reflecting;
    }

    pub(super) async fn open_sockets(&mut self) {
        let result = self.handle.set_up(Setup::of(&self.config)).await;
        let deaf = match &result {
            Err(SetupError::Listen { address, source, .. }) => {
                Some(Problem::of_speaker(LeftOut::Deaf { address: *address, why: source.kind() }))
            }
            _ => None,
        };
        if let Err(error) = result {
            if self.deaf.is_none() {
                tracing::warn!(%error, "the BGP speaker does not hear its peers yet");
            }
            self.unfinished = true;
            self.retry_at.get_or_insert(Instant::now() + RETRY);
        }
        if deaf != self.deaf {
            self.deaf = deaf;
            self.publish();
        }
    }

    /// Tells people what is not as it should be.
    fn publish(&self) {
        let problems: Vec<Problem> = self.problems.iter().chain(&self.deaf).cloned().collect();
        self.table.complain(|complaints| complaints.problems = problems);
    }
}

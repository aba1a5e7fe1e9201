//! What a new configuration would do. Never does it.

use super::core::Speaker;
use crate::config::{Config, ConfigError, PeerConfig, PeerName};
use crate::session;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What happens to the session of a peer whose configuration changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is applied to the session that stands.
    Live,
    /// The session ends and begins again.
    Reset {
        /// The field that BGP says only at the begin of a session.
        because: &'static str,
    },
    /// The session ends.
    Down,
    /// The session may begin.
    Start,
}

impl Effect {
    /// Of a change of one peer of a speaker that stays as it is otherwise.
    #[must_use]
    pub fn of(speaker: &Config, was: &PeerConfig, is: &PeerConfig) -> Self {
        effect(speaker, was, speaker, is)
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("applied live"),
            Self::Reset { because } => write!(f, "session resets: {because} is agreed on when a session begins"),
            Self::Down => f.write_str("session ends: shut down"),
            Self::Start => f.write_str("session begins"),
        }
    }
}

/// What a new configuration would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// New peers.
    pub added: BTreeSet<PeerName>,
    /// Peers that go, with their routes.
    pub removed: BTreeSet<PeerName>,
    /// Peers that change.
    pub changed: BTreeMap<PeerName, Effect>,
    /// Ranges whose peers change with them or go.
    pub ranges: BTreeSet<PeerName>,
    /// Something of the speaker itself that is applied live.
    pub speaker: bool,
}

impl Plan {
    /// Whether nothing would happen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Compares two configurations.
pub(super) fn compare(old: &Config, new: &Config) -> Plan {
    let names = |config: &Config| -> BTreeSet<PeerName> { config.peers.keys().cloned().collect() };
    let (was, is) = (names(old), names(new));
    let of_all = old.asn != new.asn || old.router_id != new.router_id || old.restart != new.restart;
    let differ = |name: &&PeerName| of_all || old.peers.get(*name) != new.peers.get(*name);
    let changed = was.intersection(&is).filter(differ);
    let effect = |name: &PeerName| Some((name.clone(), effect(old, old.peers.get(name)?, new, new.peers.get(name)?)));
    let ranges: BTreeSet<&PeerName> = old.ranges.keys().chain(new.ranges.keys()).collect();
    Plan {
        added: is.difference(&was).cloned().collect(),
        removed: was.difference(&is).cloned().collect(),
        changed: changed.filter_map(effect).collect(),
        ranges: ranges
            .into_iter()
            .filter(|name| of_all || old.ranges.get(*name) != new.ranges.get(*name))
            .cloned()
            .collect(),
        speaker: old.selection != new.selection || old.aggregates != new.aggregates || old.cluster() != new.cluster(),
    }
}

fn effect(old: &Config, was: &PeerConfig, new: &Config, is: &PeerConfig) -> Effect {
    let side = |config: &Config, peer: &PeerConfig| session::Config {
        asn: config.asn,
        router_id: config.router_id,
        peer: peer.clone(),
        restart: config.restart.clone(),
        restarting: false,
        forwarding_kept: BTreeSet::new(),
    };
    match (&was.shutdown, &is.shutdown) {
        (None, Some(_)) => Effect::Down,
        (Some(_), None) => Effect::Start,
        (Some(_), Some(_)) => Effect::Live,
        (None, None) => match session::needs_reset(&side(old, was), &side(new, is)) {
            Some(because) => Effect::Reset { because },
            None => Effect::Live,
        },
    }
}

impl Speaker {
    /// What [`Speaker::reconfigure`] would do.
    ///
    /// # Errors
    ///
    /// The first thing that cannot be.
    pub fn plan(&self, config: &Config) -> Result<Plan, ConfigError> {
        config.check()?;
        Ok(compare(&self.config, config))
    }
}

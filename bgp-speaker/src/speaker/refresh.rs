//! Asking peers for their routes once more. Never their answer, which comes as any other routes do.

use super::Output;
use super::core::Speaker;
use crate::config::PeerName;
use crate::session::Event;
use crate::types::{Family, Refresh, RefreshKind};
use crate::wire::Encoder;
use std::collections::BTreeSet;
use std::time::Instant;

/// Why a peer is not asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// Nobody is called so.
    #[error("no peer is called {0}")]
    UnknownPeer(PeerName),
    /// Its session is not established. It will tell everything when it is.
    #[error("peer {0} has no session")]
    NoSession(PeerName),
    /// It did not say in its OPEN that it can answer.
    #[error("peer {0} did not offer route refresh (RFC 2918)")]
    NotOffered(PeerName),
    /// The session does not carry one of the families.
    #[error("the session with peer {peer} carries no {family} routes")]
    Family {
        /// Whose session.
        peer: PeerName,
        /// Which family.
        family: Family,
    },
}

impl Speaker {
    /// Asks a peer for all its routes of some families once more. RFC 2918; where both ends offered RFC 7313, what it does not
    /// send again is gone when it says that this was all. Seldom needed: routes are kept as they came, so that other policies
    /// work without it.
    ///
    /// # Errors
    /// [`RefreshError`]: nothing was sent.
    pub fn request_refresh(
        &mut self,
        now: Instant,
        name: &str,
        families: &BTreeSet<Family>,
        out: &mut Vec<Output>,
    ) -> Result<(), RefreshError> {
        let named = self.peers.named(name).and_then(|id| self.peers.get_mut(id));
        let peer = named.ok_or_else(|| RefreshError::UnknownPeer(name.into()))?;
        let name = || peer.name.clone();
        let (Some(session), Some(conn)) = (peer.session.negotiated(), peer.session.connection()) else {
            return Err(RefreshError::NoSession(name()));
        };
        if !session.route_refresh {
            return Err(RefreshError::NotOffered(name()));
        }
        if let Some(family) = families.difference(&session.families).next() {
            return Err(RefreshError::Family { peer: name(), family: *family });
        }
        let id = peer.id;
        peer.counters.refreshes_out += families.len() as u64;
        for family in families {
            let bytes = Encoder::refresh(Refresh { family: *family, kind: RefreshKind::Request });
            let length = bytes.len();
            self.queued(id, conn, length);
            out.push(Output::Send { conn, bytes });
            self.ask(now, id, Event::Queued { bytes: length }, out);
        }
        Ok(())
    }
}

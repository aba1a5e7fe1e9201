//! What is said in the log, with peers called as they are configured. Never a decision.

use super::super::mail::Letters;
use super::super::setup::Problem;
use super::{Control, Failed};
use bgp_speaker::config::PeerName;
use bgp_speaker::speaker::{PeerEvent, Speaker};
use bgp_speaker::types::PeerId;
use std::collections::HashMap;

/// Names of peers, those of ranges included, also of such as have just gone.
pub(super) type Names = HashMap<PeerId, PeerName>;

impl Control<'_> {
    /// Says what happened to peers.
    pub(super) async fn say(&mut self, letters: &mut Letters) -> Result<(), Failed> {
        let events = std::mem::take(&mut letters.events);
        if events.iter().any(|(peer, _)| !self.names.contains_key(peer)) {
            let all = |core: &mut Speaker, _, _: &mut Vec<_>| -> Names {
                core.peers().into_iter().map(|peer| (peer.id, peer.name)).collect()
            };
            let known = self.handle.with(all).await?;
            self.names = renewed(&self.names, known, events.iter().map(|(peer, _)| *peer));
        }
        if letters.forgotten > 0 {
            tracing::warn!(events = letters.forgotten, "more happened to BGP peers than is said here");
        }
        for (id, event) in events {
            let peer = self.names.get(&id).map_or("one of a range that has gone", |name| &**name);
            match event {
                PeerEvent::Up => tracing::info!(peer, "BGP session established"),
                PeerEvent::Down(reason) => tracing::info!(peer, %reason, "BGP session down"),
                other => tracing::warn!(peer, event = ?other, "BGP"),
            }
        }
        Ok(())
    }
}

/// The names that the speaker knows now, and those of peers that have just gone.
fn renewed(before: &Names, mut known: Names, spoken_of: impl Iterator<Item = PeerId>) -> Names {
    for peer in spoken_of {
        if let Some(name) = before.get(&peer) {
            known.entry(peer).or_insert_with(|| name.clone());
        }
    }
    known
}

pub(super) fn warn(problems: &[Problem]) {
    for Problem { of, why, .. } in problems {
        tracing::warn!(object = %of, problem = %why, "the BGP speaker goes on without, or as it was");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_has_just_gone_is_called_by_its_name_and_then_forgotten() {
        let names =
            |all: &[(u32, &str)]| -> Names { all.iter().map(|(id, name)| (PeerId(*id), (*name).into())).collect() };
        let before = names(&[(1, "tor"), (2, "vms/192.0.2.9")]);
        let after = renewed(&before, names(&[(1, "tor"), (3, "edge")]), [PeerId(2), PeerId(3)].into_iter());
        assert_eq!(after, names(&[(1, "tor"), (2, "vms/192.0.2.9"), (3, "edge")]));
        assert_eq!(renewed(&after, names(&[(1, "tor")]), [PeerId(4)].into_iter()), names(&[(1, "tor")]));
    }
}

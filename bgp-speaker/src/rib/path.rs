//! One path of a prefix in 20 bytes, and the paths of a prefix in 24. Never attributes: those are shared, and called by number.

use super::intern::Id;
use crate::types::{PathId, PeerId};

/// Where a path comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A peer.
    Peer(PeerId),
    /// Ourselves.
    Local,
    /// Ourselves, for what is inside the prefix.
    Aggregate,
}

impl Source {
    /// The peer, if it is one.
    #[must_use]
    pub const fn peer(self) -> Option<PeerId> {
        match self {
            Self::Peer(peer) => Some(peer),
            Self::Local | Self::Aggregate => None,
        }
    }

    /// Peers are small numbers, so that the greatest are free for ourselves.
    pub(super) const fn pack(self) -> u32 {
        match self {
            Self::Peer(peer) => peer.0,
            Self::Local => u32::MAX,
            Self::Aggregate => u32::MAX - 1,
        }
    }

    const fn unpack(packed: u32) -> Self {
        match packed {
            u32::MAX => Self::Local,
            packed if packed == u32::MAX - 1 => Self::Aggregate,
            peer => Self::Peer(PeerId(peer)),
        }
    }
}

/// Why a path is not even looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// Our own system is on its AS_PATH more often than allowed. RFC 4271, section 9.
    OwnAsn,
    /// Its ORIGINATOR_ID is ours. RFC 4456, section 8.
    Originator,
    /// Our cluster is on its CLUSTER_LIST. RFC 4456, section 8.
    Cluster,
    /// The first system on its AS_PATH is not the peer's. RFC 4271, section 6.3.
    FirstAsn,
    /// Its only-to-customer attribute says that it leaked. RFC 9234, section 5.
    Leak,
    /// Its next hop is our own address. RFC 4271, section 5.1.3.
    OwnNextHop,
    /// It is from an external peer one hop away, and its next hop is neither the peer nor on a network of ours. RFC 4271, section
    /// 6.3.
    OffLink,
    /// The import policy says no.
    Policy,
    /// It is inside of the network that nodes reach each other by. See [`super::Protected`].
    Underlay,
    /// It is the address of a node.
    NodeAddress,
    /// No host elsewhere has such addresses.
    SpecialAddresses,
}

impl Refused {
    const ALL: [Self; 11] = [
        Self::OwnAsn,
        Self::Originator,
        Self::Cluster,
        Self::FirstAsn,
        Self::Leak,
        Self::OwnNextHop,
        Self::OffLink,
        Self::Policy,
        Self::Underlay,
        Self::NodeAddress,
        Self::SpecialAddresses,
    ];
}

/// What is true of a path, in a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    const REASON: u8 = 0b1111;
    const STALE: u8 = 1 << 4;
    const LONG_LIVED: u8 = 1 << 5;
    const RESOLVED: u8 = 1 << 6;

    pub(super) fn new(refused: Option<Refused>, is_resolved: bool) -> Self {
        let reason = refused.map_or(0, |refused| refused as u8 + 1);
        Self(reason | if is_resolved { Self::RESOLVED } else { 0 })
    }

    pub(super) fn refused(self) -> Option<Refused> {
        let reason = self.0 & Self::REASON;
        Refused::ALL.get(usize::from(reason.checked_sub(1)?)).copied()
    }

    pub(super) const fn is_stale(self) -> bool {
        self.0 & Self::STALE != 0
    }

    pub(super) const fn is_long_lived(self) -> bool {
        self.0 & Self::LONG_LIVED != 0
    }

    /// The choice may fall on it.
    pub(super) const fn is_eligible(self) -> bool {
        self.0 & (Self::REASON | Self::RESOLVED) == Self::RESOLVED
    }

    pub(super) const fn with_stale(self) -> Self {
        Self(self.0 | Self::STALE)
    }

    pub(super) const fn with_long_lived(self) -> Self {
        Self(self.0 | Self::LONG_LIVED)
    }

    /// What a new look at the path does not change is kept.
    pub(super) const fn with_age_of(self, other: Self) -> Self {
        Self(self.0 | other.0 & (Self::STALE | Self::LONG_LIVED))
    }

    pub(super) const fn with_resolved(self, is_resolved: bool) -> Self {
        Self(if is_resolved { self.0 | Self::RESOLVED } else { self.0 & !Self::RESOLVED })
    }
}

/// One path: as it came, and as the import policy made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    source: u32,
    /// Which path of its source.
    pub(super) id: PathId,
    /// Attributes as they came.
    pub(super) received: Id,
    /// Attributes as they count; none for a refused path.
    pub(super) attributes: Id,
    pub(super) flags: Flags,
}

impl Path {
    pub(super) fn new(source: Source, id: PathId, received: Id, attributes: Id, flags: Flags) -> Self {
        Self { source: source.pack(), id, received, attributes, flags }
    }

    pub(crate) const fn source(&self) -> Source {
        Source::unpack(self.source)
    }

    pub(super) const fn is(&self, source: Source, id: PathId) -> bool {
        self.source == source.pack() && self.id.0 == id.0
    }

    pub(super) const fn is_of(&self, source: Source) -> bool {
        self.source == source.pack()
    }
}

/// The paths of one prefix, the best first when one can be chosen at all. Nearly always there is one, which needs no memory of
/// its own.
#[derive(Debug, Default)]
pub(crate) enum Paths {
    #[default]
    None,
    One(Path),
    #[allow(clippy::box_collection, reason = "a vector in place makes each of a million slots 32 bytes")]
    Many(Box<Vec<Path>>),
}

impl Paths {
    pub(super) fn as_slice(&self) -> &[Path] {
        match self {
            Self::None => &[],
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Path] {
        match self {
            Self::None => &mut [],
            Self::One(path) => std::slice::from_mut(path),
            Self::Many(paths) => paths,
        }
    }

    pub(super) fn push(&mut self, path: Path) {
        match self {
            Self::None => *self = Self::One(path),
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, path])),
            Self::Many(paths) => paths.push(path),
        }
    }

    /// The order of the others is kept.
    pub(super) fn remove(&mut self, at: usize) -> Option<Path> {
        match self {
            Self::One(path) if at == 0 => {
                let path = *path;
                *self = Self::None;
                Some(path)
            }
            Self::Many(paths) if at < paths.len() => {
                let path = paths.remove(at);
                if let [last] = paths[..] {
                    *self = Self::One(last);
                }
                Some(path)
            }
            _ => None,
        }
    }

    /// The chosen path.
    pub(crate) fn best(&self) -> Option<&Path> {
        self.as_slice().first().filter(|path| path.flags.is_eligible())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A million prefixes have a budget: see the crate's front page.
    #[test]
    fn the_paths_of_a_prefix_take_24_bytes() {
        assert_eq!(size_of::<Path>(), 20);
        assert_eq!(size_of::<Paths>(), 24);
    }

    #[test]
    fn flags_say_what_they_were_told() {
        for refused in Refused::ALL.map(Some).into_iter().chain([None]) {
            let flags = Flags::new(refused, true).with_stale();
            assert_eq!(flags.refused(), refused);
            assert_eq!(flags.is_eligible(), refused.is_none());
            assert!(flags.is_stale() && !flags.is_long_lived());
            assert!(!flags.with_resolved(false).is_eligible());
        }
    }
}

//! What backends want of a host, as its objects. Pure; never reads what there is.

use super::{Key, Object};
use crate::{masquerade, tunnel_ends, untracked};
use cni_core::backend::Rank;
use cni_core::model::NodeContext;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

impl Key {
    /// The order of writes: whom tunnels hear comes before there is a tunnel to hear.
    #[must_use]
    pub fn rank(&self) -> Rank {
        match self {
            Self::Ends(tunnel_ends::Key::Guard) => Rank::level(0),
            Self::Ends(tunnel_ends::Key::End(_)) | Self::Sysctl(_) | Self::Masquerade(_) | Self::Untracked(_) => {
                Rank::level(1)
            }
        }
    }
}

/// A kernel setting by its path below `/proc/sys`.
#[must_use]
pub fn setting(path: impl Into<Arc<str>>, value: &str) -> (Key, Object) {
    (Key::Sysctl(path.into()), Object::Sysctl(value.into()))
}

/// A node that passes packets on.
pub fn forwarding(v4: bool, v6: bool) -> impl Iterator<Item = (Key, Object)> {
    let paths = [(v4, "net/ipv4/ip_forward"), (v6, "net/ipv6/conf/all/forwarding")];
    paths.into_iter().filter(|(wanted, _)| *wanted).map(|(_, path)| setting(path, "1"))
}

/// See [`masquerade::objects`].
pub fn masquerading(node: &NodeContext) -> impl Iterator<Item = (Key, Object)> + use<> {
    let objects = masquerade::objects(node).into_iter();
    objects.map(|(key, object)| (Key::Masquerade(key), Object::Masquerade(object.into())))
}

/// See [`untracked::objects`].
pub fn not_tracked(tunnels: impl IntoIterator<Item = SocketAddr>) -> impl Iterator<Item = (Key, Object)> {
    untracked::objects(tunnels).into_iter().map(|(key, object)| (Key::Untracked(key), Object::Untracked(object)))
}

/// See [`tunnel_ends::objects`].
pub fn guarded(
    tunnels: impl IntoIterator<Item = impl Into<tunnel_ends::Tunnel>>,
) -> impl Iterator<Item = (Key, Object)> {
    tunnel_ends::objects(tunnels).into_iter().map(of_end)
}

/// A node that tunnels hear.
#[must_use]
pub fn heard(outer: IpAddr) -> (Key, Object) {
    of_end(tunnel_ends::end(outer))
}

fn of_end((key, object): (tunnel_ends::Key, tunnel_ends::Object)) -> (Key, Object) {
    (Key::Ends(key), Object::Ends(object))
}

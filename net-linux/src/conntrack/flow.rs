//! Connections and filters over them. Pure.

use std::net::IpAddr;

/// One direction of a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    /// Who sends in this direction.
    pub source: IpAddr,
    /// Who receives in this direction.
    pub destination: IpAddr,
    /// `IPPROTO_*`.
    pub protocol: u8,
    /// Source and destination port, for protocols that have ports.
    pub ports: Option<(u16, u16)>,
}

/// A tracked connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// As who opened it sees it.
    pub original: Tuple,
    /// As the answers are: after translation, so its source is who really answers.
    pub reply: Tuple,
    /// Its mark.
    pub mark: u32,
    /// `IPS_*` bits of `include/uapi/linux/netfilter/nf_conntrack_common.h`.
    pub status: u32,
    /// The kernel's number, so that a later connection of the same addresses is not taken for it.
    pub id: u32,
    /// The original direction as the kernel wrote it: what it is deleted by.
    pub(super) key: Vec<u8>,
}

/// What one direction must be. `None` is anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TupleFilter {
    /// Who sends.
    pub source: Option<IpAddr>,
    /// Who receives.
    pub destination: Option<IpAddr>,
    /// `IPPROTO_*`.
    pub protocol: Option<u8>,
    /// Port of who sends; needs a protocol.
    pub source_port: Option<u16>,
    /// Port of who receives; needs a protocol.
    pub destination_port: Option<u16>,
}

impl TupleFilter {
    fn matches(&self, tuple: &Tuple) -> bool {
        fn is<T: PartialEq>(wanted: Option<T>, present: T) -> bool {
            wanted.is_none_or(|wanted| wanted == present)
        }
        let port = |wanted: Option<u16>, present: Option<u16>| wanted.is_none() || wanted == present;
        is(self.source, tuple.source)
            && is(self.destination, tuple.destination)
            && is(self.protocol, tuple.protocol)
            && port(self.source_port, tuple.ports.map(|(source, _)| source))
            && port(self.destination_port, tuple.ports.map(|(_, destination)| destination))
    }
}

/// Which connections. All that is given must hold.
///
/// The connections that a pod opened have its address as `original.source`; those to it, also through a service, have it as
/// `reply.source`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// As who opened the connection sees it.
    pub original: TupleFilter,
    /// As the answers are.
    pub reply: TupleFilter,
    /// The mark's bits under a mask: value, mask.
    pub mark: Option<(u32, u32)>,
}

impl FlowFilter {
    /// Connections that this address opened.
    #[must_use]
    pub fn opened_by(address: IpAddr) -> Self {
        Self { original: TupleFilter { source: Some(address), ..TupleFilter::default() }, ..Self::default() }
    }

    /// Connections that this address answers, whatever address they were opened to.
    #[must_use]
    pub fn answered_by(address: IpAddr) -> Self {
        Self { reply: TupleFilter { source: Some(address), ..TupleFilter::default() }, ..Self::default() }
    }

    /// Whether a connection is meant.
    #[must_use]
    pub fn matches(&self, flow: &Flow) -> bool {
        self.original.matches(&flow.original)
            && self.reply.matches(&flow.reply)
            && self.mark.is_none_or(|(value, mask)| flow.mark & mask == value)
    }

    /// What is wrong with it: field and detail.
    pub(super) fn fault(&self) -> Option<(&'static str, &'static str)> {
        if *self == Self::default() {
            return Some(("filter", "is empty; name an address, a protocol or a mark (nothing is never everything)"));
        }
        for tuple in [&self.original, &self.reply] {
            if tuple.protocol.is_none() && (tuple.source_port.is_some() || tuple.destination_port.is_some()) {
                return Some(("port", "needs a protocol beside it"));
            }
        }
        if self.mark.is_some_and(|(value, mask)| value & !mask != 0) {
            return Some(("mark", "has bits outside its mask"));
        }
        let mut families = self.addresses().map(|address| address.is_ipv4());
        let first = families.next();
        families.any(|family| Some(family) != first).then_some(("address", "IPv4 and IPv6 are mixed"))
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        [self.original.source, self.original.destination, self.reply.source, self.reply.destination]
            .into_iter()
            .flatten()
    }
}

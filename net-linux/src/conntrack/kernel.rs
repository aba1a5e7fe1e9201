//! Connections in the kernel, through ctnetlink: `include/uapi/linux/netfilter/nfnetlink_conntrack.h`.

use super::{Flow, FlowFilter, Tuple, TupleFilter};
use crate::netlink::{Attr, Attrs, Batch, Error, Message, Protocol, Result, Socket};
use nix::errno::Errno;

/// `NFNL_SUBSYS_CTNETLINK` and the operations below it.
const CT_NEW: u16 = 0x0100;
const CT_GET: u16 = 0x0101;
const CT_DELETE: u16 = 0x0102;
const CT_GET_STATS: u16 = 0x0105;
/// `struct nfgenmsg`.
const NFGENMSG_BYTES: usize = 4;
const STATS_ENTRIES: u16 = 1;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const MARK: u16 = 8;
const ID: u16 = 12;
const ZONE: u16 = 18;
const MARK_MASK: u16 = 21;
const FILTER: u16 = 25;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_V4_SRC: u16 = 1;
const IP_V4_DST: u16 = 2;
const IP_V6_SRC: u16 = 3;
const IP_V6_DST: u16 = 4;
const PROTO_NUM: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
const PROTO_DST_PORT: u16 = 3;
const FILTER_ORIG_FLAGS: u16 = 1;
const FILTER_REPLY_FLAGS: u16 = 2;
/// Which parts of a tuple the kernel compares: `CTA_FILTER_F_*` of `net/netfilter/nf_internals.h`.
const COMPARE_SOURCE: u32 = 1;
const COMPARE_DESTINATION: u32 = 1 << 1;
const COMPARE_PROTOCOL: u32 = 1 << 3;
const COMPARE_SOURCE_PORT: u32 = 1 << 4;
const COMPARE_DESTINATION_PORT: u32 = 1 << 5;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// How connections were forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// By the kernel, in one request; it does not say how many.
    ByKernel,
    /// One by one: so many.
    OneByOne(usize),
}

/// A connection to the kernel's conntrack, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Opens a connection.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(Protocol::Netfilter)? })
    }

    /// All connections, also those of other zones.
    ///
    /// # Errors
    /// [`Error::Kernel`], [`Error::Interrupted`].
    pub fn list(&mut self) -> Result<Vec<Flow>> {
        self.socket.dump(
            "connections",
            CT_GET,
            |message| {
                message.raw(&[0; NFGENMSG_BYTES]);
            },
            |header, payload| if header.kind == CT_NEW { read(payload) } else { None },
        )
    }

    /// How many connections there are: costs far less than to list none.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn count(&mut self) -> Result<u32> {
        let body = |message: &mut Message<'_>| {
            message.raw(&[0; NFGENMSG_BYTES]);
        };
        let read = |_, payload: &[u8]| Attrs::after(payload, NFGENMSG_BYTES).get(STATS_ENTRIES)?.be32();
        let found = self.socket.query("count", "connections", CT_GET_STATS, 0, body, read)?;
        Ok(found.into_iter().next().unwrap_or(u32::MAX))
    }

    /// Forgets the connections that match. That there are none is a success.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the filter is empty or contradicts itself. [`Error::Kernel`], [`Error::Interrupted`].
    pub fn flush(&mut self, filter: &FlowFilter) -> Result<Flushed> {
        // The kernel's filter takes IPv6 addresses for their opposite: it forgets what does not match and keeps what does
        // (`ctnetlink_filter_match_tuple` in `net/netfilter/nf_conntrack_netlink.c`; seen with 6.18).
        if filter.addresses().any(|address| address.is_ipv6()) {
            return self.flush_one_by_one(filter).map(Flushed::OneByOne);
        }
        match self.flush_by_kernel(filter) {
            Ok(()) => Ok(Flushed::ByKernel),
            // Before 6.12 the kernel takes the tuples for one connection's, which they are not (or which there is not).
            Err(error) if matches!(error.errno(), Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOENT)) => {
                self.flush_one_by_one(filter).map(Flushed::OneByOne)
            }
            Err(error) => Err(error),
        }
    }

    fn flush_by_kernel(&mut self, filter: &FlowFilter) -> Result<()> {
        check(filter)?;
        let body = |message: &mut Message<'_>| {
            // Version 1 makes the kernel look at the family: it deletes of both with version 0.
            let [family, version] = if filter.addresses().next().is_some() { [AF_INET, 1] } else { [0, 0] };
            message.raw(&[family, version, 0, 0]);
            write_filter(message, filter);
        };
        self.socket.query("flush", "connections", CT_DELETE, 0, body, |_, _| None::<()>).map(drop)
    }

    pub(super) fn flush_one_by_one(&mut self, filter: &FlowFilter) -> Result<usize> {
        check(filter)?;
        let doomed: Vec<Flow> = self.list()?.into_iter().filter(|flow| filter.matches(flow)).collect();
        self.forget(&doomed)
    }

    /// Forgets these connections. Answers with how many were still there.
    ///
    /// # Errors
    /// [`Error::Kernel`], [`Error::Socket`].
    pub fn forget(&mut self, flows: &[Flow]) -> Result<usize> {
        self.each("delete", CT_DELETE, flows, |message, flow| {
            message.be32(ID, flow.id);
        })
    }

    /// Sets the bits of these connections' marks that are in `mask`. Answers with how many were still there.
    ///
    /// # Errors
    /// [`Error::Kernel`], [`Error::Socket`].
    pub fn set_mark(&mut self, flows: &[Flow], value: u32, mask: u32) -> Result<usize> {
        self.each("change", CT_NEW, flows, |message, _| {
            message.be32(MARK, value & mask).be32(MARK_MASK, mask);
        })
    }

    /// One request for each; that some ended by themselves meanwhile is no failure.
    fn each(
        &mut self,
        operation: &'static str,
        kind: u16,
        flows: &[Flow],
        write: impl Fn(&mut Message<'_>, &Flow),
    ) -> Result<usize> {
        let mut batch = Batch::new();
        for flow in flows {
            let object = format!("connection of {} to {}", flow.original.source, flow.original.destination);
            batch.add(operation, object, kind, 0, |message| {
                let family = if flow.original.source.is_ipv4() { AF_INET } else { AF_INET6 };
                message.raw(&[family, 0, 0, 0]);
                message.attr(TUPLE_ORIG | crate::netlink::wire::NLA_F_NESTED, &flow.key);
                write(message, flow);
            });
        }
        let mut done = 0;
        for result in self.socket.run(&mut batch) {
            match result {
                Ok(()) => done += 1,
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

fn check(filter: &FlowFilter) -> Result<()> {
    match filter.fault() {
        None => Ok(()),
        Some((field, detail)) => Err(Error::Invalid {
            operation: "flush",
            object: "connections".to_owned(),
            field,
            detail: detail.to_owned(),
        }),
    }
}

fn write_filter(message: &mut Message<'_>, filter: &FlowFilter) {
    let (original, reply) = (compared(&filter.original), compared(&filter.reply));
    for (kind, tuple, flags) in [(TUPLE_ORIG, &filter.original, original), (TUPLE_REPLY, &filter.reply, reply)] {
        if flags != 0 {
            message.nest(kind, |message| write_tuple(message, tuple));
        }
    }
    if original | reply != 0 {
        message.nest(FILTER, |message| {
            // These two are in the machine's order.
            message.u32(FILTER_ORIG_FLAGS, original).u32(FILTER_REPLY_FLAGS, reply);
        });
    }
    if let Some((value, mask)) = filter.mark {
        message.be32(MARK, value).be32(MARK_MASK, mask);
    }
}

fn compared(tuple: &TupleFilter) -> u32 {
    [
        (tuple.source.is_some(), COMPARE_SOURCE),
        (tuple.destination.is_some(), COMPARE_DESTINATION),
        (tuple.protocol.is_some(), COMPARE_PROTOCOL),
        (tuple.source_port.is_some(), COMPARE_SOURCE_PORT),
        (tuple.destination_port.is_some(), COMPARE_DESTINATION_PORT),
    ]
    .into_iter()
    .filter_map(|(on, flag)| on.then_some(flag))
    .sum()
}

fn write_tuple(message: &mut Message<'_>, tuple: &TupleFilter) {
    if tuple.source.is_some() || tuple.destination.is_some() {
        message.nest(TUPLE_IP, |message| {
            for (address, v4, v6) in [(tuple.source, IP_V4_SRC, IP_V6_SRC), (tuple.destination, IP_V4_DST, IP_V6_DST)] {
                if let Some(address) = address {
                    message.ip(if address.is_ipv4() { v4 } else { v6 }, address);
                }
            }
        });
    }
    if let Some(protocol) = tuple.protocol {
        message.nest(TUPLE_PROTO, |message| {
            message.u8(PROTO_NUM, protocol);
            for (kind, port) in [(PROTO_SRC_PORT, tuple.source_port), (PROTO_DST_PORT, tuple.destination_port)] {
                if let Some(port) = port {
                    message.be16(kind, port);
                }
            }
        });
    }
}

/// Reads a connection; `None` for one of a family other than IP.
pub(super) fn read(payload: &[u8]) -> Option<Flow> {
    let attributes = Attrs::after(payload, NFGENMSG_BYTES);
    let original = attributes.get(TUPLE_ORIG)?;
    let number = |kind| attributes.get(kind).and_then(|attribute| attribute.be32()).unwrap_or(0);
    let mut key = original.value.to_vec();
    // A connection of another zone is found again by the zone only.
    if let Some(zone) = attributes.get(ZONE) {
        const TUPLE_ZONE: u16 = 3;
        Message::new(&mut key).attr(TUPLE_ZONE, zone.value);
    }
    Some(Flow {
        original: read_tuple(&original)?,
        reply: read_tuple(&attributes.get(TUPLE_REPLY)?)?,
        mark: number(MARK),
        status: number(STATUS),
        id: number(ID),
        key,
    })
}

fn read_tuple(tuple: &Attr<'_>) -> Option<Tuple> {
    let addresses = tuple.nested().get(TUPLE_IP)?.nested();
    let address = |v4, v6| addresses.get(v4).or_else(|| addresses.get(v6))?.ip();
    let protocol = tuple.nested().get(TUPLE_PROTO)?.nested();
    let port = |kind| protocol.get(kind)?.be16();
    Some(Tuple {
        source: address(IP_V4_SRC, IP_V6_SRC)?,
        destination: address(IP_V4_DST, IP_V6_DST)?,
        protocol: protocol.get(PROTO_NUM)?.u8()?,
        ports: port(PROTO_SRC_PORT).zip(port(PROTO_DST_PORT)),
    })
}

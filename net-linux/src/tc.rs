//! eBPF programs at an interface by clsact: the queueing discipline that only holds filters, and its filters that are programs.
//! Never another classifier or discipline: those are seen and left alone.
//!
//! Layout: `include/uapi/linux/rtnetlink.h` (`struct tcmsg`) and `include/uapi/linux/pkt_cls.h` (`TCA_BPF_*`).

use crate::netlink::{Attr, Attrs, Batch, Error, Header, Message, Result, Socket, wire};
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsRawFd as _, BorrowedFd};

const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;

const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
/// The program's result is the verdict.
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;

/// `TC_H_CLSACT`, the parent of the discipline itself, and its handle.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// `ETH_P_ALL`.
const EVERY_PROTOCOL: u16 = 3;

/// Bytes of `struct tcmsg`.
const TCMSG_BYTES: usize = 20;

/// A side of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// What comes in.
    Ingress,
    /// What goes out.
    Egress,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    /// `TC_H_CLSACT` with `TC_H_MIN_INGRESS` or `TC_H_MIN_EGRESS`.
    const fn parent(self) -> u32 {
        match self {
            Self::Ingress => 0xffff_fff2,
            Self::Egress => 0xffff_fff3,
        }
    }
}

/// Where a filter is. There is one filter at most in each place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The interface's index.
    pub interface: u32,
    /// Its side.
    pub side: Side,
    /// Lower ones are asked first. Not 0, with which the kernel would choose.
    pub priority: u16,
    /// Among those of one priority. Not 0, with which the kernel would choose.
    pub handle: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Ingress => "ingress",
            Side::Egress => "egress",
        };
        write!(f, "filter {:#x}:{:#x} at {side} of link {}", self.priority, self.handle, self.interface)
    }
}

impl Place {
    fn write(&self, message: &mut Message<'_>) {
        let info = u32::from(self.priority) << 16 | u32::from(EVERY_PROTOCOL.to_be());
        tcmsg(message, self.interface, self.handle, self.side.parent(), info);
        message.text(TCA_KIND, "bpf");
    }

    /// Adds a request that puts a program here, whose result is the verdict; `EEXIST` when there is one.
    pub fn create(&self, batch: &mut Batch, program: BorrowedFd<'_>, name: &str) {
        self.put(batch, "create", wire::NLM_F_CREATE | wire::NLM_F_EXCL, program, name);
    }

    /// Adds a request that puts a program in the place of the one that is here: each packet meets one of the two. `ENOENT` when
    /// there is none.
    pub fn replace(&self, batch: &mut Batch, program: BorrowedFd<'_>, name: &str) {
        self.put(batch, "replace", wire::NLM_F_REPLACE, program, name);
    }

    fn put(&self, batch: &mut Batch, operation: &'static str, flags: u16, program: BorrowedFd<'_>, name: &str) {
        batch.add(operation, self, RTM_NEWTFILTER, flags, |message| {
            self.write(message);
            message.nest(TCA_OPTIONS, |options| {
                // The kernel takes the number as it is, and a descriptor is not negative.
                options.u32(TCA_BPF_FD, program.as_raw_fd().cast_unsigned());
                options.text(TCA_BPF_NAME, name).u32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
            });
        });
    }

    /// Adds a request that takes away what is here; `ENOENT` when there is nothing, `EINVAL` when there is no clsact.
    pub fn delete(&self, batch: &mut Batch) {
        batch.add("delete", self, RTM_DELTFILTER, 0, |message| self.write(message));
    }
}

/// A program that decides about packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Where it is.
    pub place: Place,
    /// The program's number.
    pub program: u32,
}

impl Filter {
    /// All at one side of an interface, in their order. None of an interface that is not there, or has no clsact.
    ///
    /// # Errors
    /// The kernel refused, or the socket failed.
    pub fn dump(socket: &mut Socket, interface: u32, side: Side) -> Result<Vec<Self>> {
        let dumped = socket.dump(
            format_args!("filters of link {interface}"),
            RTM_GETTFILTER,
            |message| tcmsg(message, interface, 0, side.parent(), 0),
            parse,
        );
        let mut found = match dumped {
            // A kernel without filters has none.
            Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
            dumped => dumped?,
        };
        found.retain(|filter| (filter.place.interface, filter.place.side) == (interface, side));
        Ok(found)
    }
}

/// The priorities at one side of an interface at which somebody has filters, of whatever kind.
///
/// # Errors
/// The kernel refused, or the socket failed.
pub fn priorities(socket: &mut Socket, interface: u32, side: Side) -> Result<BTreeSet<u16>> {
    let priority = |header: Header, payload: &[u8]| {
        let info: [u8; 4] = payload.get(16..TCMSG_BYTES)?.try_into().ok()?;
        (header.kind == RTM_NEWTFILTER).then_some((u32::from_ne_bytes(info) >> 16) as u16)
    };
    let body = |message: &mut Message<'_>| tcmsg(message, interface, 0, side.parent(), 0);
    match socket.dump(format_args!("filters of link {interface}"), RTM_GETTFILTER, body, priority) {
        // A kernel without filters has none.
        Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => Ok(BTreeSet::new()),
        found => Ok(found?.into_iter().collect()),
    }
}

/// Gives an interface a clsact; one that is there stays.
///
/// # Errors
/// [`Error::Foreign`] where an `ingress` discipline of somebody else is in its place, which has no egress side; the kernel refused
/// otherwise, or the socket failed.
pub fn add_clsact(socket: &mut Socket, interface: u32) -> Result<()> {
    let object = format!("clsact of link {interface}");
    let mut batch = Batch::new();
    batch.add("create", &object, RTM_NEWQDISC, wire::NLM_F_CREATE | wire::NLM_F_EXCL, |message| {
        tcmsg(message, interface, CLSACT_HANDLE, CLSACT, 0);
        message.text(TCA_KIND, "clsact");
    });
    match socket.run_all(&mut batch) {
        Err(error) if error.is_exists() => {}
        done => return done,
    }
    let body = |message: &mut Message<'_>| tcmsg(message, interface, 0, CLSACT, 0);
    // Without the echo some kernels answer to those who listen to changes, and not to who asked.
    let found = socket.query("read", &object, RTM_GETQDISC, wire::NLM_F_ECHO, body, kind)?;
    match found.into_iter().next() {
        Some(kind) if kind != "clsact" => Err(Error::Foreign { operation: "create", object, found: kind }),
        _ => Ok(()),
    }
}

fn tcmsg(message: &mut Message<'_>, interface: u32, handle: u32, parent: u32, info: u32) {
    let mut head = [0; TCMSG_BYTES];
    for (at, word) in [(4, interface), (8, handle), (12, parent), (16, info)] {
        head[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    message.raw(&head);
}

/// The name of a discipline.
fn kind(header: Header, payload: &[u8]) -> Option<String> {
    let attributes = Attrs::after(payload, TCMSG_BYTES);
    (header.kind == RTM_NEWQDISC).then(|| attributes.get(TCA_KIND).map(|kind| kind.text())).flatten()
}

/// Reads `RTM_NEWTFILTER`; `None` for other classifiers, for what only announces a priority, for programs whose result is not the verdict,
/// and for those that see packets of one protocol only, or are in a chain that others lead to.
pub(crate) fn parse(header: Header, payload: &[u8]) -> Option<Filter> {
    let head = payload.get(..TCMSG_BYTES)?;
    if header.kind != RTM_NEWTFILTER {
        return None;
    }
    let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let side = Side::BOTH.into_iter().find(|side| side.parent() == word(12))?;
    let attributes = Attrs::after(payload, TCMSG_BYTES);
    let is_of_all = word(16) & 0xffff == u32::from(EVERY_PROTOCOL.to_be());
    let is_first_chain = attributes.get(TCA_CHAIN).is_none_or(|chain: Attr<'_>| chain.u32() == Some(0));
    if attributes.get(TCA_KIND)?.text() != "bpf" || !is_of_all || !is_first_chain {
        return None;
    }
    let options = attributes.get(TCA_OPTIONS)?.nested();
    let flags = options.get(TCA_BPF_FLAGS).and_then(|flags: Attr<'_>| flags.u32()).unwrap_or(0);
    if flags & TCA_BPF_FLAG_ACT_DIRECT == 0 {
        return None;
    }
    let place = Place { interface: word(4), side, priority: (word(16) >> 16) as u16, handle: word(8) };
    Some(Filter { place, program: options.get(TCA_BPF_ID)?.u32()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::NetNs;
    use proptest::prelude::*;

    const RTM_DELQDISC: u16 = 37;
    const PLACE: Place = Place { interface: 7, side: Side::Egress, priority: 0x636e, handle: 1 };
    const HEADER: Header = Header { kind: RTM_NEWTFILTER, flags: 0, sequence: 1, port: 0 };

    fn filter(kind: &str, write: impl FnOnce(&mut Message<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut message = Message::new(&mut bytes);
        tcmsg(&mut message, 7, 1, 0xffff_fff3, 0x636e_0300);
        message.text(TCA_KIND, kind).nest_as(TCA_OPTIONS, write);
        bytes
    }

    /// Worked by hand from `struct tcmsg`: family and padding, interface, handle, parent, then the priority above the protocol
    /// in network order.
    #[test]
    fn a_place_is_a_tcmsg_with_the_priority_above_the_protocol_in_network_order() {
        let mut bytes = Vec::new();
        PLACE.write(&mut Message::new(&mut bytes));
        let words = [0, 7, 1, 0xffff_fff3, 0x636e_0000 | u32::from(3_u16.to_be())];
        let expected: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        assert_eq!(bytes[..TCMSG_BYTES], expected);
        assert_eq!(Attrs::after(&bytes, TCMSG_BYTES).get(TCA_KIND).unwrap().text(), "bpf");
    }

    #[test]
    fn a_program_that_decides_is_read_and_nothing_else() {
        let decides = |options: &mut Message<'_>| {
            options.text(TCA_BPF_NAME, "to_pod").u32(TCA_BPF_FLAGS, 1).u32(TCA_BPF_ID, 99);
        };
        assert_eq!(parse(HEADER, &filter("bpf", decides)), Some(Filter { place: PLACE, program: 99 }));
        assert_eq!(parse(HEADER, &filter("u32", decides)), None);
        assert_eq!(parse(Header { kind: RTM_DELTFILTER, ..HEADER }, &filter("bpf", decides)), None);
        let classifies = |options: &mut Message<'_>| {
            options.u32(TCA_BPF_ID, 99);
        };
        assert_eq!(parse(HEADER, &filter("bpf", classifies)), None);
        let announces = |_: &mut Message<'_>| {};
        assert_eq!(parse(HEADER, &filter("bpf", announces)), None);
        let mut of_ipv4 = filter("bpf", decides);
        of_ipv4[16..20].copy_from_slice(&(0x636e_0000 | u32::from(0x0800_u16.to_be())).to_ne_bytes());
        assert_eq!(parse(HEADER, &of_ipv4), None);
        for (chain, found) in [(0, true), (1, false)] {
            let mut bytes = filter("bpf", decides);
            Message::new(&mut bytes).u32(TCA_CHAIN, chain);
            assert_eq!(parse(HEADER, &bytes).is_some(), found, "chain {chain}");
        }
        let mut other_parent = filter("bpf", decides);
        other_parent[12..16].copy_from_slice(&0x0001_0000_u32.to_ne_bytes());
        assert_eq!(parse(HEADER, &other_parent), None);
    }

    #[test]
    fn a_clsact_that_is_there_stays_and_somebody_elses_ingress_is_refused() {
        const LOOPBACK: u32 = 1;
        let inside = || {
            let mut socket = Socket::route().unwrap();
            let mut change = |kind: u16, flags: u16| {
                let mut batch = Batch::new();
                batch.add("change", "ingress", kind, flags, |message| {
                    tcmsg(message, LOOPBACK, CLSACT_HANDLE, CLSACT, 0);
                    message.text(TCA_KIND, "ingress");
                });
                socket.run_all(&mut batch).unwrap();
            };
            change(RTM_NEWQDISC, wire::NLM_F_CREATE | wire::NLM_F_EXCL);
            let refused = add_clsact(&mut Socket::route().unwrap(), LOOPBACK).unwrap_err();
            assert!(matches!(&refused, Error::Foreign { found, .. } if found == "ingress"), "{refused}");
            change(RTM_DELQDISC, 0);
            let mut socket = Socket::route().unwrap();
            for _ in 0..2 {
                add_clsact(&mut socket, LOOPBACK).unwrap();
            }
            assert_eq!(Filter::dump(&mut socket, LOOPBACK, Side::Ingress).unwrap(), []);
            assert_eq!(priorities(&mut socket, LOOPBACK, Side::Ingress).unwrap(), BTreeSet::new());
        };
        NetNs::new().unwrap().run(inside).unwrap();
    }

    proptest! {
        #[test]
        fn reading_any_bytes_ends_without_a_panic(bytes: Vec<u8>, cut in 0..60_usize) {
            let _ = (parse(HEADER, &bytes), kind(Header { kind: RTM_NEWQDISC, ..HEADER }, &bytes));
            let whole = filter("bpf", |options| {
                options.u32(TCA_BPF_FLAGS, 1).u32(TCA_BPF_ID, 99);
            });
            let _ = parse(HEADER, whole.get(..cut).unwrap_or(&whole));
        }
    }
}

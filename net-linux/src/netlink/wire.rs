//! Bytes of netlink messages and attributes. Never a socket, never the meaning of a message.
//!
//! Layout: `include/uapi/linux/netlink.h`. Everything is padded to four bytes and in the byte order of the machine,
//! unless an attribute says otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of `struct nlmsghdr`.
pub const HEADER_BYTES: usize = 16;
/// Bytes of `struct nlattr`.
const ATTRIBUTE_HEADER_BYTES: usize = 4;

/// A request to the kernel.
pub const NLM_F_REQUEST: u16 = 0x1;
/// An answer is wanted on success too.
pub const NLM_F_ACK: u16 = 0x4;
/// Tell the requester what was made.
pub const NLM_F_ECHO: u16 = 0x8;
/// The table changed while it was dumped.
pub const NLM_F_DUMP_INTR: u16 = 0x10;
/// All entries (`NLM_F_ROOT | NLM_F_MATCH`).
pub const NLM_F_DUMP: u16 = 0x300;
/// Replace what is there.
pub const NLM_F_REPLACE: u16 = 0x100;
/// Fail when it is there.
pub const NLM_F_EXCL: u16 = 0x200;
/// Create when it is not there.
pub const NLM_F_CREATE: u16 = 0x400;
/// Add to the end of the list of the same key.
pub const NLM_F_APPEND: u16 = 0x800;
/// An error's payload is cut to the request's header.
pub(super) const NLM_F_CAPPED: u16 = 0x100;
/// An error carries attributes (the kernel's message).
pub(super) const NLM_F_ACK_TLVS: u16 = 0x200;

pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const NLMSG_OVERRUN: u16 = 4;

/// Marks an attribute that holds attributes.
pub const NLA_F_NESTED: u16 = 0x8000;
/// Kind without the flag bits.
const NLA_TYPE_MASK: u16 = 0x3fff;

const fn padded(length: usize) -> usize {
    (length + 3) & !3
}

/// Writes the payload of one message: a fixed header, then attributes.
pub struct Message<'a> {
    bytes: &'a mut Vec<u8>,
}

impl<'a> Message<'a> {
    /// Appends to these bytes. They end on a four-byte border.
    pub fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes }
    }

    /// Appends a fixed header (`struct rtmsg`, ...), padded.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Appends an attribute.
    pub fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = (ATTRIBUTE_HEADER_BYTES + value.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// Appends a byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.attr(kind, &[value])
    }

    /// Appends two bytes in the machine's order.
    pub fn u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends four bytes in the machine's order.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends two bytes in network order (ports).
    pub fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends four bytes in network order (nftables).
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends eight bytes in network order (nftables).
    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends text with the NUL that the kernel wants.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let length = (ATTRIBUTE_HEADER_BYTES + value.len() + 1) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.pad();
        self
    }

    /// Appends an address: 4 or 16 bytes.
    pub fn ip(&mut self, kind: u16, value: IpAddr) -> &mut Self {
        match value {
            IpAddr::V4(address) => self.attr(kind, &address.octets()),
            IpAddr::V6(address) => self.attr(kind, &address.octets()),
        }
    }

    /// Appends an attribute whose value is written by `body`, with the nesting flag set.
    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Message<'_>)) -> &mut Self {
        self.nest_as(kind | NLA_F_NESTED, body)
    }

    /// The same with exactly this kind: old parts of rtnetlink want the nesting flag clear.
    pub fn nest_as(&mut self, kind: u16, body: impl FnOnce(&mut Message<'_>)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        body(&mut Message { bytes: self.bytes });
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Bytes written since `new`'s caller began, for those who split at a limit.
    #[must_use]
    pub fn position(&self) -> usize {
        self.bytes.len()
    }

    fn pad(&mut self) {
        self.bytes.resize(padded(self.bytes.len()), 0);
    }
}

/// The header of a received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: the request's, 0 for an event.
    pub sequence: u32,
    /// `nlmsg_pid`: the port of the socket whose request caused it, 0 for the kernel's own doing.
    pub port: u32,
}

/// The messages of one datagram. A message whose length is impossible ends it.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.get(..HEADER_BYTES)?;
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let payload = bytes.get(HEADER_BYTES..length)?;
        let header = Header {
            kind: u16::from_ne_bytes([head[4], head[5]]),
            flags: u16::from_ne_bytes([head[6], head[7]]),
            sequence: u32::from_ne_bytes([head[8], head[9], head[10], head[11]]),
            port: u32::from_ne_bytes([head[12], head[13], head[14], head[15]]),
        };
        bytes = bytes.get(padded(length)..).unwrap_or_default();
        Some((header, payload))
    })
}

/// Reads attributes one after the other. One whose length is impossible ends it.
#[derive(Debug, Clone, Copy)]
pub struct Attrs<'a>(&'a [u8]);

impl<'a> Attrs<'a> {
    /// Attributes in these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Attributes behind a fixed header of `length` bytes; none when the payload is shorter.
    #[must_use]
    pub fn after(payload: &'a [u8], length: usize) -> Self {
        Self(payload.get(padded(length)..).unwrap_or_default())
    }

    /// The first attribute of a kind.
    #[must_use]
    pub fn get(mut self, kind: u16) -> Option<Attr<'a>> {
        self.find(|attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Attr<'a>;

    fn next(&mut self) -> Option<Attr<'a>> {
        let head = self.0.get(..ATTRIBUTE_HEADER_BYTES)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & NLA_TYPE_MASK;
        let value = self.0.get(ATTRIBUTE_HEADER_BYTES..length)?;
        self.0 = self.0.get(padded(length)..).unwrap_or_default();
        Some(Attr { kind, value })
    }
}

/// One attribute. The readers give `None` when the value has another length than asked for.
#[derive(Debug, Clone, Copy)]
pub struct Attr<'a> {
    /// Its kind without flag bits.
    pub kind: u16,
    /// Its bytes.
    pub value: &'a [u8],
}

impl<'a> Attr<'a> {
    /// A byte.
    #[must_use]
    pub fn u8(&self) -> Option<u8> {
        self.value.first().copied().filter(|_| self.value.len() == 1)
    }

    /// Two bytes in the machine's order.
    #[must_use]
    pub fn u16(&self) -> Option<u16> {
        self.value.try_into().ok().map(u16::from_ne_bytes)
    }

    /// Four bytes in the machine's order.
    #[must_use]
    pub fn u32(&self) -> Option<u32> {
        self.value.try_into().ok().map(u32::from_ne_bytes)
    }

    /// Eight bytes in the machine's order.
    #[must_use]
    pub fn u64(&self) -> Option<u64> {
        self.value.try_into().ok().map(u64::from_ne_bytes)
    }

    /// Two bytes in network order.
    #[must_use]
    pub fn be16(&self) -> Option<u16> {
        self.value.try_into().ok().map(u16::from_be_bytes)
    }

    /// Four bytes in network order.
    #[must_use]
    pub fn be32(&self) -> Option<u32> {
        self.value.try_into().ok().map(u32::from_be_bytes)
    }

    /// Eight bytes in network order.
    #[must_use]
    pub fn be64(&self) -> Option<u64> {
        self.value.try_into().ok().map(u64::from_be_bytes)
    }

    /// Text up to the NUL; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        let end = self.value.iter().position(|byte| *byte == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(&self.value[..end]).into_owned()
    }

    /// An address of 4 or 16 bytes.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.value.len() {
            4 => <[u8; 4]>::try_from(self.value).ok().map(|octets| Ipv4Addr::from(octets).into()),
            16 => <[u8; 16]>::try_from(self.value).ok().map(|octets| Ipv6Addr::from(octets).into()),
            _ => None,
        }
    }

    /// The attributes inside.
    #[must_use]
    pub fn nested(&self) -> Attrs<'a> {
        Attrs(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Worked by hand from `struct nlattr`: length 9 with header and NUL, kind 3, padded to 12.
    #[test]
    fn a_text_attribute_has_its_nul_in_the_length_and_its_padding_outside() {
        let mut bytes = Vec::new();
        Message::new(&mut bytes).text(3, "eth0");
        let mut expected = Vec::new();
        expected.extend_from_slice(&9u16.to_ne_bytes());
        expected.extend_from_slice(&3u16.to_ne_bytes());
        expected.extend_from_slice(b"eth0\0\0\0\0");
        assert_eq!(bytes, expected);
        assert_eq!(Attrs::new(&bytes).get(3).unwrap().text(), "eth0");
    }

    #[test]
    fn a_nest_reads_back_as_it_was_written() {
        let mut bytes = Vec::new();
        Message::new(&mut bytes).u8(9, 1).nest(5, |inner| {
            inner.u32(1, 7).be16(2, 8472);
        });
        let nest = Attrs::new(&bytes).get(5).unwrap().nested();
        assert_eq!(nest.get(1).unwrap().u32(), Some(7));
        assert_eq!(nest.get(2).unwrap().be16(), Some(8472));
    }

    proptest! {
        #[test]
        fn reading_any_bytes_ends_without_a_panic(bytes: Vec<u8>) {
            for (_, payload) in messages(&bytes) {
                for attribute in Attrs::new(payload) {
                    let _ = (attribute.u32(), attribute.ip(), attribute.text(), attribute.nested().count());
                }
            }
            let _ = Attrs::new(&bytes).count();
        }
    }
}

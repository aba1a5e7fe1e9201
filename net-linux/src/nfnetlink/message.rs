//! Netlink messages with the header of nfnetlink. Reading never panics, whatever the bytes are.

use super::{Attr, Malformed, attributes};

/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADER: usize = 16;
const NFGENMSG: usize = 4;

/// What stands before the attributes of a message that we send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    /// Subsystem in the upper, operation in the lower byte.
    pub(crate) kind: u16,
    /// `NLM_F_*`.
    pub(crate) flags: u16,
    /// What the answer repeats.
    pub(crate) sequence: u32,
    /// `NFPROTO_*`.
    pub(crate) family: u8,
    /// Meaning depends on the message.
    pub(crate) resource: u16,
}

impl Header {
    /// Appends the header, then what `fill` appends, and sets the length.
    pub(crate) fn write(self, writer: &mut super::Writer, fill: impl FnOnce(&mut super::Writer)) {
        let start = self.open(writer);
        fill(writer);
        Self::close(writer, start);
    }

    /// Begins a message; `close` takes the answer.
    pub(crate) fn open(self, writer: &mut super::Writer) -> usize {
        let start = writer.bytes.len();
        let bytes = &mut writer.bytes;
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&self.flags.to_ne_bytes());
        bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&[self.family, 0]);
        bytes.extend_from_slice(&self.resource.to_be_bytes());
        start
    }

    /// Ends the message that began at `start`.
    pub(crate) fn close(writer: &mut super::Writer, start: usize) {
        match u32::try_from(writer.bytes.len() - start) {
            Ok(length) => writer.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => writer.overflow = true,
        }
    }
}

/// One message as read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    /// Subsystem in the upper, operation in the lower byte; below 16 a control message.
    pub(crate) kind: u16,
    /// `NLM_F_*`.
    pub(crate) flags: u16,
    /// Of the request that this answers, 0 for a notification.
    pub(crate) sequence: u32,
    /// Netlink port of the socket that caused it.
    pub(crate) port: u32,
    /// Everything after `struct nlmsghdr`.
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// `NFPROTO_*` of nfgenmsg.
    pub(crate) fn family(&self) -> Result<u8, Malformed> {
        self.payload.first().copied().ok_or(Malformed::new("nfgenmsg"))
    }

    /// The attributes after nfgenmsg.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = Result<Attr<'a>, Malformed>> + use<'a> {
        attributes(self.payload.get(NFGENMSG..).unwrap_or(&[]))
    }
}

/// The messages in one datagram. After an error there are no more.
pub(crate) fn messages(bytes: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Malformed>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let read = rest.first_chunk::<HEADER>().and_then(|h| {
            let length = usize::try_from(u32::from_ne_bytes([h[0], h[1], h[2], h[3]])).ok()?;
            let message = Message {
                kind: u16::from_ne_bytes([h[4], h[5]]),
                flags: u16::from_ne_bytes([h[6], h[7]]),
                sequence: u32::from_ne_bytes([h[8], h[9], h[10], h[11]]),
                port: u32::from_ne_bytes([h[12], h[13], h[14], h[15]]),
                payload: rest.get(HEADER..length)?,
            };
            Some((message, rest.get(length.next_multiple_of(4)..).unwrap_or(&[])))
        });
        Some(match read {
            Some((message, next)) => {
                rest = next;
                Ok(message)
            }
            None => {
                rest = &[];
                Err(Malformed::new("netlink message"))
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::Writer;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_read_back_as_it_was_written() {
        let mut writer = Writer::default();
        let header = Header { kind: 0x0a09, flags: 5, sequence: 7, family: 1, resource: 0x0a };
        header.write(&mut writer, |writer| writer.u32(1, 9));
        header.write(&mut writer, |_| {});
        let read: Vec<_> = messages(&writer.bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].flags, read[0].sequence), (0x0a09, 5, 7));
        assert_eq!(read[0].family(), Ok(1));
        assert_eq!(read[0].attributes().next().unwrap().unwrap().u32(), Ok(9));
        assert_eq!(read[1].attributes().count(), 0);
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_ends(input: Vec<u8>) {
            for message in messages(&input).flatten() {
                let _ = message.family();
                let _ = message.attributes().count();
            }
            prop_assert!(messages(&input).count() <= input.len() / HEADER + 1);
        }
    }
}

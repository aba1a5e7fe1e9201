//! Netlink attributes: type, length, value, padded to four bytes. Reading never panics, whatever the bytes are.

use super::Malformed;

/// Header of an attribute: length and type, two bytes each.
const HEADER: usize = 4;
/// `NLA_F_NESTED` of `include/uapi/linux/netlink.h`.
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`: without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE_MASK: u16 = 0x3fff;

/// Appends attributes. Numbers are written in network byte order, as all of netfilter has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
    /// An attribute was longer than its 16-bit length can say. What was written is then of no use.
    pub(crate) overflow: bool,
}

impl Writer {
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = HEADER + value.len();
        match u16::try_from(length) {
            Ok(length) => self.bytes.extend_from_slice(&length.to_ne_bytes()),
            Err(_) => {
                self.overflow = true;
                return;
            }
        }
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    pub(crate) fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Text with the closing NUL.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    /// An attribute that holds what `fill` writes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.open(kind);
        fill(self);
        self.close(start);
    }

    /// Begins a nest; `close` takes the answer.
    pub(crate) fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        start
    }

    /// Ends the nest that began at `start`.
    pub(crate) fn close(&mut self, start: usize) {
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.overflow = true,
        }
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }
}

/// One attribute as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attr<'a> {
    /// Its type without flags.
    pub(crate) kind: u16,
    /// Its value without padding.
    pub(crate) value: &'a [u8],
}

impl<'a> Attr<'a> {
    fn number<const N: usize>(self) -> Result<[u8; N], Malformed> {
        self.value.try_into().map_err(|_| Malformed::new("number"))
    }

    pub(crate) fn u8(self) -> Result<u8, Malformed> {
        self.number().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(self) -> Result<u16, Malformed> {
        self.number().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(self) -> Result<u32, Malformed> {
        self.number().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(self) -> Result<u64, Malformed> {
        self.number().map(u64::from_be_bytes)
    }

    /// Text up to the first NUL; what is no UTF-8 is replaced.
    pub(crate) fn text(self) -> String {
        let end = self.value.iter().position(|byte| *byte == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(&self.value[..end]).into_owned()
    }

    pub(crate) fn nested(self) -> impl Iterator<Item = Result<Attr<'a>, Malformed>> {
        attributes(self.value)
    }
}

/// The attributes in `bytes`, in order. After an error there are no more.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<Attr<'_>, Malformed>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let read = rest.split_first_chunk::<HEADER>().and_then(|(header, _)| {
            let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
            let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
            let value = rest.get(HEADER..length)?;
            let next = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
            Some((Attr { kind, value }, next))
        });
        Some(match read {
            Some((attr, next)) => {
                rest = next;
                Ok(attr)
            }
            None => {
                rest = &[];
                Err(Malformed::new("attribute"))
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_attribute_is_padded_to_four_bytes_and_its_length_is_not() {
        let mut writer = Writer::default();
        writer.text(1, "ab");
        writer.nest(2, |nest| nest.u16(3, 0x0102));
        let length = |bytes: u16| bytes.to_ne_bytes();
        let mut golden = Vec::new();
        golden.extend([length(7), length(1)].concat());
        golden.extend(b"ab\0\0");
        golden.extend([length(12), length(0x8002)].concat());
        golden.extend([length(6), length(3)].concat());
        golden.extend([1, 2, 0, 0]);
        assert_eq!(writer.bytes, golden);
        let read: Vec<_> = attributes(&writer.bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!((read[0].text().as_str(), read[1].kind), ("ab", 2));
        assert_eq!(read[1].nested().next().unwrap().unwrap().u16(), Ok(0x0102));
    }

    #[test]
    fn what_the_length_field_cannot_say_is_an_overflow_and_not_a_wrap() {
        let mut writer = Writer::default();
        writer.bytes(1, &vec![0; 65_531]);
        assert!(!writer.overflow);
        writer.bytes(1, &vec![0; 65_532]);
        assert!(writer.overflow);
        let mut writer = Writer::default();
        writer.nest(1, |nest| (0..3).for_each(|_| nest.bytes(1, &[0; 30_000])));
        assert!(writer.overflow);
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_ends(input: Vec<u8>) {
            let count = attributes(&input).count();
            prop_assert!(count <= input.len() / 4 + 1);
        }
    }
}

//! Elements of sets and maps, and how ranges are split for the kernel. Never which set they belong to.

use super::data::{self, Data};
use super::{Comment, Field, Set, userdata};
use crate::nfnetlink::{Attr, Malformed, Writer};
use ipnet::IpNet;
use std::fmt::{self, Write as _};
use std::net::IpAddr;

const KEY: u16 = 1;
const DATA: u16 = 2;
const FLAGS: u16 = 3;
const USERDATA: u16 = 6;
const KEY_END: u16 = 10;
pub(super) const LIST_ELEM: u16 = 1;
/// `enum nft_set_elem_flags`.
const INTERVAL_END: u32 = 1;
const CATCH_ALL: u32 = 2;

/// A key as bytes; fields of a concatenation are each filled up to four bytes with zeroes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// One.
    One(Vec<u8>),
    /// From first to last, both included. Use [`Key::range`]: a range of one is [`Key::One`].
    Range(Vec<u8>, Vec<u8>),
    /// Whatever no other element has.
    CatchAll,
}

impl Key {
    /// A range, both ends included.
    #[must_use]
    pub fn range(first: Vec<u8>, last: Vec<u8>) -> Self {
        if first == last { Self::One(first) } else { Self::Range(first, last) }
    }

    /// An address.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self::One(address_bytes(address))
    }

    /// The addresses of a prefix.
    #[must_use]
    pub fn prefix(prefix: IpNet) -> Self {
        Self::range(address_bytes(prefix.network()), address_bytes(prefix.broadcast()))
    }

    /// A concatenation of single values.
    #[must_use]
    pub fn concat(fields: &[&[u8]]) -> Self {
        Self::One(concat(fields))
    }

    /// A concatenation of ranges, each field from first to last.
    #[must_use]
    pub fn concat_ranges(fields: &[(&[u8], &[u8])]) -> Self {
        let first: Vec<_> = fields.iter().map(|(first, _)| *first).collect();
        let last: Vec<_> = fields.iter().map(|(_, last)| *last).collect();
        Self::range(concat(&first), concat(&last))
    }

    /// The key as the `nft` program would show it, and as [`super::Object::Element`] names it.
    pub fn show<'a>(&'a self, fields: &'a [Field]) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| match self {
            Self::One(bytes) => show(f, fields, bytes),
            Self::Range(first, last) => {
                show(f, fields, first)?;
                f.write_char('-')?;
                show(f, fields, last)
            }
            Self::CatchAll => f.write_char('*'),
        })
    }
}

/// The bytes of an address as the kernel compares them.
#[must_use]
pub fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An interface name as the kernel compares it: 16 bytes, filled up with zeroes.
#[must_use]
pub fn interface_bytes(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

fn concat(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        bytes.extend_from_slice(field);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn show(f: &mut fmt::Formatter<'_>, fields: &[Field], bytes: &[u8]) -> fmt::Result {
    let mut rest = bytes;
    for (index, field) in fields.iter().enumerate() {
        let (length, padded) = (field.bytes() as usize, field.padded_bytes() as usize);
        let Some(value) = rest.get(..length) else { break };
        if index > 0 {
            f.write_str(" . ")?;
        }
        match (field, value) {
            (Field::Ipv4Addr, [a, b, c, d]) => write!(f, "{a}.{b}.{c}.{d}")?,
            (Field::Ipv6Addr, value) if value.len() == 16 => {
                let octets: [u8; 16] = value.try_into().map_err(|_| fmt::Error)?;
                write!(f, "{}", std::net::Ipv6Addr::from(octets))?;
            }
            (Field::InetService, [high, low]) => write!(f, "{}", u16::from_be_bytes([*high, *low]))?,
            (Field::InetProto, [number]) => write!(f, "{number}")?,
            (Field::IfName, value) => {
                let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
                f.write_str(&String::from_utf8_lossy(&value[..end]))?;
            }
            (_, value) => {
                f.write_str("0x")?;
                value.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
            }
        }
        rest = rest.get(padded..).unwrap_or(&[]);
    }
    Ok(())
}

/// An element.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Element {
    /// Its key.
    pub key: Key,
    /// What a map has for it.
    pub data: Option<Data>,
    /// Carries our id.
    pub comment: Option<Comment>,
}

impl Element {
    /// An element of a set.
    #[must_use]
    pub const fn new(key: Key) -> Self {
        Self { key, data: None, comment: None }
    }

    /// The same with a value or verdict, for a map.
    #[must_use]
    pub fn with(self, data: Data) -> Self {
        Self { data: Some(data), ..self }
    }

    /// The same with a comment.
    #[must_use]
    pub fn commented(self, comment: Comment) -> Self {
        Self { comment: Some(comment), ..self }
    }

    /// Writes the element as the kernel's set for `set` wants it.
    pub(super) fn write(&self, w: &mut Writer, set: &Set) {
        let ends = match &self.key {
            Key::One(key) => Some((key, key)),
            Key::Range(first, last) => Some((first, last)),
            Key::CatchAll => None,
        };
        w.nest(LIST_ELEM, |w| {
            match ends {
                None => w.u32(FLAGS, CATCH_ALL),
                Some((first, last)) => {
                    data::write_value(w, KEY, first);
                    if set.interval && !set.has_split_ranges() {
                        data::write_value(w, KEY_END, last);
                    }
                }
            }
            if let Some(value) = &self.data {
                data::write(w, DATA, value);
            }
            if let Some(comment) = &self.comment {
                w.bytes(USERDATA, &userdata::comment(userdata::COMMENT, comment));
            }
        });
        if let Some((_, last)) = ends
            && set.has_split_ranges()
            && let Some(after) = successor(last)
        {
            w.nest(LIST_ELEM, |w| {
                data::write_value(w, KEY, &after);
                w.u32(FLAGS, INTERVAL_END);
            });
        }
    }
}

/// The key after this one in the order of bytes; `None` after the last.
fn successor(key: &[u8]) -> Option<Vec<u8>> {
    let mut next = key.to_vec();
    for byte in next.iter_mut().rev() {
        let (sum, wrapped) = byte.overflowing_add(1);
        *byte = sum;
        if !wrapped {
            return Some(next);
        }
    }
    None
}

/// The key before this one; `None` before the first.
fn predecessor(key: &[u8]) -> Option<Vec<u8>> {
    let mut previous = key.to_vec();
    for byte in previous.iter_mut().rev() {
        let (difference, wrapped) = byte.overflowing_sub(1);
        *byte = difference;
        if !wrapped {
            return Some(previous);
        }
    }
    None
}

/// An element as the kernel has it: a split range is two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawElement {
    key: Vec<u8>,
    key_end: Option<Vec<u8>>,
    flags: u32,
    data: Option<Data>,
    comment: Option<Comment>,
}

pub(super) fn read(attr: Attr<'_>) -> Result<RawElement, Malformed> {
    let mut raw = RawElement { key: Vec::new(), key_end: None, flags: 0, data: None, comment: None };
    for attr in attr.nested() {
        let attr = attr?;
        match attr.kind {
            KEY => raw.key = data::read_value(attr)?,
            KEY_END => raw.key_end = Some(data::read_value(attr)?),
            FLAGS => raw.flags = attr.u32()?,
            DATA => raw.data = Some(data::read(attr)?),
            USERDATA => raw.comment = userdata::find_comment(userdata::COMMENT, attr.value),
            _ => {}
        }
    }
    Ok(raw)
}

impl RawElement {
    /// The element that this alone is.
    pub(super) fn whole(self) -> Element {
        let key = match self.key_end {
            _ if self.flags & CATCH_ALL != 0 => Key::CatchAll,
            Some(last) => Key::range(self.key, last),
            None => Key::One(self.key),
        };
        Element { key, data: self.data, comment: self.comment }
    }
}

/// Puts split ranges together again.
pub(super) fn join(mut raws: Vec<RawElement>) -> Vec<Element> {
    // Where one range ends and the next begins there are two elements with one key: the end comes first.
    raws.sort_by(|a, b| (&a.key, a.flags & INTERVAL_END == 0).cmp(&(&b.key, b.flags & INTERVAL_END == 0)));
    let mut elements = Vec::new();
    let mut open: Option<RawElement> = None;
    for raw in raws {
        if raw.flags & CATCH_ALL != 0 {
            elements.push(raw.whole());
            continue;
        }
        if let Some(begun) = open.take()
            && let Some(last) = predecessor(&raw.key)
        {
            elements.push(Element { key: Key::range(begun.key, last), data: begun.data, comment: begun.comment });
        }
        if raw.flags & INTERVAL_END == 0 {
            open = Some(raw);
        }
    }
    if let Some(begun) = open {
        let last = vec![0xff; begun.key.len()];
        elements.push(Element { key: Key::range(begun.key, last), data: begun.data, comment: begun.comment });
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::super::{Family, Name, TableId};
    use super::*;
    use crate::nfnetlink::attributes;
    use proptest::prelude::*;

    fn interval_set() -> Set {
        let table = TableId::new(Family::Inet, Name::known("t"));
        Set::new(table.set(Name::known("s")), [Field::Ipv4Addr]).interval()
    }

    #[test]
    fn neighbours_and_the_last_address_survive_the_split() {
        let prefixes = ["10.0.0.0/24", "10.0.1.0/24", "192.0.2.7/32", "255.0.0.0/8", "0.0.0.0/32"];
        let wanted: Vec<Element> = prefixes.iter().map(|p| Element::new(Key::prefix(p.parse().unwrap()))).collect();
        let mut writer = Writer::default();
        wanted.iter().for_each(|element| element.write(&mut writer, &interval_set()));
        let raws = attributes(&writer.bytes).map(|attr| read(attr.unwrap()).unwrap()).collect();
        let mut sorted = wanted;
        sorted.sort();
        let mut joined = join(raws);
        joined.sort();
        assert_eq!(joined, sorted);
    }

    #[test]
    fn a_key_reads_as_a_person_writes_it() {
        let fields = [Field::Ipv4Addr, Field::InetProto, Field::InetService];
        let key = Key::concat(&[&[10, 1, 2, 3], &[6], &443u16.to_be_bytes()]);
        assert_eq!(key.show(&fields).to_string(), "10.1.2.3 . 6 . 443");
        let prefix = Key::prefix("fd00::/64".parse().unwrap());
        assert_eq!(prefix.show(&[Field::Ipv6Addr]).to_string(), "fd00::-fd00::ffff:ffff:ffff:ffff");
        assert_eq!(Key::One(interface_bytes("cni0")).show(&[Field::IfName]).to_string(), "cni0");
    }

    proptest! {
        #[test]
        fn disjoint_ranges_are_joined_as_they_were_split(mut ends in proptest::collection::btree_set(any::<u32>(), 2..40)) {
            if ends.len() % 2 == 1 {
                ends.pop_last();
            }
            let ends: Vec<u32> = ends.into_iter().collect();
            let wanted: Vec<Element> = ends
                .chunks(2)
                .map(|pair| Element::new(Key::range(pair[0].to_be_bytes().into(), pair[1].to_be_bytes().into())))
                .collect();
            let mut writer = Writer::default();
            wanted.iter().rev().for_each(|element| element.write(&mut writer, &interval_set()));
            let raws = attributes(&writer.bytes).map(|attr| read(attr.unwrap()).unwrap()).collect();
            prop_assert_eq!(join(raws), wanted);
        }

        #[test]
        fn a_successor_is_one_more(number: u32) {
            let next = successor(&number.to_be_bytes());
            prop_assert_eq!(next, number.checked_add(1).map(|next| next.to_be_bytes().to_vec()));
            let previous = predecessor(&number.to_be_bytes());
            prop_assert_eq!(previous, number.checked_sub(1).map(|previous| previous.to_be_bytes().to_vec()));
        }
    }
}

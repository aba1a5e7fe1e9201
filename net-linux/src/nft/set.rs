//! Sets and maps: what their keys and values are. Never their elements.

use super::userdata::{self, ByteOrder};
use super::{Comment, Family, Name, SetId, TableId};
use crate::nfnetlink::{Attr, Malformed, Message, Writer};

const TABLE: u16 = 1;
const NAME: u16 = 2;
const FLAGS: u16 = 3;
const KEY_TYPE: u16 = 4;
const KEY_LEN: u16 = 5;
const DATA_TYPE: u16 = 6;
const DATA_LEN: u16 = 7;
const DESC: u16 = 9;
const ID: u16 = 10;
const USERDATA: u16 = 13;
const HANDLE: u16 = 16;
const DESC_SIZE: u16 = 1;
const DESC_CONCAT: u16 = 2;
const LIST_ELEM: u16 = 1;
const FIELD_LEN: u16 = 1;

/// `enum nft_set_flags`.
const ANONYMOUS: u32 = 0x1;
const CONSTANT: u32 = 0x2;
const INTERVAL: u32 = 0x4;
const MAP: u32 = 0x8;
const CONCAT: u32 = 0x80;
/// `NFT_DATA_VERDICT`.
const DATA_VERDICT: u32 = 0xffff_ff00;
/// `TYPE_BITS` of nftables `include/datatype.h`: types of a concatenation stand side by side in one number.
const TYPE_BITS: u32 = 6;

/// The kernel numbers sets that have no name by this pattern.
pub(super) const ANONYMOUS_NAME: &str = "__set%d";

macro_rules! fields {
    ($($(#[$doc:meta])* $item:ident = $number:literal, $bytes:literal;)*) => {
        /// One field of a key or value: its type as the `nft` program shows it, and its length. The kernel knows the length only.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Field {
            $($(#[$doc])* $item,)*
            /// Another type number of nftables `include/datatype.h`, or several that can't be told apart.
            Other {
                /// The number.
                kind: u32,
                /// Its length.
                bytes: u32,
            },
        }

        impl Field {
            const fn number(self) -> u32 {
                match self {
                    $(Self::$item => $number,)*
                    Self::Other { kind, .. } => kind,
                }
            }

            const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$item),)*
                    _ => None,
                }
            }

            /// Length in bytes.
            #[must_use]
            pub const fn bytes(self) -> u32 {
                match self {
                    $(Self::$item => $bytes,)*
                    Self::Other { bytes, .. } => bytes,
                }
            }
        }
    };
}

fields! {
    /// IPv4 address, network order.
    Ipv4Addr = 7, 4;
    /// IPv6 address.
    Ipv6Addr = 8, 16;
    /// MAC address.
    EtherAddr = 9, 6;
    /// Protocol above IP.
    InetProto = 12, 1;
    /// Port, network order.
    InetService = 13, 2;
    /// ICMP type.
    IcmpType = 14, 1;
    /// Packet or connection mark, host order.
    Mark = 19, 4;
    /// Interface index, host order.
    IfIndex = 20, 4;
    /// ICMPv6 type.
    Icmp6Type = 29, 1;
    /// Interface name, filled up with zero bytes.
    IfName = 41, 16;
}

impl Field {
    /// Length in a concatenation: a whole number of four bytes.
    #[must_use]
    pub const fn padded_bytes(self) -> u32 {
        self.bytes().next_multiple_of(4)
    }
}

/// What a set has for a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SetKind {
    /// Nothing: a key is in it or not.
    Set,
    /// A value of these fields.
    Map(Vec<Field>),
    /// A verdict.
    VerdictMap,
}

/// A set or map.
///
/// | key | | a change costs |
/// |---|---|---|
/// | one field or several | hash | microseconds |
/// | one field, `interval` | tree | a millisecond in a large set |
/// | several fields, `interval` | pipapo | tens of milliseconds in a large set: never churn |
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Set {
    /// Which. Ignored for one without a name.
    pub id: SetId,
    /// The key: one field, or a concatenation.
    pub key: Vec<Field>,
    /// What it has for a key.
    pub kind: SetKind,
    /// Keys are ranges.
    pub interval: bool,
    /// Most elements it takes; `None` is no limit.
    pub size: Option<u32>,
    /// For people. Can only be set when the set is made.
    pub comment: Option<Comment>,
    /// Further `NFT_SET_*` flags (timeouts, ...) of sets that others made.
    pub other_flags: u32,
}

impl Set {
    /// A set of single keys.
    #[must_use]
    pub fn new(id: SetId, key: impl Into<Vec<Field>>) -> Self {
        Self { id, key: key.into(), kind: SetKind::Set, interval: false, size: None, comment: None, other_flags: 0 }
    }

    /// The same with ranges as keys.
    #[must_use]
    pub fn interval(self) -> Self {
        Self { interval: true, ..self }
    }

    /// The same with a verdict for each key.
    #[must_use]
    pub fn verdict_map(self) -> Self {
        Self { kind: SetKind::VerdictMap, ..self }
    }

    /// The same with a value for each key.
    #[must_use]
    pub fn map(self, value: impl Into<Vec<Field>>) -> Self {
        Self { kind: SetKind::Map(value.into()), ..self }
    }

    /// Whether ranges are kept as two keys, first and one after last (`nft_set_rbtree`), not as one element with both ends.
    pub(super) fn has_split_ranges(&self) -> bool {
        self.interval && self.key.len() == 1
    }

    /// Writes the set; `transaction_id` is what the same batch may refer to it by.
    pub(super) fn write(&self, w: &mut Writer, transaction_id: u32, anonymous: bool) {
        w.text(TABLE, self.id.table.name.as_str());
        w.text(NAME, if anonymous { ANONYMOUS_NAME } else { self.id.name.as_str() });
        let mut flags = self.other_flags;
        for (flag, on) in [
            (ANONYMOUS | CONSTANT, anonymous),
            (INTERVAL, self.interval),
            (MAP, self.kind != SetKind::Set),
            (CONCAT, self.key.len() > 1),
        ] {
            if on {
                flags |= flag;
            }
        }
        w.u32(FLAGS, flags);
        let (kind, length) = type_of(&self.key);
        w.u32(KEY_TYPE, kind);
        w.u32(KEY_LEN, length);
        match &self.kind {
            SetKind::Set => {}
            SetKind::VerdictMap => {
                w.u32(DATA_TYPE, DATA_VERDICT);
                // The kernel knows how long a verdict is.
                w.u32(DATA_LEN, 0);
            }
            SetKind::Map(fields) => {
                let (kind, length) = type_of(fields);
                w.u32(DATA_TYPE, kind);
                w.u32(DATA_LEN, length);
            }
        }
        w.u32(ID, transaction_id);
        w.nest(DESC, |w| {
            if let Some(size) = self.size {
                w.u32(DESC_SIZE, size);
            }
            if self.key.len() > 1 {
                w.nest(DESC_CONCAT, |w| {
                    for field in &self.key {
                        w.nest(LIST_ELEM, |w| w.u32(FIELD_LEN, field.bytes()));
                    }
                });
            }
        });
        // The kernel keeps the order of bytes for `nft list`; it compares bytes whatever they mean.
        let mut data = userdata::byte_order(userdata::SET_KEY_ORDER, order_of(&self.key));
        if let SetKind::Map(fields) = &self.kind {
            data.extend(userdata::byte_order(userdata::SET_DATA_ORDER, order_of(fields)));
        }
        if let Some(comment) = &self.comment {
            data.extend(userdata::comment(userdata::SET_COMMENT, comment));
        }
        w.bytes(USERDATA, &data);
    }
}

/// In which order a key or value stands; `None` where the fields of a concatenation have each their own.
fn order_of(fields: &[Field]) -> Option<ByteOrder> {
    match fields {
        [Field::Mark | Field::IfIndex | Field::IfName] => Some(ByteOrder::Host),
        [Field::Other { .. }] | [] | [_, _, ..] => None,
        [_] => Some(ByteOrder::Network),
    }
}

pub(super) fn write_id(w: &mut Writer, id: &SetId) {
    w.text(TABLE, id.table.name.as_str());
    w.text(NAME, id.name.as_str());
}

/// Type number and length of a key or value.
fn type_of(fields: &[Field]) -> (u32, u32) {
    match fields {
        [one] => (one.number(), one.bytes()),
        several => {
            several.iter().fold((0, 0), |(kind, length), f| (kind << TYPE_BITS | f.number(), length + f.padded_bytes()))
        }
    }
}

/// The fields behind a type number and a length.
fn fields_of(kind: u32, length: u32) -> Vec<Field> {
    let other = vec![Field::Other { kind, bytes: length }];
    let mut fields = Vec::new();
    let mut rest = kind;
    while rest != 0 {
        let Some(field) = Field::from_number(rest & ((1 << TYPE_BITS) - 1)) else { return other };
        fields.push(field);
        rest >>= TYPE_BITS;
    }
    fields.reverse();
    if fields.is_empty() || type_of(&fields) != (kind, length) { other } else { fields }
}

/// Reads a set and its handle; `None` for a family that this module does not know.
pub(super) fn read(message: &Message<'_>) -> Result<Option<(u64, Set)>, Malformed> {
    let Some(family) = Family::from_number(message.family()?) else { return Ok(None) };
    let (mut table, mut name, mut handle, mut comment) = (None, None, 0, None);
    let (mut flags, mut key, mut data, mut size) = (0, (0, 0), (0, 0), None);
    for attr in message.attributes() {
        let attr = attr?;
        match attr.kind {
            TABLE => table = Some(Name::known(&attr.text())),
            NAME => name = Some(Name::known(&attr.text())),
            HANDLE => handle = attr.u64()?,
            FLAGS => flags = attr.u32()?,
            KEY_TYPE => key.0 = attr.u32()?,
            KEY_LEN => key.1 = attr.u32()?,
            DATA_TYPE => data.0 = attr.u32()?,
            DATA_LEN => data.1 = attr.u32()?,
            DESC => size = read_size(attr)?,
            USERDATA => comment = userdata::find_comment(userdata::SET_COMMENT, attr.value),
            _ => {}
        }
    }
    let wrong = Malformed::new("nftables set");
    let kind = match (flags & MAP != 0, data.0) {
        (false, _) => SetKind::Set,
        (true, DATA_VERDICT) => SetKind::VerdictMap,
        (true, kind) => SetKind::Map(fields_of(kind, data.1)),
    };
    let set = Set {
        id: TableId { family, name: table.ok_or(wrong)? }.set(name.ok_or(wrong)?),
        key: fields_of(key.0, key.1),
        kind,
        interval: flags & INTERVAL != 0,
        size,
        comment,
        other_flags: flags & !(INTERVAL | MAP | CONCAT),
    };
    Ok(Some((handle, set)))
}

fn read_size(attr: Attr<'_>) -> Result<Option<u32>, Malformed> {
    for attr in attr.nested() {
        let attr = attr?;
        if attr.kind == DESC_SIZE {
            return attr.u32().map(Some);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_concatenation_is_one_type_number_and_is_read_back() {
        // ipv4_addr . inet_proto . inet_service, each field padded to four bytes.
        let fields = [Field::Ipv4Addr, Field::InetProto, Field::InetService];
        assert_eq!(type_of(&fields), (7 << 12 | 12 << 6 | 13, 12));
        assert_eq!(fields_of(7 << 12 | 12 << 6 | 13, 12), fields);
        assert_eq!(fields_of(13, 2), [Field::InetService]);
        for (kind, length) in [(7, 5), (0, 4), (63, 4), (u32::MAX, 0)] {
            assert_eq!(fields_of(kind, length), [Field::Other { kind, bytes: length }]);
        }
    }
}

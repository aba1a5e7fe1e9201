//! Attributes to expressions. What this module does not know stays as bytes ([`Expr::Other`]); nothing panics.

use super::data::{self, Data};
use super::expr_attrs::*;
use super::{Base, Cmp, CtDirection, CtKey, Expr, FibResult, Limit, Log, LogTarget, MetaKey, Name, Nat, NatFlags};
use super::{Payload, Reg, Reject, SetUse};
use crate::nfnetlink::{Attr, Malformed, attributes};

/// Reads the expressions of a rule.
pub(super) fn read_list(list: Attr<'_>) -> Result<Vec<Expr>, Malformed> {
    list.nested().map(|elem| read_elem(elem?)).collect()
}

fn read_elem(elem: Attr<'_>) -> Result<Expr, Malformed> {
    let (mut name, mut data): (String, &[u8]) = (String::new(), &[]);
    for attr in elem.nested() {
        let attr = attr?;
        match attr.kind {
            EXPR_NAME => name = attr.text(),
            EXPR_DATA => data = attr.value,
            _ => {}
        }
    }
    let fields = Fields::read(data)?;
    let known = match name.as_str() {
        "immediate" => immediate(&fields),
        "meta" => meta(&fields),
        "payload" => payload(&fields),
        "cmp" => cmp(&fields),
        "range" => range(&fields),
        "bitwise" => bitwise(&fields),
        "lookup" => lookup(&fields),
        "ct" => ct(&fields),
        "counter" => fields
            .u64(COUNTER_PACKETS)
            .zip(fields.u64(COUNTER_BYTES))
            .map(|(packets, bytes)| Expr::Counter { packets, bytes }),
        "log" => log(&fields),
        "limit" => limit(&fields),
        "masq" => masquerade(&fields),
        "nat" => nat(&fields),
        "fib" => fib(&fields),
        "numgen" => random(&fields),
        "hash" => hash(&fields),
        "notrack" => Some(Expr::NoTrack),
        "reject" => reject(&fields),
        _ => None,
    };
    Ok(known.unwrap_or_else(|| Expr::Other { name, data: data.to_vec() }))
}

/// The attributes of one expression. Every getter is `None` for "absent or not as expected".
struct Fields<'a>(Vec<Attr<'a>>);

impl<'a> Fields<'a> {
    fn read(data: &'a [u8]) -> Result<Self, Malformed> {
        attributes(data).collect::<Result<_, _>>().map(Self)
    }

    fn get(&self, kind: u16) -> Option<Attr<'a>> {
        self.0.iter().find(|attr| attr.kind == kind).copied()
    }

    /// Whether there is nothing but these kinds: else something of the expression would be lost.
    fn only(&self, kinds: &[u16]) -> Option<()> {
        self.0.iter().all(|attr| kinds.contains(&attr.kind)).then_some(())
    }

    fn u8(&self, kind: u16) -> Option<u8> {
        self.get(kind)?.u8().ok()
    }

    fn u16(&self, kind: u16) -> Option<u16> {
        self.get(kind)?.u16().ok()
    }

    fn u32(&self, kind: u16) -> Option<u32> {
        self.get(kind)?.u32().ok()
    }

    fn u64(&self, kind: u16) -> Option<u64> {
        self.get(kind)?.u64().ok()
    }

    fn reg(&self, kind: u16) -> Option<Reg> {
        Reg::from_number(self.u32(kind)?)
    }

    fn value(&self, kind: u16) -> Option<Vec<u8>> {
        data::read_value(self.get(kind)?).ok()
    }

    /// Two registers that come together or not at all.
    fn pair(&self, first: u16, last: u16) -> Option<Option<(Reg, Reg)>> {
        match (self.get(first), self.get(last)) {
            (None, None) => Some(None),
            _ => Some(Some((self.reg(first)?, self.reg(last)?))),
        }
    }
}

fn immediate(f: &Fields<'_>) -> Option<Expr> {
    match data::read(f.get(IMMEDIATE_DATA)?).ok()? {
        Data::Verdict(verdict) if f.u32(IMMEDIATE_DREG)? == REG_VERDICT => Some(Expr::Verdict(verdict)),
        Data::Value(value) => Some(Expr::Immediate { dreg: f.reg(IMMEDIATE_DREG)?, value }),
        Data::Verdict(_) => None,
    }
}

fn meta(f: &Fields<'_>) -> Option<Expr> {
    let key = MetaKey::from_number(f.u32(META_KEY)?);
    match f.get(META_SREG) {
        Some(_) => Some(Expr::MetaSet { key, sreg: f.reg(META_SREG)? }),
        None => Some(Expr::Meta { key, dreg: f.reg(META_DREG)? }),
    }
}

fn payload(f: &Fields<'_>) -> Option<Expr> {
    let of_load = [PAYLOAD_DREG, PAYLOAD_BASE, PAYLOAD_OFFSET, PAYLOAD_LEN];
    let of_store = [PAYLOAD_SREG, PAYLOAD_CSUM_TYPE, PAYLOAD_CSUM_OFFSET, PAYLOAD_CSUM_FLAGS];
    f.only(&[&of_load[..], &of_store].concat())?;
    let base = match f.u32(PAYLOAD_BASE)? {
        0 => Base::Link,
        1 => Base::Network,
        2 => Base::Transport,
        other => Base::Other(other),
    };
    let field = Payload { base, offset: f.u32(PAYLOAD_OFFSET)?, length: f.u32(PAYLOAD_LEN)? };
    if f.get(PAYLOAD_SREG).is_none() {
        return Some(Expr::Payload { field, dreg: f.reg(PAYLOAD_DREG)? });
    }
    let checksum = match f.u32(PAYLOAD_CSUM_TYPE).unwrap_or(0) {
        0 => None,
        PAYLOAD_CSUM_INET => Some(f.u32(PAYLOAD_CSUM_OFFSET)?),
        _ => return None,
    };
    // A checksum of the next header that is mended too.
    if f.u32(PAYLOAD_CSUM_FLAGS).unwrap_or(0) != 0 {
        return None;
    }
    Some(Expr::PayloadSet { field, sreg: f.reg(PAYLOAD_SREG)?, checksum })
}

fn cmp(f: &Fields<'_>) -> Option<Expr> {
    let op = match f.u32(CMP_OP)? {
        0 => Cmp::Eq,
        1 => Cmp::Ne,
        2 => Cmp::Lt,
        3 => Cmp::Le,
        4 => Cmp::Gt,
        5 => Cmp::Ge,
        _ => return None,
    };
    Some(Expr::Cmp { sreg: f.reg(CMP_SREG)?, op, value: f.value(CMP_DATA)? })
}

fn range(f: &Fields<'_>) -> Option<Expr> {
    let inverted = match f.u32(RANGE_OP)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some(Expr::Range {
        sreg: f.reg(RANGE_SREG)?,
        inverted,
        from: f.value(RANGE_FROM_DATA)?,
        to: f.value(RANGE_TO_DATA)?,
    })
}

fn bitwise(f: &Fields<'_>) -> Option<Expr> {
    // Other operations (shifts, and with a register) have no type here.
    if f.u32(BITWISE_OP).unwrap_or(0) != 0 {
        return None;
    }
    let (mask, xor) = (f.value(BITWISE_MASK)?, f.value(BITWISE_XOR)?);
    let length = usize::try_from(f.u32(BITWISE_LEN)?).ok()?;
    (mask.len() == length && xor.len() == length).then_some(())?;
    Some(Expr::Bitwise { sreg: f.reg(BITWISE_SREG)?, dreg: f.reg(BITWISE_DREG)?, mask, xor })
}

fn lookup(f: &Fields<'_>) -> Option<Expr> {
    let set = SetUse::Named(Name::known(&f.get(LOOKUP_SET)?.text()));
    let sreg = f.reg(LOOKUP_SREG)?;
    let flags = f.u32(LOOKUP_FLAGS).unwrap_or(0);
    match f.u32(LOOKUP_DREG) {
        None if flags & !LOOKUP_INVERTED == 0 => Some(Expr::Lookup { set, sreg, inverted: flags != 0 }),
        Some(REG_VERDICT) if flags == 0 => Some(Expr::VerdictMap { set, sreg }),
        Some(number) if flags == 0 => Some(Expr::Map { set, sreg, dreg: Reg::from_number(number)? }),
        _ => None,
    }
}

fn ct(f: &Fields<'_>) -> Option<Expr> {
    let key = CtKey::from_number(f.u32(CT_KEY)?);
    let direction = match f.get(CT_DIRECTION) {
        None => None,
        Some(_) => Some(match f.u8(CT_DIRECTION)? {
            0 => CtDirection::Original,
            1 => CtDirection::Reply,
            _ => return None,
        }),
    };
    match f.get(CT_SREG) {
        Some(_) => Some(Expr::CtSet { key, sreg: f.reg(CT_SREG)?, direction }),
        None => Some(Expr::Ct { key, dreg: f.reg(CT_DREG)?, direction }),
    }
}

fn log(f: &Fields<'_>) -> Option<Expr> {
    f.only(&[LOG_GROUP, LOG_PREFIX, LOG_SNAPLEN, LOG_QTHRESHOLD, LOG_LEVEL])?;
    let prefix = f.get(LOG_PREFIX).map(Attr::text);
    let target = match f.get(LOG_GROUP) {
        Some(_) => LogTarget::Group {
            group: f.u16(LOG_GROUP)?,
            snap_bytes: f.u32(LOG_SNAPLEN).unwrap_or(0),
            queue_threshold: f.u16(LOG_QTHRESHOLD).unwrap_or(0),
        },
        None => LogTarget::Kernel { level: f.u32(LOG_LEVEL)? },
    };
    Some(Expr::Log(Log { prefix, target }))
}

fn limit(f: &Fields<'_>) -> Option<Expr> {
    let flags = f.u32(LIMIT_FLAGS).unwrap_or(0);
    let kind = f.u32(LIMIT_TYPE).unwrap_or(0);
    (flags & !LIMIT_OVER == 0 && kind <= 1).then_some(())?;
    Some(Expr::Limit(Limit {
        rate: f.u64(LIMIT_RATE)?,
        unit_seconds: f.u64(LIMIT_UNIT)?,
        burst: f.u32(LIMIT_BURST).unwrap_or(0),
        bytes: kind == 1,
        over: flags != 0,
    }))
}

fn masquerade(f: &Fields<'_>) -> Option<Expr> {
    Some(Expr::Masquerade {
        flags: NatFlags(f.u32(MASQ_FLAGS).unwrap_or(0)),
        ports: f.pair(MASQ_REG_PROTO_MIN, MASQ_REG_PROTO_MAX)?,
    })
}

fn nat(f: &Fields<'_>) -> Option<Expr> {
    let destination = match f.u32(NAT_TYPE)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some(Expr::Nat(Nat {
        destination,
        family: f.u32(NAT_FAMILY)?,
        address: f.pair(NAT_REG_ADDR_MIN, NAT_REG_ADDR_MAX)?,
        port: f.pair(NAT_REG_PROTO_MIN, NAT_REG_PROTO_MAX)?,
        flags: NatFlags(f.u32(NAT_FLAGS).unwrap_or(0)),
    }))
}

fn random(f: &Fields<'_>) -> Option<Expr> {
    let known = f.u32(NUMGEN_TYPE)? == NUMGEN_RANDOM && f.u32(NUMGEN_OFFSET).unwrap_or(0) == 0;
    Some(Expr::Random { dreg: f.reg(NUMGEN_DREG)?, modulus: f.u32(NUMGEN_MODULUS)? }).filter(|_| known)
}

fn hash(f: &Fields<'_>) -> Option<Expr> {
    let known = f.u32(HASH_TYPE)? == HASH_JENKINS && f.u32(HASH_OFFSET).unwrap_or(0) == 0;
    let (sreg, dreg) = (f.reg(HASH_SREG)?, f.reg(HASH_DREG)?);
    // Without a seed the kernel has made up one of its own.
    let (bytes, modulus, seed) = (f.u32(HASH_LEN)?, f.u32(HASH_MODULUS)?, f.u32(HASH_SEED)?);
    Some(Expr::Hash { sreg, bytes, dreg, modulus, seed }).filter(|_| known)
}

fn fib(f: &Fields<'_>) -> Option<Expr> {
    let result = match f.u32(FIB_RESULT)? {
        1 => FibResult::Oif,
        2 => FibResult::OifName,
        3 => FibResult::AddressType,
        other => FibResult::Other(other),
    };
    Some(Expr::Fib { dreg: f.reg(FIB_DREG)?, result, flags: f.u32(FIB_FLAGS)? })
}

fn reject(f: &Fields<'_>) -> Option<Expr> {
    Some(Expr::Reject(match f.u32(REJECT_TYPE)? {
        REJECT_ICMP => Reject::Icmp(f.u8(REJECT_ICMP_CODE)?),
        REJECT_TCP_RESET => Reject::TcpReset,
        REJECT_ICMPX => Reject::Icmpx(f.u8(REJECT_ICMP_CODE)?),
        _ => return None,
    }))
}
